#!/usr/bin/env bash
# prom-client answers the quantiles of a summary without observations with 0. Prometheus' library for Go says NaN, which
# a graph leaves out.
#
# With `maxAgeSeconds`, all observations of a summary leave it some time after the last one. So the p99 of a service that
# gets no requests, perhaps because it is down, falls to 0: it looks as fast as never before, an alert on slow requests
# ends, and averages over instances are too low.
#
# Versions: prom-client 15.1.3 (npm); compared with client_golang 1.14.0, run apart: NaN, 5, NaN.
# Seen: before the first observation 0; with one of 5, 5; after maxAgeSeconds 0, while the count is 1.
# Needs node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null && npm install --silent prom-client@15.1.3
cat >summary.cjs <<'JS'
const { setTimeout: sleep } = require('node:timers/promises');
const { Registry, Summary } = require('prom-client');

async function main() {
  const registry = new Registry();
  const options = { percentiles: [0.99], maxAgeSeconds: 1, ageBuckets: 2, registers: [registry] };
  const summary = new Summary({ name: 'seconds', help: 'of a request', ...options });
  const p99 = async () => /quantile="0.99"\} (\S+)/.exec(await registry.metrics())[1];
  const empty = await p99();
  summary.observe(5);
  const observed = await p99();
  await sleep(3_000);
  const aged = await p99();
  const count = /seconds_count (\S+)/.exec(await registry.metrics())[1];
  console.log(`empty=${empty} observed=${observed} aged=${aged} count=${count}`);
}
void main();
JS
seen=$(node summary.cjs)
echo "$seen"
[ "$seen" = 'empty=0 observed=5 aged=0 count=1' ] || { echo 'something has changed'; exit 1; }
