/** `verify` with four real stores, in which rows are changed by hand. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { counted as amountOf } from '../../src/base/number-format.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
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
  const database = new DatabaseSync(stack.env.SINK_SQLITE_PATH!, { timeout: LIMIT_MS });
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
  expect(later).toMatchObject({ code: 1, stderr: expect.stringContaining('Give an earlier --from.') });
  const before = await verify(['--to', '2020-01-01T00:00:00Z']);
  expect(before).toMatchObject({ code: 1, stderr: expect.stringContaining('Give a later --to.') });
});

async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const program = startProgram(args, { ...settings(), ...env });
  return { code: await program.ended, ...program.output };
}

test('a name that nothing has is not green', async () => {
  const { code, report } = await verify([...range(), '--name', 'http.requets', '--sink', 'redshift']);
  expect({ code, report }).toMatchObject({ code: 1, report: { equal: false, matched: false } });
  expect(report.sinks[0].remarks).toContain('no series matches http.requets');
  const counted = await run(['count', ...range(), '--name', 'http.requets']);
  expect(counted).toMatchObject({ code: 1, stdout: expect.stringContaining('\nnothing matches\n') });
  const json = await run(['count', ...range(), '--where', 'no=such', '--json']);
  expect(json.code).toBe(1);
  expect(JSON.parse(json.stdout)).toMatchObject({ complete: true, matched: false, count: 0, groups: [] });
});

test('a dimension that nothing has is said, and two filters that exclude each other are refused', async () => {
  const { code, stdout } = await run(['count', ...range(), '--by', 'ap']);
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringContaining('no series counted here has the dimension ap'),
  });
  const both = await run(['count', '--where', 'app=a', '--where', 'app=b']);
  expect(both).toMatchObject({ stdout: '', stderr: expect.stringContaining('app cannot be both a and b') });
  expect(both.code).toBe(1);
});

test('in another folder: no file is made, and another store is said to be one', async () => {
  const path = join(stack.folder, 'elsewhere', 'fanout.db');
  const there = { SINK_SQLITE_PATH: path };
  const missing = await verify([...range(), '--sink', 'sqlite'], there);
  expect(missing).toMatchObject({ code: 1, report: { sinks: [{ rows: { missing: 0 } }] } });
  expect(missing.report.sinks[0].remarks).toEqual([
    expect.stringContaining(`the store cannot be read: there is no file ${path}`),
  ]);
  expect(existsSync(dirname(path))).toBe(false);

  const checked = await run(['check', '--json'], there);
  const sink = JSON.parse(checked.stdout).find(({ what }: { what: string }) =>
    what.startsWith('sink sqlite'),
  );
  expect({ code: checked.code, sink }).toMatchObject({ code: 0, sink: { state: 'warn' } });
  expect(sink.detail).toContain(`made the file ${path}, written, read back, removed`);
  expect(sink.detail).toContain('is not the one that the checkpoint is about');
  const other = await verify([...range(), '--sink', 'sqlite'], there);
  expect(other).toMatchObject({ code: 1, report: { sinks: [{ rows: { equal: 0 } }] } });
  expect(other.report.sinks[0].remarks).toContainEqual(
    expect.stringContaining(`the store at ${path} is not the one that the checkpoint is about`),
  );
});

test('what the stream no longer holds is said, and counts for nothing else', async () => {
  const client = await connect({ servers: stack.nats.url });
  const { streams } = await client.jetstreamManager();
  const { state } = await streams.info('METRICS');
  await streams.update('METRICS', { max_msgs: Math.round(state.messages / 2) });
  await client.close();
  const { report } = await verify([...range(), '--sink', 'sqlite']);
  const [{ windows, remarks }] = report.sinks;
  expect(windows.unknown).toBe(0);
  expect(windows.notHeld).toBeGreaterThan(0);
  expect(remarks).toContainEqual(
    expect.stringMatching(
      `no longer holds the ${amountOf(windows.notHeld, 'window')} before .* they are not judged`,
    ),
  );
  const counted = await run(['count', ...range()]);
  expect(counted).toMatchObject({ code: 0 });
  expect(counted.stdout).toMatch(/no longer holds the windows before .* they are not counted/);
});
