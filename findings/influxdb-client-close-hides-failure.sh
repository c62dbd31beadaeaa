#!/usr/bin/env bash
# The official JavaScript client of InfluxDB resolves `close()` although points were refused for good, if these happened
# to fill a batch. With one point fewer, it rejects.
#
# `WriteApi` sends a batch by itself when it has `batchSize` points (1,000 by default), and keeps what becomes of it from
# its caller. So a job that writes 1,000 points with a wrong token, and awaits `close()`, ends well and has stored
# nothing; with 999 it fails. What tells: the option `writeFailed`, and an error on the console.
#
# Version: @influxdata/influxdb-client 1.35.0, against a server that answers as InfluxDB does to a wrong token (401).
# Seen: 999 points: close rejects; 1,000: it resolves; writeFailed is called once each time.
# Needs node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null && npm install --silent @influxdata/influxdb-client@1.35.0
cat >write.cjs <<'JS'
const { once } = require('node:events');
const http = require('node:http');
const { InfluxDB, Point, setLogger } = require('@influxdata/influxdb-client');
setLogger({ error() {}, warn() {} });

const server = http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ code: 'unauthorized', message: 'unauthorized access' }));
  });
});

async function job(points, url) {
  let failed = 0;
  const writeFailed = () => {
    failed += 1;
  };
  const api = new InfluxDB({ url, token: 'wrong' }).getWriteApi('org', 'bucket', 'ms', { writeFailed });
  for (let i = 0; i < points; i++) api.writePoint(new Point('m').floatField('v', 1).timestamp(i));
  const close = await api.close().then(() => 'resolves', () => 'rejects');
  // The batch that went by itself may be under way: its answer comes.
  for (let waits = 0; failed === 0 && waits < 600; waits++) await new Promise((done) => setTimeout(done, 100));
  return `${points}: close ${close}, failed ${failed}`;
}

async function main() {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  console.log(`${await job(999, url)}; ${await job(1_000, url)}`);
  process.exit(0);
}
void main();
JS
seen=$(node write.cjs)
echo "$seen"
[ "$seen" = '999: close rejects, failed 1; 1000: close resolves, failed 1' ] || { echo 'something has changed'; exit 1; }
