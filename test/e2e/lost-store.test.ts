/** A store is lost, or another one is in its place: it gets everything again that the stream still gives. */
import { copyFileSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { NatsConnection } from 'nats';
import { afterAll, expect, type TestContext, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually, untilReceipt } from './control-support.ts';
import { sample, WINDOW_MS, WINDOWS } from './support.ts';

const SAMPLES = 30;

const folder = temporaryFolder('lost-store');
afterAll(() => folder.remove());

interface Setting {
  readonly url: string;
  readonly client: NatsConnection;
  start(path: string, more?: Readonly<Record<string, string>>): Promise<ServiceProgram>;
  publish(): Promise<void>;
}

/**
 * A bus for one test, with `older` messages: a service with METRICS_START=now leaves them out, also when it fills a
 * store again. All of the tests wait most of their time, and do so side by side.
 */
async function setUp(
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  older = SAMPLES,
): Promise<Setting> {
  const nats = await startNats();
  onTestFinished(() => nats.stop());
  const client = await connect({ servers: nats.url });
  onTestFinished(() => client.close());
  // The service's own stream cannot be purged.
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
  const publish = async (times = SAMPLES) => {
    const body = JSON.stringify({ name: 'a', type: 'counter', value: 1 });
    const jetstream = client.jetstream({ timeout: LIMIT_MS });
    for (let i = 0; i < times; i++) await jetstream.publish('metrics', body);
  };
  await publish(older);
  const over = Date.now() + 2 * WINDOW_MS;
  if (older > 0) await eventually('their windows are over', async () => Date.now() > over);
  return {
    url: nats.url,
    client,
    async start(path, more = {}) {
      const service = await startServiceProgram({
        ...WINDOWS,
        ...more,
        NATS_URL: nats.url,
        SINK_SQLITE_ENABLED: 'true',
        SINK_SQLITE_PATH: path,
      });
      onTestFinished(async () => void (await service.stop('SIGKILL')));
      return service;
    },
    publish: () => publish(),
  };
}

const sumIn = (path: string) => {
  if (!existsSync(path)) return undefined;
  const database = new DatabaseSync(path, { readOnly: true, timeout: LIMIT_MS });
  try {
    return database.prepare('SELECT coalesce(sum(sum), 0) AS sum FROM points').get()!.sum;
  } catch {
    return undefined;
  } finally {
    database.close();
  }
};
const refills = async ({ url }: ServiceProgram) =>
  sample(await (await fetch(`${url}/metrics`)).text(), 'fanout_sink_refills_total{sink="sqlite"}');

test.concurrent('another file at the next start', async (context) => {
  const { start, publish } = await setUp(context, 0);
  const [before, after] = [join(folder.path, 'before.db'), join(folder.path, 'after.db')];
  const first = await start(before);
  await publish();
  await first.untilConfirmed(Date.now());
  expect(sumIn(before)).toBe(SAMPLES);
  expect(await refills(first)).toBe(0);
  await first.stop('SIGTERM');
  const second = await start(after, { METRICS_START: 'now' });
  await eventually('all of it', async () => sumIn(after) === SAMPLES);
  expect(await refills(second)).toBe(1);
  expect(second.output.stderr).toMatch(/"from":"[^"]+".*the store is not the one of the checkpoint/);
  await second.untilConfirmed(Date.now());
  await second.stop('SIGTERM');
  // The checkpoint now belongs to that file.
  const third = await start(after);
  await publish();
  await third.untilConfirmed(Date.now());
  expect(await refills(third)).toBe(0);
  expect(sumIn(after)).toBe(2 * SAMPLES);
});

test.concurrent('a file that is deleted under the service', async (context) => {
  const { start, publish } = await setUp(context, 0);
  const path = join(folder.path, 'deleted.db');
  const running = await start(path);
  await publish();
  await running.untilConfirmed(Date.now());
  for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true });
  await publish();
  await eventually('all of it', async () => sumIn(path) === 2 * SAMPLES);
  expect(await refills(running)).toBe(1);
  expect((await running.status()).source).toMatchObject({ gaps: 0, latestGaps: [] });
});

test.concurrent('what the stream no longer holds is a gap', async (context) => {
  const { client, start, publish } = await setUp(context, 0);
  const path = join(folder.path, 'gap.db');
  const running = await start(path);
  await publish();
  // The next start reads again from shortly before that.
  await running.untilConfirmed(Date.now() + 4 * WINDOW_MS);
  await running.stop('SIGTERM');
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.purge('METRICS', { keep: 1 });
  for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true });
  const second = await start(path);
  await eventually('told', async () =>
    second.output.stderr.includes('the stream no longer holds earlier ones'),
  );
  expect((await second.status()).source.gaps).toBe(1);
  expect((await second.status()).source.latestGaps).toHaveLength(1);
});

const OLDER = /"from":"([^"]+)".*the store holds older content than it did/;
const restoredFrom = ({ output }: ServiceProgram) => Date.parse(OLDER.exec(output.stderr)?.[1] ?? '');

function backUp(path: string, backup: string): void {
  const database = new DatabaseSync(path, { timeout: LIMIT_MS });
  database.exec(`VACUUM INTO '${backup}'`);
  database.close();
}

/** Whoever could not close the file in time leaves a log beside it, which would bring back what it held. */
function restore(backup: string, path: string): void {
  for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
  copyFileSync(backup, path);
}

test.concurrent('a file that is restored from a backup gets again what is behind', async (context) => {
  const { client, start, publish } = await setUp(context);
  const [path, backup] = [join(folder.path, 'restored.db'), join(folder.path, 'backup.db')];
  const env = { PIPELINE: 'restored', METRICS_START: 'now' };
  const first = await start(path, env);
  await publish();
  await first.untilConfirmed(Date.now());
  await first.stop('SIGTERM');
  backUp(path, backup);
  const backedUpAt = Date.now();
  const second = await start(path, env);
  await publish();
  await second.untilConfirmed(Date.now());
  expect(await refills(second)).toBe(0);
  await untilReceipt(client, 'restored.sqlite.0-1', backedUpAt);
  await second.stop('SIGKILL');
  restore(backup, path);
  expect(sumIn(path)).toBe(SAMPLES);
  const third = await start(path, env);
  await eventually('all of it', async () => sumIn(path) === 2 * SAMPLES);
  expect(await refills(third)).toBe(1);
  // What the backup has is not written again, but for the window in which it was made.
  expect(restoredFrom(third)).toBeGreaterThan(backedUpAt - 10 * WINDOW_MS);
  expect((await third.status()).source).toMatchObject({ gaps: 0, latestGaps: [] });
  await third.untilConfirmed(Date.now());
  await third.stop('SIGKILL');
  // Whoever dies as it likes finds the store as it was.
  const fourth = await start(path, env);
  await publish();
  await fourth.untilConfirmed(Date.now());
  expect(await refills(fourth)).toBe(0);
  expect(sumIn(path)).toBe(3 * SAMPLES);
});

test.concurrent('older content that comes into the store under the service, without a failure', async (context) => {
  const { client, start, publish } = await setUp(context);
  const [path, backup] = [join(folder.path, 'under.db'), join(folder.path, 'older.db')];
  const running = await start(path, { PIPELINE: 'under', METRICS_START: 'now' });
  await publish();
  await running.untilConfirmed(Date.now());
  backUp(path, backup);
  const backedUpAt = Date.now();
  await publish();
  await running.untilConfirmed(Date.now());
  await untilReceipt(client, 'under.sqlite.0-1', backedUpAt);
  const database = new DatabaseSync(path, { timeout: LIMIT_MS });
  database.exec(`ATTACH '${backup}' AS older; BEGIN IMMEDIATE; DELETE FROM points; DELETE FROM fanout_receipts;
    INSERT INTO points SELECT * FROM older.points; INSERT INTO fanout_receipts SELECT * FROM older.fanout_receipts; COMMIT`);
  database.close();
  expect(sumIn(path)).toBe(SAMPLES);
  await publish();
  await eventually('all of it', async () => sumIn(path) === 3 * SAMPLES);
  expect(await refills(running)).toBe(1);
});

/** Has the service write as much again after a backup was made, and restores that. */
async function setBack(
  { client, start, publish }: Setting,
  path: string,
  backup: string,
  env: Readonly<Record<string, string>> & { readonly PIPELINE: string },
): Promise<void> {
  const write = async () => {
    const from = Date.now();
    const service = await start(path, env);
    await publish();
    await service.untilConfirmed(Date.now());
    await untilReceipt(client, `${env.PIPELINE}.sqlite.0-1`, from);
    await service.stop('SIGTERM');
  };
  await write();
  backUp(path, backup);
  await write();
  restore(backup, path);
}

test.concurrent('a checkpoint that was set to before the backup stays there', async (context) => {
  const setting = await setUp(context);
  const { start, url } = setting;
  const [path, backup] = [join(folder.path, 'set.db'), join(folder.path, 'set-backup.db')];
  const env = { PIPELINE: 'set', METRICS_START: 'now' };
  const began = new Date().toISOString();
  await setBack(setting, path, backup, env);
  const database = new DatabaseSync(path, { timeout: LIMIT_MS });
  database.exec('UPDATE points SET sum = 0');
  database.close();
  const set = startProgram(['checkpoint', 'set', '--sink', 'sqlite', '--to', began, '--yes'], {
    ...WINDOWS,
    ...env,
    NATS_URL: url,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: path,
  });
  expect([await set.ended, set.output.stderr]).toEqual([0, '']);
  const third = await start(path, env);
  await third.untilConfirmed(Date.now());
  expect(sumIn(path)).toBe(2 * SAMPLES);
  expect(await refills(third)).toBe(1);
});

test.concurrent('what the stream no longer holds of what a backup lacks is a gap', async (context) => {
  const setting = await setUp(context);
  const { client, start } = setting;
  const [path, backup] = [join(folder.path, 'late.db'), join(folder.path, 'late-backup.db')];
  const env = { PIPELINE: 'late', METRICS_START: 'now' };
  await setBack(setting, path, backup, env);
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.purge('METRICS', { keep: 1 });
  const third = await start(path, env);
  await eventually('told', async () =>
    third.output.stderr.includes('the stream no longer holds earlier ones'),
  );
  expect(restoredFrom(third)).toBeGreaterThan(0);
  expect((await third.status()).source.gaps).toBeGreaterThan(0);
});

test.concurrent('the start of a sink that was never open is not decided', async (context) => {
  const { start, publish } = await setUp(context);
  const env = { PIPELINE: 'unopened', METRICS_START: 'now' };
  const nowhere = join(folder.path, 'no', 'folder');
  const first = await start('/dev/null/fanout.db', env);
  await eventually('tried', async () => (await first.status()).sinks[0]!.lastFailure !== null);
  await publish();
  await first.stop('SIGTERM');
  const second = await start(join(nowhere, 'fanout.db'), { ...env, METRICS_START: 'earliest' });
  await eventually('from the beginning', async () => Number(sumIn(join(nowhere, 'fanout.db'))) >= SAMPLES);
  expect(await refills(second)).toBe(0);
});

const NO_RECEIPT = 'the store takes no receipt';
const receiptFailures = async ({ url }: ServiceProgram) =>
  sample(await (await fetch(`${url}/metrics`)).text(), 'fanout_sink_receipt_failures_total{sink="sqlite"}');

test.concurrent('a file that takes rows and no receipts is counted, said once, and shown', async (context) => {
  const { start, publish, url } = await setUp(context);
  const path = join(folder.path, 'no-receipts.db');
  const env = { PIPELINE: 'no-receipts', METRICS_START: 'now', CONTROL_ENABLED: 'true' };
  const running = await start(path, env);
  await publish();
  await running.untilConfirmed(Date.now());
  await eventually('kept', async () => (await running.status()).sinks[0]!.receipts.state === 'kept');
  expect(await receiptFailures(running)).toBe(0);
  const database = new DatabaseSync(path, { timeout: LIMIT_MS });
  database.exec('ALTER TABLE fanout_receipts RENAME TO away');
  await eventually('failing', async () => {
    await publish();
    return (await receiptFailures(running))! >= 2;
  });
  const [sink] = (await running.status()).sinks;
  expect(sink).toMatchObject({ up: true, state: 'live', receipts: { state: 'failing' } });
  expect(sink!.receipts.lastFailure!.message).toMatch(/fanout_receipts/);
  expect(sink!.receipts.until).not.toBeNull();
  expect(running.output.stderr.split(NO_RECEIPT)).toHaveLength(2);
  const { stdout, ended } = await said(['ctl', 'status'], { ...env, NATS_URL: url });
  expect(ended).toBe(0);
  expect(stdout).toContain('sqlite is without receipts. It takes rows, and no receipts since');
  database.exec('ALTER TABLE away RENAME TO fanout_receipts');
  database.close();
  await eventually('kept again', async () => {
    await publish();
    return running.output.stderr.includes('the store takes receipts again');
  });
  expect((await running.status()).sinks[0]!.receipts.state).toBe('kept');
});

async function said(args: readonly string[], env: Readonly<Record<string, string>>) {
  const program = startProgram(args, env);
  const ended = await program.ended;
  return { ended, stdout: program.output.stdout };
}
