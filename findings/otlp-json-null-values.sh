#!/usr/bin/env bash
# OpenTelemetry's JavaScript SDK writes a gauge that is NaN, and the sum of a histogram that got an infinite value, as
# `null` into OTLP's JSON. Protobuf's JSON has the texts "NaN" and "Infinity" for these numbers.
#
# By the same rules, `null` is a field that is not set: the data point then has no value at all, and which number it was is
# lost on the way. Its other format, protobuf, carries both. A receiver has to expect data points without a value, and
# should reject those, not the whole request with what else it carries.
#
# Versions: @opentelemetry/sdk-metrics 2.2.0, @opentelemetry/otlp-transformer 0.208.0.
# Seen: gauge NaN: null; histogram sum Infinity: null, max: null, count 2; protobuf: the eight bytes of both numbers.
# Needs node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent @opentelemetry/api@1.9.0 @opentelemetry/sdk-metrics@2.2.0 @opentelemetry/otlp-transformer@0.208.0
cat >export.cjs <<'JS'
const sdk = require('@opentelemetry/sdk-metrics');
const { JsonMetricsSerializer, ProtobufMetricsSerializer } = require('@opentelemetry/otlp-transformer');

async function main() {
  const exporter = new sdk.InMemoryMetricExporter(sdk.AggregationTemporality.DELTA);
  const reader = new sdk.PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new sdk.MeterProvider({ readers: [reader] });
  const meter = provider.getMeter('meter');
  meter.createGauge('ratio').record(Number.NaN);
  const histogram = meter.createHistogram('seconds');
  histogram.record(2);
  histogram.record(Number.POSITIVE_INFINITY);
  await reader.forceFlush();
  const [exported] = exporter.getMetrics();
  const json = JSON.parse(Buffer.from(JsonMetricsSerializer.serializeRequest(exported)).toString());
  const [ratio, seconds] = json.resourceMetrics[0].scopeMetrics[0].metrics;
  const [{ sum, max, count }] = seconds.histogram.dataPoints;
  const binary = Buffer.from(ProtobufMetricsSerializer.serializeRequest(exported)).toString('hex');
  const carried = { NaN: binary.includes('000000000000f87f'), Infinity: binary.includes('000000000000f07f') };
  console.log(JSON.stringify([ratio.gauge.dataPoints[0].asDouble, sum, max, count, carried]));
  await provider.shutdown();
}
void main();
JS
seen=$(node export.cjs)
echo "gauge, sum, max, count, protobuf: $seen"
[ "$seen" = '[null,null,null,2,{"NaN":true,"Infinity":true}]' ] || { echo 'something has changed'; exit 1; }
