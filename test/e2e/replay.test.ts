import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Report } from '../../src/commands/verify-report.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { endOf, expectEqual, sendTraffic, verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

let stack: Stack;
let service: ServiceProgram | undefined;
let truth: TruthRow[];
const only = (...ids: string[]) => {
  const switches = ['DYNAMODB', 'INFLUXDB', 'REDSHIFT', 'SQLITE'].map((id) => [
    `SINK_${id}_ENABLED`,
    String(ids.includes(id)),
  ]);
  return { ...stack.env, ...WINDOWS, ...Object.fromEntries(switches) };
};
beforeAll(async () => {
  stack = await startStack();
  service = await startServiceProgram(only('REDSHIFT'));
  truth = await sendTraffic(stack, [
    '--count',
    '20000',
    '--rate',
    '4000',
    '--series',
    '150',
    '--late',
    '0.05',
  ]);
  await service.untilConfirmed(endOf(truth));
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await stack?.stop();
});

async function replay(...args: string[]) {
  const program = startProgram(['replay', '--json', ...args], only('REDSHIFT'));
  const code = await program.ended;
  return { code, ...program.output };
}

async function verify(...args: string[]): Promise<Report> {
  return (await verifyConfirmed(args, only('REDSHIFT', 'SQLITE', 'DYNAMODB'))).report!;
}

test('a sink that is switched on later with START=earliest ends up equal to the others', async () => {
  await service!.stop();
  const env = {
    ...only('REDSHIFT', 'SQLITE', 'DYNAMODB'),
    METRICS_START: 'now',
    SINK_SQLITE_START: 'earliest',
  };
  service = await startServiceProgram(env);
  await service.untilConfirmed(endOf(truth));
  await expectEqual(only('REDSHIFT', 'SQLITE'), truth);
  // The other new sink started now, and has nothing from before.
  await expect(expectEqual(only('DYNAMODB'), truth)).rejects.toThrow('dynamodb');
  // That is correct, unless `--from` asks for earlier windows. As nothing is confirmed there, nothing is equal.
  await service.untilConfirmed(Date.now() + WINDOW_MS);
  const byDefault = await verify();
  expect(byDefault.equal, JSON.stringify(byDefault)).toBe(true);
  const [dynamodb, ...others] = byDefault.sinks;
  expect(dynamodb!.rows).toEqual({ equal: 0, missing: 0, extra: 0, different: 0 });
  expect(others.map(({ rows }) => rows.equal)).toEqual([truth.length, truth.length]);
  const asked = await verify('--from', new Date(truth[0]!.windowStart!).toISOString());
  expect(asked.sinks[0]).toMatchObject({ rows: { missing: 0 }, windows: { different: 0 } });
  expect(asked.sinks[0]!.windows.notOwed).toBeGreaterThan(0);
  expect(asked.sinks[0]!.remarks[0]).toContain('it began at');
});

test('a replay overwrites changed, lost and duplicate rows of a range while the service runs', async () => {
  const run = (sql: string) => stack.postgres.execute(sql, 'fanout');
  const middle = new Date(truth[Math.floor(truth.length / 2)]!.windowStart!);
  const from = new Date(truth[0]!.windowStart!).toISOString();
  await run(`DELETE FROM fanout_points WHERE window_start < '${middle.toISOString()}' AND type = 'counter'`);
  await run(`UPDATE fanout_points SET sum = sum + 1 WHERE window_start < '${middle.toISOString()}'`);
  await run('INSERT INTO fanout_points SELECT * FROM fanout_points');
  const damaged = (await run('SELECT count(*)::int AS n FROM fanout_points')).rows[0].n as number;
  expect(damaged).not.toBe(truth.length);

  const first = await replay('--sink', 'redshift', '--from', from, '--to', middle.toISOString());
  expect(first, first.stderr).toMatchObject({ code: 0 });
  const answer = JSON.parse(first.stdout);
  expect(answer).toMatchObject({ sink: 'redshift', done: true, gaps: 0, rejected: 0 });
  expect(answer.windows).toBe((middle.getTime() - truth[0]!.windowStart!) / WINDOW_MS);
  expect(answer.points).toBe(truth.filter(({ windowStart }) => windowStart! < middle.getTime()).length);
  // Rows after --to are unchanged.
  await expect(expectEqual(only('REDSHIFT'), truth)).rejects.toThrow('redshift');

  expect((await replay('--sink', 'redshift', '--from', from)).code).toBe(0);
  await expectEqual(only('REDSHIFT'), truth);
});

test.each([
  [['--sink', 'nope', '--from', '2026-01-01T00:00:00Z'], 'no sink nope is enabled. Enabled sinks: redshift'],
  [['--sink', 'redshift', '--from', 'yesterday'], 'Expected an RFC 3339 time'],
  [['--sink', 'redshift', '--from', '2099-01-01T00:00:00Z'], 'no complete window in that range'],
  [['--sink', 'redshift', '--from', '5m', '--to', '10m'], '--from is not before --to'],
])('%j is an error that says what to do', async (args, message) => {
  const { code, stderr } = await replay(...args);
  expect(code).toBe(1);
  expect(stderr).toContain(message);
});
