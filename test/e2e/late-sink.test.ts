/** A sink is switched on when the stream is long already: it is filled from its beginning, at nobody else's cost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { countOf, endOf, expectEqual, startTraffic, WINDOW_MS, WINDOWS } from './support.ts';

/** An hour's worth: `HISTORY_MS=3600000 HISTORY_RATE=1000`. */
const HISTORY_MS = Number(process.env.HISTORY_MS ?? 6000);
const RATE = Number(process.env.HISTORY_RATE ?? 2000);
const SERIES = Number(process.env.HISTORY_SERIES ?? 100);
/** How long the lag of the others is looked at before the sink is switched on and after; there, how long at most. */
const LOOK_MS = Math.min(30_000, HISTORY_MS / 2);
const CATCH_UP_MS = 8_000 + HISTORY_MS / 10;
const POLL_MS = 100;
const RESTART_MS = 30_000;
/** Both are looked at on a machine with other work to do. */
const NOISE_SECONDS = WINDOW_MS / 1000;
const LATE = 'redshift';

let stack: Stack;
let service: ServiceProgram | undefined;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await stack?.stop();
});

/** For LOOK_MS, and while the late sink has not joined: the largest lag of all others, and when it had, in seconds. */
async function watch({ status }: ServiceProgram): Promise<{ worstLag: number; joinedAfter: number }> {
  let worstLag = 0;
  let joinedAfter = 0;
  const began = Date.now();
  for (let isOver = false; !isOver; await sleep(POLL_MS)) {
    const { sinks } = await status();
    const elapsedMs = Date.now() - began;
    const isCatchingUp = sinks.some(({ id, state }) => id === LATE && state !== 'live');
    if (isCatchingUp) joinedAfter = elapsedMs / 1000;
    isOver = elapsedMs > (isCatchingUp ? CATCH_UP_MS : LOOK_MS);
    for (const { id, lagSeconds } of sinks) if (id !== LATE) worstLag = Math.max(worstLag, lagSeconds);
  }
  return { worstLag, joinedAfter };
}

/** Until all but the late one have made up for the restart: what they missed meanwhile is not what is looked at. */
async function untilLevel({ status }: ServiceProgram, lagSeconds: number): Promise<void> {
  for (const until = Date.now() + RESTART_MS; Date.now() < until; await sleep(POLL_MS)) {
    const { sinks } = await status();
    if (sinks.every((sink) => sink.id === LATE || sink.lagSeconds <= lagSeconds)) return;
  }
}

test('a sink is switched on late: it gets all that the stream holds, and the others do not notice', async () => {
  const env = { ...stack.env, ...WINDOWS, SINK_REDSHIFT_START: 'earliest' };
  const traffic = startTraffic(stack, ['--rate', `${RATE}`, '--series', `${SERIES}`, '--late', '0.02']);
  const first = await startServiceProgram({ ...env, SINK_REDSHIFT_ENABLED: 'false' });
  service = first;
  await sleep(HISTORY_MS - LOOK_MS);
  const { worstLag: before } = await watch(first);
  await first.stop('SIGTERM');

  service = await startServiceProgram(env);
  const began = Date.now();
  await untilLevel(service, before + NOISE_SECONDS);
  const levelAfter = (Date.now() - began) / 1000;
  const { worstLag: during, joinedAfter } = await watch(service);
  const catchUpSeconds = levelAfter + joinedAfter;
  const truth = await traffic.end();
  await service.untilConfirmed(endOf(truth), 120_000);
  await expectEqual(env, truth);
  const looked = { samples: countOf(truth), rows: truth.length, before, during, catchUpSeconds };
  process.stderr.write(`switched on after ${HISTORY_MS} ms: ${JSON.stringify(looked)}\n`);
  expect(during).toBeLessThan(before + NOISE_SECONDS);
}, 7_200_000);
