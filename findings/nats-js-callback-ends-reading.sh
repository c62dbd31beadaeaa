#!/usr/bin/env bash
# In the JavaScript client of NATS, one exception in the callback of one subscription ends the reading of the whole
# connection: no subscription gets anything from then on, and nothing says so.
#
# The connection stays open: `closed()` is not resolved, `status()` has no event, and nothing is thrown that a process
# could handle. `flush()` waits. So a service that meets one message that its code did not expect looks healthy and is
# deaf. Only a line on the console ("reader closed") tells. What helps: a callback that catches everything.
#
# Versions: nats 2.29.3 (npm), nats-server 2.9.10 (Debian 12).
# Seen: of six messages on each of two subjects, one came on each; closed: no; events: 0; flush: waits for 5 s.
# Needs Debian's apt-get and dpkg-deb, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
apt-get download -qq nats-server >/dev/null 2>&1
dpkg-deb -x nats-server_*.deb server
npm init -y >/dev/null && npm install --silent nats@2.29.3
bin=$(find server -name nats-server -type f -perm -u+x | head -n 1)
version=$($bin --version)
"$bin" -a 127.0.0.1 -p "$PORT" >server.log 2>&1 &

cat >subscribe.cjs <<'JS'
const { setTimeout: sleep } = require('node:timers/promises');
const { connect } = require('nats');
const options = { servers: `127.0.0.1:${process.env.PORT}`, waitOnFirstConnect: true, reconnectTimeWait: 100 };

async function main() {
  const seen = { failing: 0, other: 0, closed: 'no', events: 0, thrown: 0 };
  for (const kind of ['uncaughtException', 'unhandledRejection']) process.on(kind, () => { seen.thrown += 1; });
  const publisher = await connect(options);
  const reader = await connect(options);
  reader.closed().then(() => { seen.closed = 'yes'; });
  (async () => { for await (const _ of reader.status()) seen.events += 1; })();
  reader.subscribe('failing', {
    callback() {
      seen.failing += 1;
      throw new Error('this code did not expect that message');
    },
  });
  reader.subscribe('other', { callback() { seen.other += 1; } });
  await reader.flush();
  console.log = () => {};
  for (let i = 0; i < 6; i++) {
    publisher.publish('other', '');
    await publisher.flush();
    await sleep(200);
    publisher.publish('failing', '');
    await publisher.flush();
    await sleep(200);
  }
  const flush = await Promise.race([reader.flush().then(() => 'done'), sleep(5_000, 'waits')]);
  process.stdout.write(`${Object.entries({ ...seen, flush }).map(([key, value]) => `${key}=${value}`).join(' ')}\n`);
  process.exit(0);
}
void main();
JS
seen=$(node subscribe.cjs 2>/dev/null)
echo "$version: $seen"
expected='failing=1 other=1 closed=no events=0 thrown=0 flush=waits'
[ "$seen" = "$expected" ] || { echo 'something has changed'; exit 1; }
