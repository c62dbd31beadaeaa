// Counts, sets and times by github.com/rybit/nats_metrics, and prints what it was: a line of JSON for each.
package main

import (
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	metrics "github.com/rybit/nats_metrics"
)

type did struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	App   string `json:"app"`
	Value int64  `json:"value"`
}

func main() {
	nc, err := nats.Connect(os.Args[1])
	check(err)
	check(metrics.Init(nc, "metrics.go"))
	metrics.AddDimension("team", "a <b> & \"c\"")
	out := json.NewEncoder(os.Stdout)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for i, app := range []string{"api", "überweisung"} {
			status := metrics.DimMap{"app": app, "status": 200, "ok": true, "none": nil}
			n := int64(i + 1)
			check(metrics.NewCounter("go.requests", nil).CountN(n, status))
			check(out.Encode(did{"go.requests", "counter", app, n}))
			level := time.Now().UnixNano() % 1000
			check(metrics.NewGauge("go.level", nil).Set(-level, status))
			check(out.Encode(did{"go.level", "gauge", app, -level}))
			took, err := metrics.NewTimer("go.took", nil).Stop(status)
			check(err)
			check(out.Encode(did{"go.took", "timer", app, int64(took)}))
		}
	}
	check(nc.Flush())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
