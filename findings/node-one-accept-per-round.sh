#!/usr/bin/env bash
# Node.js takes one new connection in each round of its event loop. A process that yields to the loop once between two
# pieces of work (setImmediate, the usual advice) accepts as many connections a second as it has pieces of work.
#
# What comes faster waits in the listen queue (511 by default); what finds it full is dropped by the system, and the
# client sends it again a second later, then three. So a health check of a busy service takes seconds or fails, although
# no piece of work takes long. Several rounds between two pieces of work help; a round with nothing to do takes 2 us.
#
# Versions: Node.js 24.18.0 (libuv 1.52.1), from the npm package `node`.
# Seen: of 50 connections that the system has established, 1 is accepted after 1 round, 10 after 10, 50 after 50.
# Needs node with npm to begin with. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null && npm install --silent node@24.18.0

cat >accept.mjs <<'JS'
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

const WANTED = 50;
let accepted = 0;
const server = createServer(() => {
  accepted += 1;
});
await once(server.listen(0, '127.0.0.1'), 'listening');
// Another process connects while this one is busy, so that all wait when the rounds begin.
const clients = spawn(process.execPath, [
  '-e',
  `const { connect } = require('node:net');
   let open = 0;
   for (let i = 0; i < ${WANTED}; i++)
     connect(${server.address().port}, '127.0.0.1', () => { if (++open === ${WANTED}) process.send('open'); });`,
], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
await once(clients, 'spawn');
const busyUntil = Date.now() + 3000;
while (Date.now() < busyUntil);
// The first round runs what waited meanwhile.
const before = accepted;
const seen = [];
for (let round = 1; round <= WANTED; round++) {
  await new Promise((resolve) => setImmediate(resolve));
  if ([1, 10, WANTED].includes(round)) seen.push(accepted - before);
}
console.log(`node=${process.versions.node} uv=${process.versions.uv} accepted=${seen.join(',')}`);
clients.kill();
process.exit(0);
JS
seen=$(node_modules/.bin/node accept.mjs)
echo "$seen"
# The clients' own connections of node (the channel) may take a round or two.
[[ "$seen" =~ accepted=([0-9]+),([0-9]+),([0-9]+)$ ]] || { echo 'nothing seen'; exit 1; }
[ "${BASH_REMATCH[1]}" -le 2 ] && [ "${BASH_REMATCH[2]}" -le 11 ] && [ "${BASH_REMATCH[3]}" -ge 45 ] ||
  { echo 'something has changed'; exit 1; }
