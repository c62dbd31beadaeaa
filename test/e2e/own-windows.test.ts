/** Sinks with windows of their own, beside one with those of the pipeline. */
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Report } from '../../src/commands/verify-report.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { connect } from '../bus-client.ts';
import { ctl, eventually } from './control-support.ts';
import { addRow, type Summed, storedPoints, untilFilled, WINDOWS } from './support.ts';

const OWN_MS = 5000;
const TICKS = 120;
const TICK_MS = 30;

const folder = temporaryFolder('own-windows');
const files = { fine: join(folder.path, 'fine.db'), long: join(folder.path, 'long.db') };
let nats: NatsServer;
let influx: Awaited<ReturnType<typeof startInfluxDb>>;
let client: Awaited<ReturnType<typeof connect>>;
let service: ServiceProgram | undefined;
let sent = 0;

beforeAll(async () => {
  [nats, influx] = await Promise.all([startNats(), startInfluxDb()]);
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await client?.close();
  await nats?.stop();
  await influx?.stop();
  folder.remove();
});

const env = (more: Record<string, string> = {}): Record<string, string> => ({
  ...WINDOWS,
  NATS_URL: nats.url,
  VERIFY_SHARE: '1',
  VERIFY_REPLAY_SHARE: '1',
  VERIFY_DELAY: '100ms',
  SINK_FINE_ENABLED: 'true',
  SINK_FINE_KIND: 'sqlite',
  SINK_FINE_PATH: files.fine,
  SINK_LONG_ENABLED: 'true',
  SINK_LONG_KIND: 'sqlite',
  SINK_LONG_PATH: files.long,
  SINK_LONG_WINDOW: '5s',
  SINK_FLUX_ENABLED: 'true',
  SINK_FLUX_KIND: 'influxdb',
  SINK_FLUX_API: 'v1',
  SINK_FLUX_URL: influx.url,
  SINK_FLUX_DATABASE: 'metrics',
  SINK_FLUX_WINDOW: '5s',
  ...more,
});

async function publish(): Promise<void> {
  for (let tick = 0; tick < TICKS; tick++) {
    for (const type of ['counter', 'gauge', 'timer'])
      client.publish('metrics', `{"name":"${type}.x","type":"${type}","value":${sent % 97}}`);
    await client.flush();
    sent += 1;
    await sleep(TICK_MS);
  }
}

/** What the sinks with windows of their own must hold, by what the other one holds. */
async function expectedRows() {
  const rows = new Map<string, Summed & Pick<StoredPoint, 'last'>>();
  const fine = await storedPoints(env(), 'fine');
  for (const point of fine.sort(byStart)) {
    const key = `${Math.floor(point.windowStart / OWN_MS) * OWN_MS} ${point.series.name}`;
    rows.set(key, { ...addRow(rows.get(key), point), last: point.last });
  }
  return rows;
}

const byStart = (a: StoredPoint, b: StoredPoint) => a.windowStart - b.windowStart;

async function rowsOf(id: string) {
  const points = await storedPoints(env(), id);
  return new Map(
    points
      .sort(byStart)
      .map(({ windowStart, series, count, sum, min, max, last }) => [
        `${windowStart} ${series.name}`,
        { count, sum, min, max, last },
      ]),
  );
}

const sorted = <V>(map: ReadonlyMap<string, V>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

async function expectRows(): Promise<void> {
  const expected = sorted(await expectedRows());
  for (const id of ['long', 'flux']) expect(sorted(await rowsOf(id)), id).toEqual(expected);
  const counts = expected.filter(([key]) => key.endsWith('counter.x')).map(([, { count }]) => count);
  expect(counts.reduce((a, b) => a + b, 0)).toBe(sent);
}

/** What was published last may not be confirmed: the service has stopped. */
async function verified(args: readonly string[], more: Record<string, string> = {}) {
  const program = startProgram(['verify', '--json', ...args], env(more));
  const code = await program.ended;
  const report: Report = JSON.parse(program.output.stdout);
  return { code, report, stderr: program.output.stderr };
}

async function expectVerified(more: Record<string, string> = {}): Promise<void> {
  const { code, report, stderr } = await verified([], more);
  expect(code, `${stderr} ${JSON.stringify(report)}`).toBe(0);
}

test('their rows are those of the pipeline put together, also when the service is killed inside of a window', async () => {
  for (let kills = 0; kills < 2; kills++) {
    service = await startServiceProgram(env());
    await publish();
    await service.stop('SIGKILL');
  }
  service = await startServiceProgram(env());
  await publish();
  await service.untilConfirmed(Date.now());
  await expectRows();
  const { sinks } = await service.status();
  expect(sinks.map(({ id, windowMs, next }) => [id, windowMs, Date.parse(next!) % windowMs])).toEqual([
    ['fine', 1000, 0],
    ['flux', OWN_MS, 0],
    ['long', OWN_MS, 0],
  ]);
  for (const { id, verified } of sinks)
    expect([id, verified.different, verified.lastDifference]).toEqual([id, 0, null]);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(metrics).toContain('fanout_sink_window_seconds{sink="long"} 5');
  await service.stop();
  await expectVerified();
});

test('a store that was lost is filled again, with the same rows', async () => {
  const before = sorted(await rowsOf('long'));
  rmSync(files.long);
  const filling = await startServiceProgram(env());
  service = filling;
  await untilFilled(filling, 'long');
  await filling.untilConfirmed(Date.now());
  await filling.stop();
  expect(sorted(await rowsOf('long'))).toEqual(before);
});

test('a row that is missing, or too many, is found, and a replay of its window mends it', async () => {
  const database = new DatabaseSync(files.long);
  database.exec('DELETE FROM points WHERE window_start = (SELECT max(window_start) FROM points)');
  const [last] = database.prepare('SELECT max(window_start) AS at FROM points').all();
  database.exec(
    'UPDATE points SET sum = sum + 1 WHERE window_start = (SELECT max(window_start) FROM points)',
  );
  database.close();
  const { code, report } = await verified(['--sink', 'long']);
  expect([code, report?.sinks[0]?.windows]).toMatchObject([1, { different: 2 }]);
  expect(report!.sinks[0]!.remarks.join()).toContain('its windows are 5 s long');
  // From inside of the window.
  const from = new Date(Number(last!.at) + 2000).toISOString();
  const replay = startProgram(['replay', '--sink', 'long', '--from', from, '--json'], env());
  expect(await replay.ended, replay.output.stderr).toBe(0);
  expect(JSON.parse(replay.output.stdout).from).toBe(new Date(Number(last!.at)).toISOString());
  await expectVerified();
  await expectRows();
});

test('another length is refused, for that sink alone, and says what to do', async () => {
  const before = sorted(await rowsOf('long'));
  const changed = { SINK_LONG_WINDOW: '10s', SINK_FLUX_WINDOW: '' };
  service = await startServiceProgram(env(changed));
  const started = service;
  await eventually('control is on the bus', async () => (await started.status()).control.onBus);
  const { sinks, now } = await service.status();
  const failures = sinks.map(({ id, state, lastFailure }) => [id, state === 'stopped', lastFailure?.reason]);
  expect(failures).toEqual([
    ['fine', false, undefined],
    ['flux', true, 'checkpoint'],
    ['long', true, 'checkpoint'],
  ]);
  const message = sinks.find(({ id }) => id === 'long')!.lastFailure!.message;
  expect(message).toContain('is of windows of 5 s, and by SINK_LONG_WINDOW the sink has windows of 10 s');
  expect(message).toContain('checkpoint reset --sink long');
  expect(message).toContain('ctl checkpoint reset --sink long');
  expect(service.output.stderr).toContain(
    'the sink is stopped: its checkpoint is of windows of another length',
  );
  expect(service.output.stderr).not.toContain('cannot be read');
  const asked = ['checkpoint', 'reset', '--sink', 'long', '--all'];
  const told = await ctl(env(changed), ...asked);
  expect(told.stdout).toContain('the store still has windows of 5 s, and gets windows of 10 s:');
  expect(told.stdout).toContain('empty its table or give it another, or sums count twice');
  const dry = await ctl(env(changed), ...asked, '--json');
  expect(dry.answers[0].result).toMatchObject({
    done: false,
    otherLength: { hadMs: OWN_MS, hasMs: 10_000 },
  });
  const offline = startProgram(['checkpoint', 'reset', '--sink', 'flux'], env(changed));
  expect(await offline.ended).toBe(0);
  expect(offline.output.stdout).toContain('windows of 5 s, and gets windows of the length of WINDOW:');
  await publish();
  for (
    const end = Date.now();
    Date.parse((await service.status()).sinks.find(({ id }) => id === 'fine')!.next!) < end;
  )
    await sleep(TICK_MS);
  await service.stop();
  expect(sorted(await rowsOf('long'))).toEqual(before);
  const list = startProgram(['checkpoint', 'list', '--sink', 'long', '--json'], env(changed));
  expect(await list.ended).toBe(0);
  const [checkpoint] = JSON.parse(list.output.stdout).checkpoints;
  expect(checkpoint).toMatchObject({ windowMs: OWN_MS });
  // How far it is, whatever its START says.
  const { lagSeconds } = sinks.find(({ id }) => id === 'long')!;
  expect(lagSeconds).toBe((Date.parse(now) - Date.parse(checkpoint.next)) / 1000);
  const check = startProgram(['check'], env(changed));
  expect(await check.ended).toBe(1);
  expect(check.output.stdout).toMatch(/is of windows of 5 s, and by SINK_(LONG|FLUX)_WINDOW/);
  // Set back, it goes on where it was, and lacks nothing.
  service = await startServiceProgram(env());
  await service.untilConfirmed(Date.now());
  await service.stop();
  await expectRows();
  await expectVerified();
});

test('without its checkpoint, a sink begins anew with the new length, in another table', async () => {
  const changed = { SINK_LONG_WINDOW: '10s', SINK_LONG_PATH: join(folder.path, 'other.db') };
  const reset = startProgram(['checkpoint', 'reset', '--sink', 'long', '--yes'], env(changed));
  expect(await reset.ended, reset.output.stderr).toBe(0);
  service = await startServiceProgram(env(changed));
  await service.untilConfirmed(Date.now());
  await service.stop();
  await expectVerified(changed);
  const points = await storedPoints(env(changed), 'long');
  expect(new Set(points.map(({ windowStart }) => windowStart % 10_000))).toEqual(new Set([0]));
  const counted = points.filter(({ series }) => series.name === 'counter.x');
  expect(counted.reduce((sum, { count }) => sum + count, 0)).toBe(sent);
});

test('two paths of one file, with windows of two lengths: the sink with the longer ones is stopped', async () => {
  const link = join(folder.path, 'link.db');
  const file = join(folder.path, 'shared.db');
  new DatabaseSync(file).close();
  symlinkSync(file, link);
  const shared = { SINK_FINE_PATH: file, SINK_LONG_PATH: link, SINK_FLUX_ENABLED: 'false' };
  for (const id of ['fine', 'long']) {
    const reset = startProgram(['checkpoint', 'reset', '--sink', id, '--yes'], env(shared));
    expect(await reset.ended, reset.output.stderr).toBe(0);
  }
  service = await startServiceProgram(env(shared));
  const ofLong = async () => (await service!.status()).sinks.find(({ id }) => id === 'long')!;
  await eventually('stopped', async () => (await ofLong()).state === 'stopped');
  expect((await ofLong()).lastFailure).toMatchObject({ reason: 'shared_table' });
  expect(service.output.stderr).toContain('the sink is stopped: it shares its table with another one');
  await publish();
  await eventually('written', async () => {
    const { sinks } = await service!.status();
    return sinks.find(({ id }) => id === 'fine')!.written > 0;
  });
  await service.stop();
});
