import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServiceProgram } from '../../src/servers/service.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { type RunningTraffic, startTraffic } from '../chaos/traffic.ts';
import { expectEqual, WINDOWS } from './support.ts';

let stack: Stack;
let traffic: RunningTraffic | undefined;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await traffic?.kill();
  await stack?.stop();
});

/** A long run of the same, over a million messages: `RESTARTS=8 RESTARTS_EVERY_MS=10000 RESTARTS_RATE=12000`. */
const RESTARTS = Number(process.env.RESTARTS ?? 4);
const EVERY_MS = Number(process.env.RESTARTS_EVERY_MS ?? 2000);
const SERIES = Number(process.env.RESTARTS_SERIES ?? 300);
const RATE = Number(process.env.RESTARTS_RATE ?? 6000);

test('restarts by SIGTERM under load: every store ends with exactly the truth, and every exit is clean', async ({
  signal,
}) => {
  const env = { ...stack.env, ...WINDOWS };
  // Until it is ended: however long a start takes, messages come meanwhile.
  traffic = startTraffic({ seed: 1, rate: RATE, series: SERIES }, env, join(stack.folder, 'truth.jsonl'));
  for (let restarts = 0; restarts < RESTARTS; restarts++) {
    const service = await startServiceProgram(env);
    await sleep(EVERY_MS);
    expect(await service.stop('SIGTERM'), service.output.stderr).toBe(0);
  }
  const service = await startServiceProgram(env);
  const { messages, held, truth, end } = await traffic.end(signal);
  expect(held).toBe(messages);
  expect(messages).toBeGreaterThan(RATE);
  await service.untilConfirmed(end, 60_000);
  await service.stop();
  await expectEqual(env, truth);
}, 600_000);
