/** A sink is switched on when the stream is already long: it is filled from the start, at no cost to the others. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { LIMIT_MS } from '../limits.ts';
import { countOf, endOf, expectEqual, startTraffic, WINDOW_MS, WINDOWS } from './support.ts';

/** For a history of an hour: `HISTORY_MS=3600000 HISTORY_RATE=1000`. */
const HISTORY_MS = Number(process.env.HISTORY_MS ?? 6000);
const RATE = Number(process.env.HISTORY_RATE ?? 2000);
const SERIES = Number(process.env.HISTORY_SERIES ?? 100);
const POLL_MS = 100;
const LATE = 'redshift';
/** How many windows the others have to confirm before the late sink is done, and how much it is slowed down. */
const WINDOWS_MEANWHILE = 5;
const SLOW_MS = 1_000;

let stack: Stack;
let late: FaultProxy;
let service: ServiceProgram | undefined;
beforeAll(async () => {
  stack = await startStack();
  late = await FaultProxy.start(stack.postgres.port);
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await late?.stop();
  await stack?.stop();
});

interface Look {
  readonly isLive: boolean;
  /** For the other sinks: the earliest confirmed position, and the largest lag in seconds. */
  readonly next: number;
  readonly lag: number;
}

async function look({ status }: ServiceProgram): Promise<Look> {
  const { sinks } = await status();
  const others = sinks.filter(({ id }) => id !== LATE);
  return {
    isLive: sinks.some(({ id, state }) => id === LATE && state === 'live'),
    next: Math.min(...others.map(({ next }) => (next === null ? 0 : Date.parse(next)))),
    lag: Math.max(...others.map(({ lagSeconds }) => lagSeconds ?? 0)),
  };
}

/** Looks until `isEnough`. Returns the last look, and the largest lag of the others. */
async function watch(of: ServiceProgram, isEnough: (look: Look) => boolean) {
  let worstLag = 0;
  for (const deadline = Date.now() + LIMIT_MS + HISTORY_MS; ; await sleep(POLL_MS)) {
    const last = await look(of);
    worstLag = Math.max(worstLag, last.lag);
    if (isEnough(last)) return { ...last, worstLag };
    if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(last)}`);
  }
}

test('a sink is switched on late: it gets everything in the stream, and meanwhile the others go on', async () => {
  const url = stack.env.SINK_REDSHIFT_URL!.replace(`:${stack.postgres.port}/`, `:${late.port}/`);
  const env = { ...stack.env, ...WINDOWS, SINK_REDSHIFT_START: 'earliest', SINK_REDSHIFT_TIMEOUT: '10m' };
  const traffic = startTraffic(stack, ['--rate', `${RATE}`, '--series', `${SERIES}`, '--late', '0.02']);
  const first = await startServiceProgram({ ...env, SINK_REDSHIFT_ENABLED: 'false' });
  service = first;
  const began = Date.now();
  await watch(first, ({ next }) => next >= began);
  const before = await watch(first, ({ next }) => next >= began + HISTORY_MS);
  await first.stop('SIGTERM');

  late.delay(SLOW_MS);
  service = await startServiceProgram({ ...env, SINK_REDSHIFT_URL: url });
  const start = await look(service);
  expect(start.isLive).toBe(false);
  // If the others waited for it, it would be done before they get this far.
  const enough = Math.max(start.next, before.next) + WINDOWS_MEANWHILE * WINDOW_MS;
  const meanwhile = await watch(service, ({ next, isLive }) => isLive || next >= enough);
  expect(meanwhile).toMatchObject({ isLive: false });
  const filling = performance.now();
  await late.pass();
  const during = await watch(service, ({ isLive }) => isLive);
  const fillSeconds = (performance.now() - filling) / 1000;
  const truth = await traffic.end();
  await service.untilConfirmed(endOf(truth));
  await expectEqual(env, truth);
  const lags = { before: before.worstLag, meanwhile: meanwhile.worstLag, during: during.worstLag };
  const looked = { samples: countOf(truth), rows: truth.length, lags, fillSeconds };
  process.stderr.write(`switched on after ${HISTORY_MS} ms: ${JSON.stringify(looked)}\n`);
}, 7_200_000);
