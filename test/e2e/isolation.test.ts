import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { endOf, expectEqual, startTraffic, WINDOW_MS, WINDOWS } from './support.ts';

let stack: Stack;
let hanging: FaultProxy;
let refusing: FaultProxy;
let service: ServiceProgram | undefined;
beforeAll(async () => {
  stack = await startStack();
  hanging = await FaultProxy.start(stack.postgres.port);
  refusing = await FaultProxy.start(stack.influxdb.port);
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await Promise.all([hanging?.stop(), refusing?.stop()]);
  await stack?.stop();
});

/**
 * How old the first window that is not confirmed may be at the head of the stream: itself, the one before it that is
 * not yet complete, LATENESS, IDLE_SLACK, and what a busy machine with two cores needs.
 */
const HEAD_SECONDS = (2 * WINDOW_MS + 500 + 500) / 1000 + 1;

test('one store hangs and one refuses connections: the others stay at the head, and all end equal', async () => {
  const env = {
    ...stack.env,
    ...WINDOWS,
    SINK_REDSHIFT_URL: stack.env.SINK_REDSHIFT_URL!.replace(`:${stack.postgres.port}/`, `:${hanging.port}/`),
    SINK_REDSHIFT_TIMEOUT: '2s',
    // So little that the lanes go over it: their windows are then owed by replay.
    SINK_REDSHIFT_BACKLOG: '150KB',
    SINK_INFLUXDB_URL: `http://127.0.0.1:${refusing.port}`,
    SINK_INFLUXDB_BACKLOG: '150KB',
  };
  service = await startServiceProgram(env);
  const traffic = startTraffic(stack, ['--rate', '3000', '--series', '400', '--late', '0.05']);
  await sleep(3000);
  hanging.hang();
  await refusing.refuse();
  const worst = { dynamodb: 0, sqlite: 0 };
  for (const until = Date.now() + 8000; Date.now() < until; await sleep(200)) {
    const { sinks } = await service.status();
    for (const { id, lagSeconds } of sinks) {
      if (id === 'dynamodb' || id === 'sqlite') worst[id] = Math.max(worst[id], lagSeconds);
    }
  }
  const broken = await service.status();
  for (const id of ['redshift', 'influxdb']) {
    const sink = broken.sinks.find((candidate) => candidate.id === id);
    expect(sink, id).toMatchObject({ up: false, catchingUp: true });
    expect(sink?.backlogBytes, id).toBeLessThan(150_000);
    expect(sink?.overflows, id).toBe(1);
    expect(sink?.catchUp?.windowsBehind, id).toBeGreaterThan(1);
  }
  expect(worst.dynamodb).toBeLessThan(HEAD_SECONDS);
  expect(worst.sqlite).toBeLessThan(HEAD_SECONDS);
  expect(broken.ready).toBe(true);

  await Promise.all([hanging.pass(), refusing.pass()]);
  const truth = await traffic.end();
  await service.untilConfirmed(endOf(truth), 60_000);
  const healed = await service.status();
  expect(healed.sinks.map(({ up, catchingUp }) => [up, catchingUp])).toEqual(Array(4).fill([true, false]));
  await expectEqual(stack.env, truth);
}, 120_000);
