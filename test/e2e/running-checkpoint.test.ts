/** `ctl checkpoint`: a running service takes one sink back, ahead or to its start, and nothing else notices. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KV, NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS, TEST_LIMIT_MS } from '../limits.ts';
import { type Anything, ask, ctl, ended, eventually } from './control-support.ts';
import { sample, verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

type Env = Readonly<Record<string, string>>;

const KEY = 'default.one.0-1';
const TICK_MS = 50;
const TOKEN = 'token-of-this-test-4711';
const folder = temporaryFolder('running-checkpoint');
const file = (id: string) => join(folder.path, `${id}.db`);
let nats: NatsServer;
let client: NatsConnection;
let bucket: KV;
let ticks: ReturnType<typeof setInterval>;
let service: ServiceProgram;
let running: ServiceProgram[] = [];

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  let number = 0;
  // A few series, new ones now and then, without an end: what one sink lacks, the other has.
  ticks = setInterval(() => {
    number += 1;
    for (const name of ['a.x', 'b.x', `b.${Math.floor(number / 40)}`])
      client.publish('metrics', JSON.stringify({ name, type: 'counter', value: number }));
  }, TICK_MS);
  service = await start();
  bucket = await client.jetstream().views.kv('fanout-checkpoints');
  await service.untilConfirmed(Date.now() + 6 * WINDOW_MS);
});
afterEach(async () => {
  for (const other of running) if (other !== service) await other.stop('SIGKILL');
  running = [service];
});
afterAll(async () => {
  clearInterval(ticks);
  for (const each of running) await each.stop('SIGKILL');
  await client?.close();
  await nats?.stop();
  folder.remove();
});

const sqlite = (id: string): Env => ({
  [`SINK_${id.toUpperCase()}_ENABLED`]: 'true',
  [`SINK_${id.toUpperCase()}_KIND`]: 'sqlite',
  [`SINK_${id.toUpperCase()}_PATH`]: file(id),
});
const env = (more: Env = {}): Env => ({
  NATS_URL: nats.url,
  ...WINDOWS,
  ...sqlite('one'),
  ...sqlite('two'),
  SINK_ONE_TIMEOUT: '2s',
  ...more,
});

async function start(more: Env = {}): Promise<ServiceProgram> {
  const started = await startServiceProgram(env(more));
  running.push(started);
  await eventually('control is on the bus', async () => (await started.status()).control.onBus);
  return started;
}

/** In place of the one that runs. */
async function restart(more: Env = {}, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  await end(service, signal);
  service = await start(more);
}

async function end(one: ServiceProgram, signal?: NodeJS.Signals): Promise<void> {
  running = running.filter((other) => other !== one);
  await one.stop(signal);
}

const iso = (ms: number) => new Date(ms).toISOString();
const idOf = async (of = service) => (await of.status()).instance;
const sinkOf = async (id: string, of = service) => (await of.status()).sinks.find((sink) => sink.id === id)!;
const request = async (operation: string, body: object, of = service) =>
  await ask(client, await idOf(of), `checkpoint.${operation}`, body);
const stored = async (key = KEY) => (await bucket.get(key))!.json<{ next: number; began: number }>();

/** Has it done, and returns the report of its task. */
async function change(operation: 'set' | 'reset', body: object = {}, of = service) {
  const answer = await request(operation, { sink: 'one', yes: true, ...body }, of);
  expect(answer, JSON.stringify(answer)).toMatchObject({ ok: true });
  return await ended(client, await idOf(of), answer);
}

function inStore(id: string, sql: string): Record<string, unknown>[] {
  const database = new DatabaseSync(file(id), { timeout: LIMIT_MS });
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

const rows = (id: string, from: number, to: number, where = 'true') =>
  inStore(
    id,
    `SELECT window_start, name, count, sum FROM points
     WHERE window_start >= ${from} AND window_start < ${to} AND ${where} ORDER BY window_start, series_id`,
  );
const remove = (from: number) => inStore('one', `DELETE FROM points WHERE window_start >= ${from}`);
/** Several windows back, at the start of one. */
const earlier = (windows = 4) => (Math.floor(Date.now() / WINDOW_MS) - windows) * WINDOW_MS;

/** All rows are there up to now, the same as in the other store, and as the stream gives them. */
async function expectExact(from: number, more: Env = {}): Promise<void> {
  const to = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  for (const each of running) await each.untilConfirmed(to);
  expect(rows('two', from, to).length).toBeGreaterThan(0);
  expect(rows('one', from, to)).toEqual(rows('two', from, to));
  const { code, report } = await verifyConfirmed(['--from', iso(from), '--to', iso(to)], env(more));
  expect({ code, equal: report?.equal }, JSON.stringify(report)).toEqual({ code: 0, equal: true });
}

test('the list has what checkpoint list has; without --yes, nothing changes, and it is said what would', async () => {
  const list = await ctl(env(), 'checkpoint', 'list', '--json');
  expect(list.code).toBe(0);
  const [one] = list.answers[0].result.checkpoints;
  expect(one).toMatchObject({ key: KEY, sink: 'one', slice: '0/1', enabled: true, skipped: [], choices: [] });
  expect((await ctl(env(), 'checkpoint', 'list', '--sink', 'one')).stdout).toContain('one 0/1: saved');
  const before = await sinkOf('one');
  const to = earlier();
  const args = ['checkpoint', 'set', '--sink', 'one', '--to', iso(to)];
  const told = await ctl(env(), ...args);
  expect(told).toMatchObject({ code: 0, stdout: expect.stringContaining('a dry run, nothing was changed') });
  expect(told.stdout).toMatch(/written again, under the same keys: [\d,]+ windows?,/);
  const overHttp = await ctl(env(), ...args, '--url', service.url, '--json');
  expect(overHttp).toMatchObject({ code: 1, answers: [{ ok: false, error: { code: 'forbidden' } }] });
  const refused = await ctl(env(), ...args, '--yes');
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('say which instance') });
  expect(Date.parse((await sinkOf('one')).next!)).toBeGreaterThanOrEqual(Date.parse(before.next!));
  expect(service.output.stderr).not.toContain('an operator changed');
});

test('set back, the rows are written again; the other sink and the counters go on', async () => {
  const to = earlier();
  // Counted first: what is written in between counts as a row alone.
  const two = rows('two', 0, Date.now()).length;
  const before = await service.status();
  remove(to);
  const done = await ctl(
    env(),
    'checkpoint',
    'set',
    '--sink',
    'one',
    '--to',
    iso(to),
    '--all',
    '--yes',
    '--json',
  );
  expect(done.code, done.stdout + done.stderr).toBe(0);
  expect(done.answers[0].task).toMatchObject({
    state: 'done',
    result: { done: true, changes: [{ key: KEY, to: iso(to) }], slices: [{ again: { from: iso(to) } }] },
  });
  await expectExact(to);
  const after = await service.status();
  expect(after.instance).toBe(before.instance);
  expect(after.sinks[0]!.written).toBeGreaterThan(before.sinks[0]!.written);
  // Each of its rows was written once.
  const written = after.sinks[1]!.written - before.sinks[1]!.written;
  expect(written).toBeLessThanOrEqual(rows('two', 0, Date.now()).length - two + 10);
  expect(after.sinks[1]).toMatchObject({ overflows: 0, retries: {} });
  expect(service.output.stderr).toMatch(
    /"level":"info".*"operation":"checkpoint.set".*control request received/,
  );
  expect(service.output.stderr).toMatch(/"level":"warn".*an operator changed the checkpoint of the sink/);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(sample(metrics, 'fanout_sink_points_written_total{sink="one"}')).toBe(after.sinks[0]!.written);
});

test('set back, the window before stays as the store has it', async () => {
  const to = earlier();
  remove(to - WINDOW_MS);
  expect((await change('set', { to: iso(to) })).state).toBe('done');
  await expectExact(to);
  expect(rows('one', to - WINDOW_MS, to)).toEqual([]);
  expect((await change('set', { to: iso(to - WINDOW_MS) })).state).toBe('done');
  await expectExact(to - WINDOW_MS);
});

test('set ahead, windows are skipped, and the checkpoint says so; set back, they are written', async () => {
  await request('set', { sink: 'one', to: iso(earlier()) });
  const hold = await ask(client, await idOf(), 'sink.pause', { sink: 'one' });
  expect(hold.ok).toBe(true);
  const from = (await stored()).next;
  await sleep(4 * WINDOW_MS);
  const to = earlier(0);
  const { state, result } = await change('set', { to: iso(to) });
  expect({ state, slices: result?.slices }).toMatchObject({
    state: 'done',
    slices: [{ skipped: { to: iso(to) } }],
  });
  const skipped = result.slices[0].skipped;
  expect(Date.parse(skipped.from)).toBeGreaterThanOrEqual(from);
  // It stays paused.
  expect(await sinkOf('one')).toMatchObject({ paused: true, state: 'paused' });
  await ask(client, await idOf(), 'sink.resume', { sink: 'one' });
  await service.untilConfirmed(to + 2 * WINDOW_MS);
  expect(rows('one', Date.parse(skipped.from), to)).toEqual([]);
  expect(rows('one', to, to + WINDOW_MS)).toEqual(rows('two', to, to + WINDOW_MS));
  const { result: list } = await request('list', { sink: 'one' });
  expect(list.checkpoints[0].skipped).toEqual([{ from: skipped.from, to: iso(to) }]);
  await change('set', { to: skipped.from });
  await expectExact(from);
  expect((await request('list', { sink: 'one' })).result.checkpoints[0].skipped).toEqual([]);
});

test('after a reset, START decides', async () => {
  const { began } = await stored();
  remove(0);
  const { result } = await change('reset');
  expect(result).toMatchObject({ done: true, start: 'earliest', changes: [{ key: KEY, to: null }] });
  await expectExact(began);
});

test('a checkpoint that cannot be read: reset makes the sink work again, whether it had read it or not', async () => {
  for (const isFresh of [false, true]) {
    const { began } = await stored('default.two.0-1');
    if (isFresh) await end(service);
    await bucket.put(KEY, '{"next":');
    if (isFresh) service = await start();
    await eventually('the sink is stopped', async () => (await sinkOf('one')).state === 'stopped');
    const moved = await request('set', { sink: 'one', to: iso(earlier()), yes: false });
    expect(moved).toMatchObject({ ok: false, error: { code: 'impossible' } });
    remove(0);
    expect((await change('reset')).state).toBe('done');
    await eventually('the sink is up', async () => (await sinkOf('one')).up);
    await expectExact(began);
  }
});

test('a store that is down, and a sink that is catching up', async () => {
  const to = earlier();
  const lock = new DatabaseSync(file('one'), { timeout: LIMIT_MS });
  lock.exec('BEGIN IMMEDIATE');
  lock.exec(`DELETE FROM points WHERE window_start >= ${to}`);
  await eventually('the store is down', async () => !(await sinkOf('one')).up);
  expect(await change('set', { to: iso(to) })).toMatchObject({ state: 'done' });
  await sleep(2 * WINDOW_MS);
  lock.exec('COMMIT');
  lock.close();
  const first = (await stored()).began;
  // It reads the whole stream now.
  expect(await change('set', { to: iso(first) })).toMatchObject({ state: 'done' });
  expect(await change('set', { to: iso(first + WINDOW_MS) })).toMatchObject({ state: 'done' });
  await expectExact(first);
});

test('two at once, nonsense, and an instance that has left the bus', async () => {
  const to = earlier();
  remove(to);
  const both = await Promise.all([1, 2].map(() => request('set', { sink: 'one', to: iso(to), yes: true })));
  const [done, busy] = both.sort((a, b) => Number(b.ok) - Number(a.ok));
  expect(busy).toMatchObject({ ok: false, error: { code: 'busy' } });
  expect((await ended(client, await idOf(), done!)).state).toBe('done');
  const refusals: [object, object][] = [
    [{ sink: 'none', to: iso(to) }, { code: 'unknown_sink' }],
    [
      { sink: 'one', to: 'soon' },
      { code: 'bad_value', field: 'to' },
    ],
    [{ sink: 'one', to: iso(Date.now() + 3_600_000) }, { code: 'impossible' }],
    [{ sink: 'one', to: '2020-01-01T00:00:00Z' }, { code: 'impossible' }],
  ];
  for (const [body, error] of refusals)
    expect(await request('set', body)).toMatchObject({ ok: false, error });
  await expectExact(to);
  const instance = await idOf();
  await ended(client, instance, await ask(client, instance, 'detach', { keepControl: true }));
  for (const yes of [true, false])
    expect(await request('set', { sink: 'one', to: iso(to), yes })).toMatchObject({
      ok: false,
      error: { code: 'detached' },
    });
  await ended(client, instance, await ask(client, instance, 'attach'));
  await expectExact(to);
});

test('another instance of the same slice: refused, unless all are asked, with force', async () => {
  const standby = await start();
  const to = earlier();
  const alone = await change('set', { to: iso(to) });
  expect(alone).toMatchObject({ state: 'failed', error: { code: 'shared' } });
  expect(alone.error?.message).toContain(await idOf(standby));
  remove(to);
  const args = ['checkpoint', 'set', '--sink', 'one', '--to', iso(to), '--all', '--yes', '--force', '--json'];
  let all = await ctl(env(), ...args);
  // It only waits for instances that it finds at once.
  while (all.answers.length < 2) all = await ctl(env(), ...args);
  expect(all.answers.map(({ task }: Anything) => task.state)).toEqual(['done', 'done']);
  await expectExact(to);
});

test('another one writes over it before the sink has begun again: it is changed again', async () => {
  const to = earlier();
  remove(to);
  const watch = await bucket.watch({ key: KEY, ignoreDeletes: true });
  let last = '';
  let times = 0;
  const over = (async () => {
    for await (const entry of watch) {
      const isChanged = entry.json<{ next: number }>().next === to;
      if (!isChanged) last = entry.string();
      // As the last save of another instance, which is about to be changed as well.
      else if (times++ === 0) await bucket.put(KEY, last);
    }
  })();
  await eventually('a checkpoint is known', async () => last !== '');
  expect((await change('set', { to: iso(to) })).state).toBe('done');
  await expectExact(to);
  expect(times).toBeGreaterThan(0);
  watch.stop();
  await over;
});

test('where the bus refuses control, nobody knows who else runs: refused', async () => {
  const permissions = '{ publish: ">", subscribe: { deny: ["fanout.control.>", "$SRV.>"] } }';
  const extra = `authorization { users: [{ user: a, password: b, permissions: ${permissions} }] }`;
  const refusing = await startNats({ extra });
  const bus = { NATS_URL: refusing.url, NATS_USER: 'a', NATS_PASSWORD: 'b' };
  const alone = await startServiceProgram(env({ ...bus, CONTROL_TOKEN: TOKEN }));
  try {
    const args = ['checkpoint', 'reset', '--sink', 'one', '--url', alone.url, '--json'];
    const { answers } = await ctl({ ...bus, CONTROL_TOKEN: TOKEN }, ...args);
    expect(answers).toMatchObject([{ ok: true, result: { done: false, instances: null } }]);
  } finally {
    await alone.stop('SIGKILL');
    await refusing.stop();
  }
});

test('names: what is written again has what the setting says now, as after a restart', async () => {
  await restart({ SINK_ONE_NAMES: 'a.*' });
  const from = (await stored()).next;
  await service.untilConfirmed(Date.now() + 2 * WINDOW_MS);
  await restart({ SINK_ONE_NAMES: 'b.*' });
  const changed = (await stored()).next;
  const to = changed - WINDOW_MS;
  await service.untilConfirmed(Date.now() + 2 * WINDOW_MS);
  remove(to);
  expect((await change('set', { to: iso(to) })).state).toBe('done');
  const end = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  await service.untilConfirmed(end + WINDOW_MS);
  expect(rows('one', from, to)).toEqual(rows('two', from, to, "name LIKE 'a.%'"));
  expect(rows('one', to, end)).toEqual(rows('two', to, end, "name LIKE 'b.%'"));
  const { result } = await request('list', { sink: 'one' });
  expect(result.checkpoints[0].choices.slice(-2)).toEqual([
    { from: expect.any(String), names: ['a.*'] },
    { from: iso(to), names: ['b.*'] },
  ]);
  const { code } = await verifyConfirmed(['--from', iso(from)], env({ SINK_ONE_NAMES: 'b.*' }));
  expect(code).toBe(0);
  await restart();
  // Everything again, from the start.
  const { began } = await stored();
  expect((await change('set', { to: iso(began) })).state).toBe('done');
  await expectExact(began);
});

test(
  'kill -9 at any instant of it: the next start finds it done, or not begun',
  async () => {
    for (let round = 0; round < 6; round++) {
      const to = earlier();
      await service.untilConfirmed(to + WINDOW_MS);
      remove(to);
      const asked = request('set', { sink: 'one', to: iso(to), yes: true });
      await asked;
      await sleep(20 + Math.random() * 150);
      await restart({}, 'SIGKILL');
      expect((await change('set', { to: iso(to) })).state).toBe('done');
      await expectExact(to);
    }
  },
  TEST_LIMIT_MS,
);

test('slices: each instance changes its own', async () => {
  await service.stop();
  const slices = await Promise.all(['0/2', '1/2'].map((SLICE) => start({ SLICE })));
  running = slices;
  service = slices[0]!;
  const from = Date.now();
  for (const each of slices) await each.untilConfirmed(from + 4 * WINDOW_MS);
  const to = earlier(3);
  remove(to);
  expect((await change('set', { to: iso(to) }, slices[0])).result).toMatchObject({
    changes: [{ key: 'default.one.0-2' }],
    slices: [{ slice: '0/2' }],
  });
  const isMine = (start: number) => (start / WINDOW_MS) % 2 === 0;
  const end = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
  for (const each of slices) await each.untilConfirmed(end);
  const missing = rows('two', to, end - WINDOW_MS).filter(
    (row) => !rows('one', to, end).some((other) => JSON.stringify(other) === JSON.stringify(row)),
  );
  expect(missing.some(({ window_start }) => isMine(Number(window_start)))).toBe(false);
  expect((await change('set', { to: iso(to) }, slices[1])).result).toMatchObject({
    slices: [{ slice: '1/2' }],
  });
  await expectExact(to, { SLICE: '0/2' });
});

test('plain NATS has no checkpoints', async () => {
  const core = await start({ METRICS_SOURCE: 'core', PIPELINE: 'plain', CONTROL_TOKEN: TOKEN });
  for (const yes of [true, false])
    expect(await request('reset', { sink: 'one', yes }, core)).toMatchObject({
      ok: false,
      error: { code: 'not_replayable', message: expect.stringContaining('has no checkpoints') },
    });
  const args = ['checkpoint', 'list', '--url', core.url, '--json'];
  const overHttp = await ctl({ ...env(), CONTROL_TOKEN: TOKEN }, ...args);
  expect(overHttp.answers).toMatchObject([{ ok: false, error: { code: 'not_replayable' } }]);
});
