import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Status } from '../../src/observe/status.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { LIMIT_MS } from '../limits.ts';
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

/** How many windows the others confirm while the two are broken. */
const WINDOWS_MEANWHILE = 8;
const BROKEN = ['redshift', 'influxdb'];

test('one store hangs and one refuses connections: the others go on, and in the end all are equal', async () => {
  const env = {
    ...stack.env,
    ...WINDOWS,
    SINK_REDSHIFT_URL: stack.env.SINK_REDSHIFT_URL!.replace(`:${stack.postgres.port}/`, `:${hanging.port}/`),
    SINK_REDSHIFT_TIMEOUT: '2s',
    // Small enough that the lanes overflow: their windows then come from a replay.
    SINK_REDSHIFT_BACKLOG: '150KB',
    SINK_INFLUXDB_URL: `http://127.0.0.1:${refusing.port}`,
    SINK_INFLUXDB_BACKLOG: '150KB',
  };
  service = await startServiceProgram(env);
  const traffic = startTraffic(stack, ['--rate', '3000', '--series', '400', '--late', '0.05']);
  await service.untilConfirmed(Date.now() + 2 * WINDOW_MS);
  hanging.hang();
  await refusing.refuse();
  const meanwhile = Date.now() + WINDOWS_MEANWHILE * WINDOW_MS;
  let broken = await service.status();
  const isSo = ({ sinks }: Status) =>
    sinks.every(({ id, next, up, catchingUp }) =>
      BROKEN.includes(id) ? !up && catchingUp : Date.parse(next!) >= meanwhile,
    );
  for (const deadline = Date.now() + LIMIT_MS; !isSo(broken) && Date.now() < deadline; await sleep(200))
    broken = await service.status();
  for (const { id, next } of broken.sinks) {
    // If a sink waited for a broken one, it would stand still too.
    if (BROKEN.includes(id)) expect(Date.parse(next!), id).toBeLessThan(meanwhile);
    else expect(Date.parse(next!), id).toBeGreaterThanOrEqual(meanwhile);
  }
  for (const id of BROKEN) {
    const sink = broken.sinks.find((candidate) => candidate.id === id);
    expect(sink, id).toMatchObject({ up: false, catchingUp: true });
    expect(sink?.backlogBytes, id).toBeLessThan(150_000);
    // One that had caught up with the live path before its store was found broken overflows once more.
    expect(sink?.overflows, id).toBeGreaterThanOrEqual(1);
    expect(sink?.catchUp?.windowsBehind, id).toBeGreaterThan(1);
  }
  expect(broken.ready).toBe(true);

  await Promise.all([hanging.pass(), refusing.pass()]);
  const truth = await traffic.end();
  await service.untilConfirmed(endOf(truth));
  // One that was catching up is on the live path a moment after it has confirmed everything.
  await expect
    .poll(async () => (await service!.status()).sinks.map(({ up, catchingUp }) => [up, catchingUp]))
    .toEqual(Array(4).fill([true, false]));
  await expectEqual(stack.env, truth);
});
