/** A store is down for a while at a high rate: in bounded memory, at nobody else's cost, and made up for meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { LIMIT_MS } from '../limits.ts';
import { endOf, expectEqual, sample, startTraffic, WINDOWS } from './support.ts';

/** A long run of the same: `OUTAGE_MS=600000 OUTAGE_RATE=50000 OUTAGE_WINDOW_MS=10000`. */
const OUTAGE_MS = Number(process.env.OUTAGE_MS ?? 8000);
const RATE = Number(process.env.OUTAGE_RATE ?? 5000);
const WINDOW_MS = Number(process.env.OUTAGE_WINDOW_MS ?? 1000);
const SERIES = Number(process.env.OUTAGE_SERIES ?? 1000);
const MAX_RSS_BYTES = 600e6;
const WARM_UP_MS = 4 * WINDOW_MS;
const POLL_MS = 100;
const DOWN = 'redshift';

let stack: Stack;
let service: ServiceProgram | undefined;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await stack?.stop();
});

interface Look {
  readonly at: number;
  readonly rss: number;
  readonly worstLag: number;
  /** Up to where all others have confirmed, and the one that is down. */
  readonly others: number;
  readonly next: number;
  readonly catchingUp: boolean;
}

async function look({ status, url }: ServiceProgram): Promise<Look> {
  const { sinks } = await status();
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const down = sinks.find(({ id }) => id === DOWN)!;
  const others = sinks.filter(({ id }) => id !== DOWN);
  return {
    at: Date.now(),
    rss: sample(metrics, 'process_resident_memory_bytes')!,
    worstLag: Math.max(...others.map(({ lagSeconds }) => lagSeconds)),
    others: Math.min(...others.map(({ next }) => Date.parse(next!))),
    next: Date.parse(down.next!),
    catchingUp: down.catchingUp,
  };
}

/** Stream time made up for, per time that it took: from the first window that was confirmed to the joining. */
function catchUpFactor(looks: readonly Look[]): number {
  const last = looks.findIndex(({ catchingUp }, i) => i > 0 && !catchingUp && looks[i - 1]!.catchingUp);
  const first = looks.findIndex(({ next }) => next > looks[0]!.next);
  if (last <= 0 || first < 1) throw new Error('it did not catch up');
  const [from, to] = [looks[first - 1]!, looks[last]!];
  return (to.next - from.next) / (to.at - from.at);
}

test('a store is down: little memory, the others go on, and it catches up faster than time goes by', async () => {
  const env = {
    ...stack.env,
    ...WINDOWS,
    WINDOW: `${WINDOW_MS}ms`,
    METRICS_STREAM_MAX_BYTES: '32GiB',
    // So little that what it missed is owed by replay.
    SINK_REDSHIFT_BACKLOG: '500KB',
    // Its emulator takes the processor from everybody else.
    SINK_DYNAMODB_ENABLED: 'false',
  };
  service = await startServiceProgram(env);
  const running = service;
  const traffic = startTraffic(stack, ['--rate', `${RATE}`, '--series', `${SERIES}`, '--late', '0.02']);
  const looks: Look[] = [];
  const watch = async (isOver: (last: Look) => boolean) => {
    for (const deadline = Date.now() + LIMIT_MS + OUTAGE_MS; ; await sleep(POLL_MS)) {
      const last = await look(running);
      looks.push(last);
      if (isOver(last)) return last;
      if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(last)}`);
    }
  };
  await running.untilConfirmed(Date.now() + WARM_UP_MS);
  await stack.postgres.halt('SIGINT');
  looks.length = 0;
  const down = Date.now();
  // While it is down, the others confirm all that comes, for so long; and what it misses is more than memory may hold.
  const last = await watch(({ others, catchingUp }) => others >= down + OUTAGE_MS && catchingUp);
  expect(last.next).toBeLessThanOrEqual(down);
  await stack.postgres.resume();
  const resumed = looks.length;
  // The traffic goes on: it would never catch up if it were not faster.
  await watch(({ catchingUp }) => !catchingUp);
  const factor = catchUpFactor(looks.slice(resumed - 1));
  const worst = {
    rssMegabytes: Math.max(...looks.map(({ rss }) => rss)) / 1e6,
    lagSeconds: Math.max(...looks.map(({ worstLag }) => worstLag)),
    lagWhileCatchingUp: Math.max(...looks.slice(resumed).map(({ worstLag }) => worstLag)),
    secondsUntilCaughtUp: (looks.at(-1)!.at - looks[resumed - 1]!.at) / 1000,
    factor,
  };
  process.stderr.write(`outage of ${OUTAGE_MS} ms at ${RATE}/s: ${JSON.stringify(worst)}\n`);
  const truth = await traffic.end();
  await running.untilConfirmed(endOf(truth));
  await expectEqual({ ...env }, truth);
  expect(worst.rssMegabytes * 1e6).toBeLessThan(MAX_RSS_BYTES);
}, 3_600_000);
