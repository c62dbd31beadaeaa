#!/usr/bin/env bash
# tinyproxy ends the client's connection after each plain HTTP request, but its answer does not say so: there is no
# `Connection: close` (nor `Proxy-Connection`), though it speaks HTTP/1.1, where connections stay.
#
# A client with a pool takes the connection for usable and may send the next request on it. Whether that fails depends on
# who is faster: with Node.js, it is now and then a "socket hang up". Without a pool, nothing fails. A tunnel by CONNECT,
# so HTTPS, is not affected.
#
# Versions: tinyproxy 1.11.1 (Debian 12, package tinyproxy-bin), Node.js 24.18.0 (npm package `node`).
# Seen: header=none closed=yes; without keep-alive 20 of 20 requests answered.
# Needs Debian's apt-get and dpkg-deb, node with npm. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"; export PORT=$((20000 + RANDOM % 10000))
apt-get download -qq tinyproxy-bin >/dev/null 2>&1
dpkg-deb -x tinyproxy-bin_*.deb tinyproxy
npm init -y >/dev/null && npm install --silent node@24.18.0
version=$(tinyproxy/usr/bin/tinyproxy -v)
printf 'Port %s\nListen 127.0.0.1\nTimeout 60\n' "$PORT" >tinyproxy.conf
tinyproxy/usr/bin/tinyproxy -d -c tinyproxy.conf >proxy.log 2>&1 &

cat >requests.mjs <<'JS'
import { once } from 'node:events';
import http from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const proxy = Number(process.env.PORT);
const target = http.createServer((_, response) => response.end('hello'));
await once(target.listen(0, '127.0.0.1'), 'listening');
const url = `http://127.0.0.1:${target.address().port}/`;
const open = async () => {
  for (;;) {
    const socket = connect(proxy, '127.0.0.1');
    const is = await once(socket, 'connect').then(() => true, () => false);
    if (is) return socket;
    await sleep(100);
  }
};

const socket = await open();
let answer = '';
socket.on('data', (chunk) => { answer += chunk; });
socket.write(`GET ${url} HTTP/1.1\r\nHost: ${new URL(url).host}\r\n\r\n`);
const closed = await Promise.race([once(socket, 'close').then(() => 'yes'), sleep(10_000, 'no')]);
const header = /^(proxy-)?connection: *(.*)$/im.exec(answer)?.[2] ?? 'none';

const agent = new http.Agent({ keepAlive: false, proxyEnv: { http_proxy: `http://127.0.0.1:${proxy}` } });
let answered = 0;
for (let i = 0; i < 20; i++) {
  const [response] = await once(http.get(url, { agent }), 'response');
  response.resume();
  await once(response, 'end');
  if (response.statusCode === 200) answered += 1;
}
console.log(`status=${answer.slice(9, 12)} header=${header} closed=${closed} apart=${answered}`);
process.exit(0);
JS
seen=$(node_modules/.bin/node requests.mjs)
echo "$version: $seen"
[ "$seen" = 'status=200 header=none closed=yes apart=20' ] || { echo 'something has changed'; exit 1; }
