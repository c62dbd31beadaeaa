import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServiceProgram } from '../../src/servers/service.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { countOf, endOf, expectEqual, sendTraffic, WINDOWS } from './support.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack?.stop();
});

/** A long run of the same: `RESTARTS_MESSAGES=1000000 RESTARTS_EVERY_MS=10000`. */
const MESSAGES = Number(process.env.RESTARTS_MESSAGES ?? 60_000);
const EVERY_MS = Number(process.env.RESTARTS_EVERY_MS ?? 2500);
const SERIES = Number(process.env.RESTARTS_SERIES ?? 300);
const RATE = Number(process.env.RESTARTS_RATE ?? 6000);

test('restarts by SIGTERM under load: every store ends with exactly the truth, and every exit is clean', async () => {
  const env = { ...stack.env, ...WINDOWS };
  const options = ['--count', String(MESSAGES), '--rate', String(RATE), '--series', String(SERIES)];
  const traffic = sendTraffic(stack, [...options, '--late', '0.05', '--types', 'counter:6,gauge:2,timer:2']);
  let over = false;
  void traffic.then(() => {
    over = true;
  });
  let restarts = 0;
  for (; !over; restarts++) {
    const service = await startServiceProgram(env);
    await Promise.race([sleep(EVERY_MS), traffic]);
    if (over) break;
    expect(await service.stop('SIGTERM'), service.output.stderr).toBe(0);
  }
  const truth = await traffic;
  expect(countOf(truth)).toBe(MESSAGES);
  const service = await startServiceProgram(env);
  await service.untilConfirmed(endOf(truth), 60_000);
  await service.stop();
  expect(restarts).toBeGreaterThanOrEqual(3);
  await expectEqual(env, truth);
}, 600_000);
