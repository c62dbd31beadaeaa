/** A sink is switched on when the stream is long already: it is filled from its beginning, at nobody else's cost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { countOf, endOf, expectEqual, sendTraffic, WINDOW_MS, WINDOWS } from './support.ts';

/** An hour's worth: `HISTORY_MS=3600000 HISTORY_RATE=1000`. */
const HISTORY_MS = Number(process.env.HISTORY_MS ?? 6000);
const RATE = Number(process.env.HISTORY_RATE ?? 2000);
const SERIES = Number(process.env.HISTORY_SERIES ?? 100);
/** How long the lag of the others is looked at before the sink is switched on, and how long at most after. */
const LOOK_MS = Math.min(30_000, HISTORY_MS / 2);
const CATCH_UP_MS = 8_000 + HISTORY_MS / 10;
const POLL_MS = 100;
const RESTART_MS = 2000;
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

/** The largest lag of all sinks but the late one, in seconds, for `ms` or until the late one has joined. */
async function worstLag({ status }: ServiceProgram, ms: number): Promise<number> {
  let worst = 0;
  for (const until = Date.now() + ms; Date.now() < until; await sleep(POLL_MS)) {
    const { sinks } = await status();
    if (sinks.some(({ id, state }) => id === LATE && state === 'live')) break;
    for (const { id, lagSeconds } of sinks) if (id !== LATE) worst = Math.max(worst, lagSeconds);
  }
  return worst;
}

test('a sink is switched on late: it gets all that the stream holds, and the others do not notice', async () => {
  const env = { ...stack.env, ...WINDOWS, SINK_REDSHIFT_START: 'earliest' };
  const traffic = sendTraffic(stack, [
    ...['--duration', `${Math.ceil((HISTORY_MS + CATCH_UP_MS) / 1000)}s`],
    ...['--rate', `${RATE}`, '--series', `${SERIES}`, '--late', '0.02'],
  ]);
  const first = await startServiceProgram({ ...env, SINK_REDSHIFT_ENABLED: 'false' });
  service = first;
  await sleep(HISTORY_MS - LOOK_MS);
  const before = await worstLag(first, LOOK_MS);
  await first.stop('SIGTERM');

  service = await startServiceProgram(env);
  // What they missed during the restart is not what is looked at.
  await sleep(RESTART_MS);
  const began = Date.now();
  const during = await worstLag(service, CATCH_UP_MS);
  const catchUpSeconds = (RESTART_MS + Date.now() - began) / 1000;
  const truth = await traffic;
  await service.untilConfirmed(endOf(truth), 120_000);
  await expectEqual(env, truth);
  const looked = { samples: countOf(truth), rows: truth.length, before, during, catchUpSeconds };
  process.stderr.write(`switched on after ${HISTORY_MS} ms: ${JSON.stringify(looked)}\n`);
  expect(during).toBeLessThan(before + NOISE_SECONDS);
}, 7_200_000);
