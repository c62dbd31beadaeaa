/** `verify` with four real stores, in which rows are changed by hand. */
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { ADDED, CHANGED_SUM, editByHand } from './hand-edits.ts';
import { endOf, sendTraffic, verifyConfirmed, WINDOWS } from './support.ts';

const STORES = ['dynamodb', 'influxdb', 'redshift', 'sqlite'];

let stack: Stack;
let service: ServiceProgram;
let truth: TruthRow[];
beforeAll(async () => {
  stack = await startStack();
  service = await startServiceProgram({ ...stack.env, ...WINDOWS });
  truth = await sendTraffic(stack, [
    '--count',
    '16000',
    '--rate',
    '4000',
    '--series',
    '100',
    '--late',
    '0.05',
  ]);
  await service.untilConfirmed(endOf(truth));
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await stack?.stop();
});

const settings = () => ({ ...stack.env, ...WINDOWS });

async function verify(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const program = startProgram(['verify', '--json', ...args], { ...settings(), ...env });
  const code = await program.ended;
  const { stdout, stderr } = program.output;
  return { code, stderr, report: stdout.startsWith('{') ? JSON.parse(stdout) : undefined };
}

const window = (row: TruthRow) => new Date(row.windowStart!).toISOString();
const range = () => ['--to', new Date(endOf(truth)).toISOString()];

test('every row of every store is equal, including the percentiles: exit code 0', async () => {
  const { code, stderr, report } = await verifyConfirmed(range(), settings());
  expect(stderr).toBe('');
  expect(report!.sinks.map(({ sink }) => sink)).toEqual(STORES);
  for (const { sink, windows, rows, examples } of report!.sinks) {
    expect(windows, sink).toMatchObject({ different: 0, unknown: 0, unconfirmed: 0 });
    expect(windows.equal, sink).toBeGreaterThanOrEqual(4);
    expect(rows, sink).toEqual({ equal: truth.length, missing: 0, extra: 0, different: 0 });
    expect(examples).toEqual([]);
  }
  expect(code).toBe(0);
});

test('a store out of reach, and one that keeps nothing: unknown, never equal', async () => {
  const { code, report } = await verify(
    [...range(), '--sink', 'sqlite', '--sink', 'gone', '--sink', 'hole'],
    {
      SINK_GONE_ENABLED: 'true',
      SINK_GONE_KIND: 'redshift',
      SINK_GONE_URL: 'postgres://nobody@127.0.0.1:1/none',
      SINK_HOLE_ENABLED: 'true',
      SINK_HOLE_KIND: 'blackhole',
    },
  );
  // They have no checkpoints, so none of their windows is confirmed.
  const [gone, hole, sqlite] = report.sinks;
  expect([gone.windows.equal, hole.windows.equal]).toEqual([0, 0]);
  expect(gone.windows.unconfirmed).toBeGreaterThan(3);
  expect(sqlite.windows).toMatchObject({ different: 0, unknown: 0 });
  expect(code).toBe(1);
  // A sink with checkpoints, at an address where nobody listens.
  const moved = await verify([...range(), '--sink', 'redshift'], {
    SINK_REDSHIFT_URL: 'postgres://nobody@127.0.0.1:1/none',
  });
  expect(moved.code).toBe(1);
  const [redshift] = moved.report.sinks;
  expect(redshift.windows).toMatchObject({ equal: 0, different: 0, unconfirmed: 0 });
  expect(redshift.windows.unknown).toBeGreaterThan(3);
  expect(redshift.remarks[0]).toContain('cannot be read');
});

test('the exit code is 1 if not everything is equal, even if nobody reads the output', async () => {
  const program = startProgram(['verify', ...range(), '--sink', 'redshift'], {
    ...settings(),
    SINK_REDSHIFT_URL: 'postgres://nobody@127.0.0.1:1/none',
  });
  program.child.stdout!.destroy();
  expect(await program.ended).toBe(1);
});

test('a row is changed, one deleted and one added in each store: exactly these are found, exit code 1', async () => {
  const starts = [...new Set(truth.map(({ windowStart }) => windowStart))];
  const counters = starts.map((start) =>
    truth.filter(({ windowStart, series }) => windowStart === start && series.type === 'counter'),
  );
  const [changed, deleted, beside] = [counters[1]![0]!, counters[2]![3]!, counters[2]![5]!];
  await editByHand(stack, { changed, deleted, beside });
  const { code, report } = await verify(range());
  for (const { sink, windows, rows, examples } of report.sinks) {
    expect(windows, sink).toMatchObject({ different: 2, unknown: 0 });
    expect(rows, sink).toEqual({ equal: truth.length - 2, missing: 1, extra: 1, different: 1 });
    const named = (kind: string) => examples.filter((example: { kind: string }) => example.kind === kind);
    expect(named('different')).toMatchObject([
      {
        window: window(changed),
        name: changed.series.name,
        fields: [{ field: 'sum', stored: CHANGED_SUM, expected: changed.sum }],
      },
    ]);
    expect(named('missing')).toMatchObject([{ window: window(deleted), seriesId: deleted.series.id }]);
    expect(named('extra')).toMatchObject([{ window: window(beside), name: ADDED.name }]);
  }
  expect(code).toBe(1);

  // Only the requested part: one sink and one name.
  const added = await verify([...range(), '--sink', 'dynamodb', '--name', 'added.*']);
  expect(added.report.sinks).toMatchObject([
    { sink: 'dynamodb', rows: { equal: 0, missing: 0, extra: 1, different: 0 } },
  ]);
  // Before the first of these rows, all is well.
  const before = await verify(['--to', window(changed)]);
  expect(before).toMatchObject({ code: 0, report: { equal: true } });

  const words = startProgram(['verify', '--sink', 'sqlite', ...range()], { ...stack.env, ...WINDOWS });
  expect(await words.ended).toBe(1);
  expect(words.output.stdout).toContain(`sum is ${CHANGED_SUM}, not ${changed.sum}`);
  expect(words.output.stdout).not.toContain('\x1b');
});

test('a changed identity of a series in the store is reported too', async () => {
  const database = new DatabaseSync(stack.env.SINK_SQLITE_PATH!);
  const [first] = truth;
  database
    .prepare('UPDATE points SET name = ? WHERE window_start = ? AND series_id = ?')
    .run('renamed\x1b[2J', first!.windowStart!, first!.series.id);
  database.close();
  const words = startProgram(['verify', '--sink', 'sqlite', ...range()], { ...stack.env, ...WINDOWS });
  expect(await words.ended).toBe(1);
  expect(words.output.stdout).toContain(`name is renamed\\u001b[2J, not ${first!.series.name}`);
});

test('verify says what it cannot verify', async () => {
  const core = await verify([], { METRICS_SOURCE: 'core' });
  expect(core).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be verified') });
  const nobody = await verify(['--sink', 'nobody']);
  expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining('no sink nobody is enabled') });
  const later = await verify(['--from', '2099-01-01T00:00:00Z']);
  expect(later).toMatchObject({ code: 1, stderr: expect.stringContaining('no complete window') });
});
