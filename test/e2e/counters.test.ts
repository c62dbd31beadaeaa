/** Counters of NATS, from a stream that the service makes to a store. `verify`, `count` and `tail` read them alike. */
import { headers } from 'nats';
import { expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { startWithSqlite, verifyConfirmed } from './support.ts';

const INCREMENTS = 500;

test('the increments of a stream of counters', async (context) => {
  needsNats(context, '2.12');
  const { env, service, client } = await startWithSqlite(context, 'counters', {
    METRICS_STREAM: 'ORDERS',
    METRICS_SUBJECTS: 'orders.>',
    METRICS_FORMAT: 'counter',
  });
  const jetstream = client.jetstream();
  for (let i = 0; i < INCREMENTS; i++) {
    const block = headers();
    block.set('Nats-Incr', `${i % 2 === 0 ? i : -1}`);
    await jetstream.publish(`orders.${i % 2 === 0 ? 'eu' : 'us'}`, '', { headers: block });
  }
  await service.untilConfirmed(Date.now());
  const { messages, samples } = await service.status();
  expect(samples.byType).toMatchObject({ counter: INCREMENTS, gauge: 0, timer: 0 });
  expect(Object.values(messages.rejected).every((count) => count === 0)).toBe(true);

  const { code, report, stderr } = await verifyConfirmed([], env);
  expect({ code, report }, stderr).toMatchObject({
    code: 0,
    report: { sinks: [{ rows: { missing: 0, extra: 0, different: 0 } }] },
  });
  const run = async (...args: string[]) => {
    const program = startProgram(args, env);
    expect(await program.ended, program.output.stderr).toBe(0);
    return program.output.stdout;
  };
  const sum = INCREMENTS ** 2 / 4 - INCREMENTS / 2;
  const counted = JSON.parse(await run('count', '--name', 'orders.eu', '--json'));
  expect(counted.groups).toMatchObject([{ type: 'counter', count: INCREMENTS / 2, sum }]);
  const shown = await run('tail', '--from', '1h', '--limit', '3', '--json');
  const values = shown
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(values.map(({ name, value }) => [name, value])).toEqual([
    ['orders.eu', 0],
    ['orders.us', -1],
    ['orders.eu', 2],
  ]);
});
