import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { endOf, expectEqual, startTraffic, WINDOWS } from './support.ts';

let stack: Stack;
const running: ServiceProgram[] = [];
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await Promise.all(running.map((service) => service.stop('SIGKILL')));
  await stack?.stop();
});

async function startSlices(of: number): Promise<ServiceProgram[]> {
  const slices = Array.from({ length: of }, (_, index) => `${index}/${of}`);
  const env = { ...stack.env, ...WINDOWS };
  const started = await Promise.all(slices.map((SLICE) => startServiceProgram({ ...env, SLICE })));
  running.push(...started);
  return started;
}

test('three slices, kill -9, then two slices and a hot standby: all stores are equal', async () => {
  const traffic = startTraffic(stack, ['--rate', '3000', '--series', '200', '--late', '0.05']);
  const three = await startSlices(3);
  await sleep(4000);
  // One after the other, so that each dies in the middle of something else.
  for (const service of three) {
    await service.stop('SIGKILL');
    await sleep(150);
  }
  const two = await startSlices(2);
  const [standby] = (await startSlices(2)).slice(1);
  await sleep(3000);
  await two[1]!.stop('SIGKILL');
  await sleep(1000);
  const truth = await traffic.end();
  await Promise.all([two[0]!, standby!].map((service) => service.untilConfirmed(endOf(truth))));
  const statuses = await Promise.all([two[0]!, standby!].map((service) => service.status()));
  for (const { samples } of statuses) expect(samples.foreign).toBeGreaterThan(0);
  await expectEqual(stack.env, truth);
});
