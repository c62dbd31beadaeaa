module metrics-fanout/test/aggregate/sketches-go

go 1.23.0

require github.com/DataDog/sketches-go v1.4.7

require google.golang.org/protobuf v1.32.0 // indirect
