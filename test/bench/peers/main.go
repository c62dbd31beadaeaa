// The service that one would write by hand in an afternoon, for test/bench/peers.ts: reads metrics from NATS, adds them
// up in windows of ten seconds, and writes each window to InfluxDB 1.x in one request. It promises nothing: what it
// holds when it ends is lost, and what it reads again counts twice.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	window         = 10 * time.Second
	channelLength  = 65536
	requestTimeout = 30 * time.Second
)

type sample struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Value      float64        `json:"value"`
	Dimensions map[string]any `json:"dimensions"`
	Timestamp  time.Time      `json:"timestamp"`
}

type aggregate struct {
	count int64
	sum   float64
}

var escape = strings.NewReplacer(",", `\,`, " ", `\ `, "=", `\=`)

// key returns the series as line protocol has it: the name, and the dimensions in order.
func key(s *sample) string {
	names := make([]string, 0, len(s.Dimensions))
	for name := range s.Dimensions {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString(escape.Replace(s.Name))
	b.WriteString(",metric_type=")
	b.WriteString(s.Type)
	for _, name := range names {
		b.WriteByte(',')
		b.WriteString(escape.Replace(name))
		b.WriteByte('=')
		b.WriteString(escape.Replace(fmt.Sprint(s.Dimensions[name])))
	}
	return b.String()
}

func post(address, body string) error {
	client := http.Client{Timeout: requestTimeout}
	response, err := client.Post(address, "text/plain", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", response.Status, answer)
	}
	return nil
}

func write(influxdb, database string, start time.Time, windows map[string]*aggregate) {
	if len(windows) == 0 {
		return
	}
	var b strings.Builder
	stamp := strconv.FormatInt(start.UnixNano(), 10)
	for series, a := range windows {
		b.WriteString(series)
		b.WriteString(" count=")
		b.WriteString(strconv.FormatInt(a.count, 10))
		b.WriteString("i,sum=")
		b.WriteString(strconv.FormatFloat(a.sum, 'g', -1, 64))
		b.WriteByte(' ')
		b.WriteString(stamp)
		b.WriteByte('\n')
	}
	if err := post(influxdb+"/write?db="+url.QueryEscape(database), b.String()); err != nil {
		log.Print(err)
	}
}

// subscribe sends the payload of each message to the channel.
func subscribe(connection *nats.Conn, source, subject, stream string, payloads chan<- []byte) error {
	if source == "core" {
		_, err := connection.Subscribe(subject, func(m *nats.Msg) { payloads <- m.Data })
		return err
	}
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	consumer, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy:     jetstream.AckNonePolicy,
	})
	if err != nil {
		return err
	}
	_, err = consumer.Consume(func(m jetstream.Msg) { payloads <- m.Data() })
	return err
}

func main() {
	if len(os.Args) != 7 {
		log.Fatal("peers <core|jetstream> <nats url> <subject> <stream> <influxdb url> <database>")
	}
	source, natsURL, subject, stream, influxdb, database :=
		os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	create := url.Values{"q": {`CREATE DATABASE "` + database + `"`}}
	if err := post(influxdb+"/query?"+create.Encode(), ""); err != nil {
		log.Fatal(err)
	}
	connection, err := nats.Connect(natsURL, nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	payloads := make(chan []byte, channelLength)
	if err := subscribe(connection, source, subject, stream, payloads); err != nil {
		log.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")

	windows := map[string]*aggregate{}
	start := time.Now().Truncate(window)
	timer := time.NewTimer(time.Until(start.Add(window)))
	for {
		select {
		case payload := <-payloads:
			var s sample
			if err := json.Unmarshal(payload, &s); err != nil {
				log.Print(err)
				continue
			}
			series := key(&s)
			a := windows[series]
			if a == nil {
				a = &aggregate{}
				windows[series] = a
			}
			a.count++
			a.sum += s.Value
		case <-timer.C:
			write(influxdb, database, start, windows)
			windows = make(map[string]*aggregate, len(windows))
			start = time.Now().Truncate(window)
			timer.Reset(time.Until(start.Add(window)))
		}
	}
}
