import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { countOf, endOf, expectEqual, startTraffic, WINDOWS } from './support.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack?.stop();
});

/** For a long run, with more than a million messages: `RESTARTS=8 RESTARTS_EVERY_MS=10000 RESTARTS_RATE=12000`. */
const RESTARTS = Number(process.env.RESTARTS ?? 4);
const EVERY_MS = Number(process.env.RESTARTS_EVERY_MS ?? 2000);
const SERIES = Number(process.env.RESTARTS_SERIES ?? 300);
const RATE = Number(process.env.RESTARTS_RATE ?? 6000);

test('restarts by SIGTERM under load: every store ends with exactly the truth, and every exit is clean', async () => {
  const env = { ...stack.env, ...WINDOWS };
  // The traffic has no fixed length: however long a start takes, messages arrive in the meantime.
  const options = ['--rate', String(RATE), '--series', String(SERIES), '--late', '0.05'];
  const traffic = startTraffic(stack, [...options, '--types', 'counter:6,gauge:2,timer:2']);
  for (let restarts = 0; restarts < RESTARTS; restarts++) {
    const service = await startServiceProgram(env);
    await sleep(EVERY_MS);
    expect(await service.stop('SIGTERM'), service.output.stderr).toBe(0);
  }
  const service = await startServiceProgram(env);
  const truth = await traffic.end();
  expect(countOf(truth)).toBeGreaterThan(RATE);
  await service.untilConfirmed(endOf(truth));
  await service.stop();
  await expectEqual(env, truth);
});
