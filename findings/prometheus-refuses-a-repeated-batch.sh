#!/usr/bin/env bash
# Prometheus refuses a remote-write batch that it has already stored: 400, "out of order sample", although it has every
# sample of it with the same value. Only the newest sample of a series may come again (204).
#
# A sender whose acknowledgement was lost sends the same batch again. By the specification, 400 means that it must not
# be tried again, so a sender counts as lost what was stored. If the second batch has new samples of the series too, as
# after a restart from a checkpoint, none of them is stored. With `out_of_order_time_window` both are taken.
#
# Versions: Prometheus 2.42.0 (Debian 12), prometheus-remote-write 0.5.1 (npm).
# Seen: 204 first, 400 the same again, 204 its newest sample again, 400 with a new one; stored: 1 and 2, not 3.
# Needs Debian's apt-get and dpkg-deb, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
apt-get download -qq prometheus >/dev/null 2>&1
dpkg-deb -x prometheus_*.deb prometheus
npm init -y >/dev/null && npm install --silent prometheus-remote-write@0.5.1
prometheus=prometheus/usr/bin/prometheus
version=$($prometheus --version | head -n 1 | cut -d ' ' -f 3)

start() { # CONFIGURATION
  printf '%b' "$1" >prometheus.yml
  $prometheus --config.file=prometheus.yml --web.listen-address=127.0.0.1:"$PORT" --storage.tsdb.path="$(mktemp -d -p .)" \
    --web.enable-remote-write-receiver --web.console.templates=. --web.console.libraries=. >prometheus.log 2>&1 &
}

cat >write.cjs <<'JS'
const { setTimeout: sleep } = require('node:timers/promises');
const { pushTimeseries } = require('prometheus-remote-write');
const url = `http://127.0.0.1:${process.env.PORT}`;
const start = Date.now() - 60_000;

/** Writes these values, the first one at the start, each a second after the one before. */
async function write(values, from = 0) {
  const samples = values.map((value, i) => ({ value, timestamp: start + 1_000 * (from + i) }));
  const series = { labels: { __name__: 'requests', app: 'web' }, samples };
  const { status } = await pushTimeseries(series, { url: `${url}/api/v1/write`, fetch });
  return status;
}

async function main() {
  const isReady = () => fetch(`${url}/-/ready`).then(({ ok }) => ok, () => false);
  for (let tries = 0; tries < 300 && !(await isReady()); tries++) await sleep(100);
  const seen = [await write([1, 2]), await write([1, 2]), await write([2], 1), await write([1, 2, 3])];
  const query = `query=requests[1m]&time=${(start + 10_000) / 1_000}`;
  const { data } = await (await fetch(`${url}/api/v1/query?${query}`)).json();
  console.log(`${seen.join(' ')} stored ${data.result[0].values.map(([, value]) => value).join(' ')}`);
}
void main();
JS
start 'global: {}\n'
strict=$(node write.cjs)
kill %+; wait %+ 2>/dev/null || true
start 'storage:\n  tsdb:\n    out_of_order_time_window: 1h\n'
lenient=$(node write.cjs)
echo "Prometheus $version: $strict; with a window for samples out of order: $lenient"
[ "$strict; $lenient" = '204 400 204 400 stored 1 2; 204 204 204 204 stored 1 2 3' ] || { echo 'something has changed'; exit 1; }
