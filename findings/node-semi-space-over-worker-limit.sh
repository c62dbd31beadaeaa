#!/usr/bin/env bash
# The usual bound for the young heap of a Node.js process, --max-semi-space-size, also replaces the limit that a worker
# thread was given by resourceLimits.maxYoungGenerationSizeMb: threads that were meant to be small grow with the main
# one. worker.resourceLimits goes on to name the limit that was asked for.
#
# It matters where a process has many small threads and is started with that flag, as it often is in containers. A call
# of v8.setFlagsFromString('--max-semi-space-size=0') before the thread is made lets its own limit count again; the heap
# of the main thread, which exists by then, stays as it is.
#
# Versions: Node.js 24.18.0 (V8 13.6), from the npm package `node`.
# Seen: a thread with a limit of 4 MB has a new space of 4 MB (8 at most); with --max-semi-space-size=32, of 64 MB;
# with the flag taken back before the thread is made, of 4 MB again. Each time resourceLimits says 4.
# Needs node with npm to begin with. Ends with 0 if it is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null && npm install --silent node@24.18.0

cat >threads.mjs <<'JS'
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

const LIMIT_MB = 4;
if (process.argv[2] === 'back') setFlagsFromString('--max-semi-space-size=0');
// Makes objects, some of which live for a while, and looks how large the space for new ones has become.
const work = `
  const { parentPort } = require('node:worker_threads');
  const { getHeapSpaceStatistics } = require('node:v8');
  const size = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space').space_size;
  let most = 0;
  let kept = [];
  for (let i = 0; i < 6_000_000; i++) {
    kept.push({ i, list: [i] });
    if (kept.length > 400_000) kept = kept.slice(200_000);
    if (i % 10_000 === 0) most = Math.max(most, size());
  }
  parentPort.postMessage(most);`;
const worker = new Worker(work, { eval: true, resourceLimits: { maxYoungGenerationSizeMb: LIMIT_MB } });
worker.on('message', (most) => {
  if (worker.resourceLimits.maxYoungGenerationSizeMb !== LIMIT_MB) process.exit(1);
  console.log(Math.round(most / 2 ** 20));
});
JS
node=node_modules/.bin/node
own=$("$node" threads.mjs)
flagged=$("$node" --max-semi-space-size=32 threads.mjs)
back=$("$node" --max-semi-space-size=32 threads.mjs back)
echo "new space at most, MB: $own without the flag, $flagged with it, $back with it taken back"
[ "$own" -le 8 ] && [ "$flagged" -gt 32 ] && [ "$back" -le 8 ]
