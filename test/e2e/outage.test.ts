/** A store is down at a high rate: memory is bounded, the others are not affected, and it catches up under load. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { LIMIT_MS } from '../limits.ts';
import { endOf, expectEqual, sample, startTraffic, WINDOWS } from './support.ts';

/** For a long run: `OUTAGE_MS=600000 OUTAGE_RATE=50000 OUTAGE_WINDOW_MS=10000`. */
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
  /** The position up to which all others have confirmed, and that of the sink that is down. */
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
    worstLag: Math.max(...others.map(({ lagSeconds }) => lagSeconds ?? 0)),
    others: Math.min(...others.map(({ next }) => Date.parse(next!))),
    next: Date.parse(down.next!),
    catchingUp: down.catchingUp,
  };
}

/** Stream time per elapsed time, from the first window that is confirmed again to the end of the catch-up. */
function catchUpFactor(looks: readonly Look[]): number {
  const last = looks.findIndex(({ catchingUp }, i) => i > 0 && !catchingUp && looks[i - 1]!.catchingUp);
  const first = looks.findIndex(({ next }) => next > looks[0]!.next);
  if (last <= 0 || first < 1) throw new Error('it did not catch up');
  const [from, to] = [looks[first - 1]!, looks[last]!];
  return (to.next - from.next) / (to.at - from.at);
}

test('a store is down: memory stays small, the others go on, and it catches up faster than real time', async () => {
  const env = {
    ...stack.env,
    ...WINDOWS,
    WINDOW: `${WINDOW_MS}ms`,
    METRICS_STREAM_MAX_BYTES: '32GiB',
    // Small enough that the missed windows come from a replay.
    SINK_REDSHIFT_BACKLOG: '500KB',
    // Its emulator takes too much CPU from the others.
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
  // While it is down, the others confirm everything for OUTAGE_MS, and it misses more than its backlog may hold.
  const last = await watch(({ others, catchingUp }) => others >= down + OUTAGE_MS && catchingUp);
  expect(last.next).toBeLessThanOrEqual(down);
  await stack.postgres.resume();
  const resumed = looks.length;
  // The traffic goes on, so it can only catch up if it is faster.
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
