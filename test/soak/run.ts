/**
 * `npm run soak -- [--minutes 60] [--rate N] [--series N]`: every store that this machine can run, side by side, with
 * two instances of the service that write to all of them. Both are killed twice, and each store is out of reach once.
 * Then every row of every store is compared with what was sent. Exit code 0 only if all are equal. Of a server that
 * Debian has too, the version that is first on the PATH is taken; InfluxDB 2 is taken where it is on the PATH.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadConfig } from '../../src/config/config.ts';
import { compareSinks, isEqual } from '../../src/verify/rows.ts';
import { atHead, untilConfirmed } from '../chaos/heal.ts';
import { Instances } from '../chaos/instances.ts';
import { startTraffic } from '../chaos/traffic.ts';
import { startStores } from './stores.ts';

const WINDOW_MS = 10_000;
const WINDOWS = { WINDOW: '10s', LATENESS: '2s', MAX_AHEAD: '1s', METRICS_START: 'earliest' } as const;
const WRITERS = 2;
const KILLS = 2;
/** Of the time between two outages: how long one lasts. */
const OUTAGE_SHARE = 0.5;
const HEAL_MS = 600_000;
const SEED = 7;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    rate: { type: 'string', default: '200' },
    series: { type: 'string', default: '100' },
  },
});
const ms = Number(values.minutes) * 60_000;
const say = (line: string) => void process.stderr.write(`${line}\n`);
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
const { signal } = stopping;

const stores = await startStores();
for (const line of stores.said) say(line);
const instances = new Instances({ ...stores.throughLinks, ...WINDOWS });
for (const [name, value] of Object.entries(stores.direct))
  if (name.startsWith('AWS_')) process.env[name] = value;
const traffic = startTraffic(
  { seed: SEED, rate: Number(values.rate), series: Number(values.series) },
  { ...stores.direct, ...WINDOWS },
  join(stores.folder, 'truth.jsonl'),
);
try {
  for (let i = 0; i < WRITERS; i++) instances.keep();
  await traffic.begun();
  await Promise.all([outages(), kills()]);
  say('waiting until every store is at the head');
  await atHead(instances, HEAL_MS, signal);
  const { messages, held, truth } = await traffic.end(signal);
  const end = truth.reduce((most, { windowStart }) => Math.max(most, windowStart! + WINDOW_MS), 0);
  const late = await untilConfirmed(instances, end, HEAL_MS, signal);
  await instances.stop('SIGTERM');
  say(`comparing ${truth.length} rows of ${held} messages (${messages} sent)`);
  const results = await compareSinks((await loadConfig(stores.direct)).sinks, truth, WINDOW_MS);
  let isWell = late.length === 0 && instances.failures.length === 0;
  for (const [id, result] of results) {
    isWell &&= isEqual(result) && result.points === truth.length;
    const { points, missing, extra, different } = result;
    process.stdout.write(
      `${id}: ${points} rows, ${missing} missing, ${extra} too many, ${different} different\n`,
    );
  }
  if (late.length > 0) process.stdout.write(`not confirmed in time: ${late.join(', ')}\n`);
  for (const failure of instances.failures) process.stdout.write(`${failure}\n`);
  process.stdout.write(`${JSON.stringify(instances.totals)}\n`);
  process.exitCode = isWell ? 0 : 1;
} finally {
  await Promise.all([instances.stop('SIGKILL'), traffic.kill()]);
  await stores.stop();
}

/** One store after another. */
async function outages(): Promise<void> {
  const each = ms / (stores.outages.length + 1);
  await sleep(each / 2, undefined, { signal });
  for (const { store, begin, end } of stores.outages) {
    say(`${new Date().toISOString()} ${store} is out of reach`);
    await begin();
    await sleep(each * OUTAGE_SHARE, undefined, { signal }).finally(end);
    await sleep(each * (1 - OUTAGE_SHARE), undefined, { signal });
  }
  await sleep(each / 2, undefined, { signal });
}

async function kills(): Promise<void> {
  for (let i = 1; i <= KILLS; i++) {
    await sleep(ms / (KILLS + 1), undefined, { signal });
    say(`${new Date().toISOString()} kill -9 of all instances`);
    await Promise.all(instances.running.map((instance) => instances.end(instance, 'SIGKILL')));
  }
}
