/** `checkpoint list`, `reset` and `set`, beside a real service and after it. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { KV, NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { type Anything, eventually } from './control-support.ts';
import { endOf, expectEqual, sendTraffic, verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const KEY = 'default.sqlite.0-1';
const TRAFFIC = ['--count', '4000', '--rate', '1000', '--series', '20', '--late', '0.02'];
const folder = temporaryFolder('checkpoint');
const file = join(folder.path, 'fanout.db');
let nats: NatsServer;
let client: NatsConnection;
let bucket: KV;
let service: ServiceProgram | undefined;
let truth: TruthRow[];

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  service = await startServiceProgram(env());
  bucket = await client.jetstream().views.kv('fanout-checkpoints');
  truth = await sendTraffic({ nats, folder: folder.path }, TRAFFIC);
  await service.untilConfirmed(endOf(truth));
  await service.stop();
});
afterEach(async () => {
  await service?.stop();
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await client?.close();
  await nats?.stop();
  folder.remove();
});

function env(): Readonly<Record<string, string>> {
  return { NATS_URL: nats.url, ...WINDOWS, SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: file };
}

async function checkpoint(args: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const program = startProgram(['checkpoint', ...args], { ...env(), ...more });
  const code = await program.ended;
  const { stdout, stderr } = program.output;
  const report: Anything = stdout.startsWith('{') ? JSON.parse(stdout) : undefined;
  return { code, stdout, stderr, report };
}

const iso = (ms: number) => new Date(ms).toISOString();
const stored = async () => (await bucket.get(KEY))!.json<{ next: number; began: number }>();
const start = async (more: Readonly<Record<string, string>> = {}) => {
  service = await startServiceProgram({ ...env(), ...more });
  return service;
};
const middle = () => truth[Math.floor(truth.length / 2)]!.windowStart!;

function inStore(sql: string): number {
  const database = new DatabaseSync(file, { timeout: LIMIT_MS });
  try {
    return Number(database.prepare(sql).run().changes);
  } finally {
    database.close();
  }
}

/** While nothing arrives, windows close only when the service next looks at the server's clock. */
async function whileTimePasses<T>(work: () => Promise<T>): Promise<T> {
  const timer = setInterval(() => client.publish('metrics', 'not a metric'), WINDOW_MS / 5);
  return await work().finally(() => clearInterval(timer));
}

async function expectVerified(): Promise<void> {
  await expectEqual(env(), truth);
  const { code, report } = await verifyConfirmed([], env());
  expect({ code, equal: report?.equal }, JSON.stringify(report)).toEqual({ code: 0, equal: true });
}

test('the list has every checkpoint, and says which are not in use here', async () => {
  const { code, report } = await checkpoint(['list', '--json']);
  const { next, began } = await stored();
  expect(code).toBe(0);
  expect(report).toMatchObject({ pipeline: 'default' });
  expect(report.checkpoints).toEqual([
    {
      key: KEY,
      sink: 'sqlite',
      slice: '0/1',
      enabled: true,
      slicingInUse: true,
      next: iso(next),
      behindSeconds: (Date.parse(report.now) - next) / 1000,
      began: iso(began),
      sequence: expect.any(Number),
      streamCreated: expect.stringMatching(/^20/),
      store: expect.stringMatching(/-/),
      skipped: [],
      choices: [],
      windowMs: null,
      savedAt: expect.stringMatching(/Z$/),
      unreadable: null,
    },
  ]);
  const other = { SINK_SQLITE_ENABLED: 'false', SINK_OTHER_ENABLED: 'true', SINK_OTHER_KIND: 'blackhole' };
  const text = (await checkpoint(['list'], { ...other, SLICE: '0/2' })).stdout;
  expect(text).toContain('not enabled');
  expect(text).toContain('another number of slices');
  expect(
    text
      .split('\n\n')[0]!
      .split('\n')
      .every((line) => line.length <= 80),
  ).toBe(true);
  expect((await checkpoint(['list'], { SLICE: '0/2' })).stdout).toContain('other slicing');
  expect((await checkpoint(['list', '--sink', 'other'])).stdout).toContain('no checkpoint');
});

test('without --yes nothing changes', async () => {
  const before = await bucket.get(KEY);
  const to = iso(middle());
  for (const args of [['reset'], ['set', '--to', to]]) {
    const { code, stdout } = await checkpoint([...args, '--sink', 'sqlite']);
    expect(code).toBe(0);
    expect(stdout).toContain('a dry run, nothing was changed');
    expect(stdout).toContain('written again');
  }
  expect((await bucket.get(KEY))?.revision).toBe(before?.revision);
});

test('while an instance runs, or nobody can say, a change is refused; forced, the instance overwrites it', async () => {
  const { instance } = await (await start()).status();
  const to = ['--to', iso(middle())];
  for (const args of [['reset'], ['set', ...to]]) {
    const { code, stderr } = await checkpoint([...args, '--sink', 'sqlite', '--yes']);
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining(instance) });
    const blind = await checkpoint([...args, '--sink', 'sqlite', '--yes'], { CONTROL_ENABLED: 'false' });
    expect(blind).toMatchObject({ code: 1, stderr: expect.stringContaining('it is not known') });
  }
  const before = await stored();
  expect(before.next).toBeGreaterThan(middle());
  const forced = await checkpoint(['set', '--sink', 'sqlite', ...to, '--yes', '--force', '--json']);
  // The instance may have been faster.
  if (forced.code === 0) expect(forced.report).toMatchObject({ done: true, instances: [instance] });
  await eventually('the instance goes on', async () => (await stored()).next > before.next);
});

test('a sink that no running instance has is no reason to stop them', async () => {
  const saved = await bucket.get(KEY);
  const hole = { SINK_HOLE_ENABLED: 'true', SINK_HOLE_KIND: 'blackhole' };
  await start({ SINK_SQLITE_ENABLED: 'false', ...hole });
  await eventually('control is on the bus', async () => (await service!.status()).control.onBus);
  const shown = await checkpoint(['reset', '--sink', 'sqlite']);
  expect(shown.stdout).not.toContain('running');
  const done = await checkpoint(['reset', '--sink', 'sqlite', '--yes', '--json']);
  expect(done, done.stderr).toMatchObject({ code: 0, report: { done: true, instances: [] } });
  expect((await bucket.get(KEY))!.operation).not.toBe('PUT');
  // A stop saves once more.
  await service!.stop();
  await bucket.put(KEY, saved!.value);
  await bucket.delete('default.hole.0-1');
});

test('set back, everything from there on is written again, and no more of the stream is read than that', async () => {
  expect(inStore(`DELETE FROM points WHERE window_start >= ${middle()}`)).toBeGreaterThan(0);
  const { next } = await stored();
  const { code, report } = await checkpoint([
    ...['set', '--sink', 'sqlite', '--to', iso(middle() + WINDOW_MS / 2)],
    ...['--yes', '--json'],
  ]);
  expect(code).toBe(0);
  expect(report).toMatchObject({
    done: true,
    changes: [{ key: KEY, from: iso(next), to: iso(middle()) }],
    slices: [{ again: { from: iso(middle()), to: iso(next), windows: (next - middle()) / WINDOW_MS } }],
  });
  const running = await start();
  await running.untilConfirmed(next);
  await expectVerified();
  const { state } = await (await client.jetstreamManager()).streams.info('METRICS');
  const { received } = (await running.status()).messages;
  expect(received).toBeGreaterThan(0);
  expect(received).toBeLessThan(state.messages * 0.9);
  expect(running.output.stderr).not.toContain('rolled back');
});

test('set ahead, the windows between are skipped, and verify finds them missing; set back, they are written', async () => {
  const { next: from, began } = await stored();
  truth = [...truth, ...(await sendTraffic({ nats, folder: folder.path }, TRAFFIC))];
  // Past what late samples of the last window could reopen.
  const to = endOf(truth) + 2 * WINDOW_MS;
  await eventually('that window has begun', async () => Date.now() > to);
  const skip = await checkpoint(['set', '--sink', 'sqlite', '--to', iso(to), '--yes', '--json']);
  expect(skip.report).toMatchObject({
    done: true,
    slices: [{ again: null, skipped: { from: iso(from), to: iso(to), windows: (to - from) / WINDOW_MS } }],
  });
  const running = await start();
  await whileTimePasses(() => running.untilConfirmed(to + WINDOW_MS));
  const { code, report } = await verifyConfirmed([], env());
  const missing = truth.filter(({ windowStart }) => windowStart! >= from).length;
  expect({ code, rows: report?.sinks[0]?.rows }).toMatchObject({ code: 1, rows: { missing, different: 0 } });
  await running.stop();
  expect((await stored()).began).toBe(began);
  // The service has saved it since, and it is still to be seen.
  const skipped = [{ from: iso(from), to: iso(to) }];
  expect((await checkpoint(['list', '--json'])).report.checkpoints).toMatchObject([{ skipped }]);
  expect((await checkpoint(['list'])).stdout).toContain(`was moved past ${iso(from)} to ${iso(to)}`);
  const back = await checkpoint(['set', '--sink', 'sqlite', '--to', iso(from), '--yes']);
  expect(back.code).toBe(0);
  expect((await checkpoint(['list', '--json'])).report.checkpoints).toMatchObject([{ skipped: [] }]);
  const refilled = await start();
  await whileTimePasses(() => refilled.untilConfirmed(to + WINDOW_MS));
  await expectVerified();
});

test('after a reset, START decides', async () => {
  inStore('DELETE FROM points');
  expect((await checkpoint(['reset', '--sink', 'sqlite', '--yes'])).code).toBe(0);
  expect((await bucket.get(KEY))?.operation).toBe('DEL');
  const first = Date.now();
  const now = await start({ SINK_SQLITE_START: 'now' });
  // A start that takes long is at a later window from the beginning, and has saved nothing yet.
  const isSaved = async () => (await bucket.get(KEY))?.operation === 'PUT';
  await whileTimePasses(() => eventually('its start is saved', isSaved));
  await now.stop();
  expect((await stored()).began).toBeGreaterThan(first - WINDOW_MS);
  const again = ['reset', '--sink', 'sqlite', '--slice', '0/1'];
  expect((await checkpoint([...again, '--yes'], { SINK_SQLITE_START: 'earliest' })).code).toBe(0);
  await (await start({ SINK_SQLITE_START: 'earliest' })).untilConfirmed(endOf(truth));
  await expectVerified();
});

test('a checkpoint that cannot be read is listed with the reason, and removed beside a running service', async () => {
  const running = await start();
  await whileTimePasses(() => running.untilConfirmed(Date.now()));
  await bucket.put(KEY, '{"next":');
  await eventually('the sink is stopped', async () => (await running.status()).sinks[0]!.state === 'stopped');
  const list = await checkpoint(['list', '--json']);
  expect(list).toMatchObject({
    code: 1,
    report: { checkpoints: [{ sink: 'sqlite', next: null, unreadable: expect.stringContaining(KEY) }] },
  });
  const moved = await checkpoint(['set', '--sink', 'sqlite', '--to', iso(middle()), '--yes']);
  const advice = 'metrics-fanout checkpoint reset --sink sqlite --slice 0/1';
  expect(moved).toMatchObject({ code: 1, stderr: expect.stringContaining(advice) });
  expect(JSON.stringify((await running.status()).sinks[0]!.lastFailure)).toContain(advice);
  const { code } = await checkpoint([...advice.split(' ').slice(2), '--yes']);
  expect(code).toBe(0);
  await eventually('the sink goes on', async () => (await running.status()).sinks[0]!.up);
  await whileTimePasses(() => running.untilConfirmed(Date.now()));
  await expectVerified();
});
