// Answers quantiles with Datadog's own sketches-go: for each line of JSON with values and quantiles, a line with one
// number per quantile. See ../other-sketches-go.test.ts.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/DataDog/sketches-go/ddsketch"
)

// The accuracy that Datadog's agent and tracers use.
const relativeAccuracy = 0.01

type question struct {
	Values    []float64
	Quantiles []float64
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		err := in.Decode(&asked)
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = answer(asked, out)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

func answer(asked question, out *json.Encoder) error {
	sketch, err := ddsketch.NewDefaultDDSketch(relativeAccuracy)
	if err != nil {
		return err
	}
	for _, value := range asked.Values {
		if err := sketch.Add(value); err != nil {
			return err
		}
	}
	quantiles, err := sketch.GetValuesAtQuantiles(asked.Quantiles)
	if err != nil {
		return err
	}
	return out.Encode(quantiles)
}
