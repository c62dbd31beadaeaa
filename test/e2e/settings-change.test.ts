/** WINDOW, LATENESS, MAX_AHEAD and MAX_SERIES change while the stream goes on. */
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

async function start(settings: Record<string, string>): Promise<ServiceProgram> {
  const service = await startServiceProgram({ ...stack.env, ...WINDOWS, CHANGE_DELAY: '5s', ...settings });
  running.push(service);
  return service;
}

const CHANGED = { WINDOW: '3s', LATENESS: '100ms', MAX_AHEAD: '2s' };

test('a new shape, kill -9, and a standby that still has the old settings: all stores are equal', async () => {
  const options = ['--rate', '2000', '--series', '200', '--late', '0.05', '--ahead', '0.02'];
  const traffic = startTraffic(stack, options);
  const [first, standby] = await Promise.all([start({}), start({})]);
  await sleep(4000);
  await first.stop('SIGKILL');
  const second = await start(CHANGED);
  const { windows } = await second.status();
  expect(windows).toMatchObject({ windowMs: 1000, next: { windowMs: 3000 } });
  await sleep(3000);
  await second.stop('SIGKILL');
  const third = await start(CHANGED);
  // The standby, which has the old settings, adopts the announced shape, and says so.
  await standby.untilConfirmed(Date.parse(windows.next!.from));
  expect((await standby.status()).windows).toMatchObject({ windowMs: 3000, latenessMs: 100, next: null });
  expect(standby.output.stderr).toContain('another instance has different settings');
  await third.stop('SIGKILL');
  await sleep(4000);
  const truth = await traffic.end();
  expect(new Set(truth.map(({ windowMs }) => windowMs))).toEqual(new Set([1000, 3000]));
  await standby.untilConfirmed(endOf(truth));
  await expectEqual(stack.env, truth);
});
