/** The stream is changed under the service, and messages arrive before the service has looked at it again. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { sample, WINDOW_MS, WINDOWS } from './support.ts';

const folder = temporaryFolder('misread');
const file = join(folder.path, 'fanout.db');
let nats: NatsServer;
let client: NatsConnection;
let service: ServiceProgram;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  service = await start();
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

/** METRICS_SUBJECTS. */
let wanted = 'metrics.>';
const environment = () => ({
  ...WINDOWS,
  NATS_URL: nats.url,
  METRICS_SUBJECTS: wanted,
  SINK_SQLITE_ENABLED: 'true',
  SINK_SQLITE_PATH: file,
});
const start = () => startServiceProgram(environment());
const run = async (code: number, ...args: readonly string[]) => {
  const { ended, output } = startProgram(args, environment());
  expect(await ended, output.stdout + output.stderr).toBe(code);
  return JSON.parse(output.stdout);
};
const update = async (config: object) => {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.update('METRICS', config);
};
const publish = async (subject: string, name: string, times: number) => {
  const body = JSON.stringify({ name, type: 'counter', value: 1 });
  for (let i = 0; i < times; i++) await client.jetstream({ timeout: LIMIT_MS }).publish(subject, body);
};
const lastOf = async () =>
  (await (await client.jetstreamManager({ timeout: LIMIT_MS })).streams.info('METRICS')).state.last_seq;
const readThrough = async (sequence: number) =>
  await eventually('read', async () => (await service.status()).source.lastSequence >= sequence);
/** Undefined until the sink has made its file and its table. */
const countOf = (name: string) => {
  if (!existsSync(file)) return undefined;
  const database = new DatabaseSync(file, { readOnly: true, timeout: LIMIT_MS });
  try {
    return database.prepare('SELECT coalesce(sum(sum), 0) AS sum FROM points WHERE name = ?').get(name)!.sum;
  } catch (error) {
    if (/no such table/.test(String(error))) return undefined;
    throw error;
  } finally {
    database.close();
  }
};
const rollbacks = async () =>
  sample(await (await fetch(`${service.url}/metrics`)).text(), 'fanout_source_rollbacks_total');

const BEFORE = 10;

/** Closes the windows of what was published so far, and has checkpoints say so. */
const confirm = async () => await service.untilConfirmed(Date.now() + 2 * WINDOW_MS);
const leftOut = async () =>
  sample(await (await fetch(`${service.url}/metrics`)).text(), 'fanout_source_left_out_messages_total');
const restart = async () => {
  await confirm();
  await service.stop('SIGTERM');
  service = await start();
};

test('messages of subjects that nobody wants are not counted, whenever the stream began to store them', async () => {
  // Windows with rows of ours alone, some of them before all that is computed again, so that rows may be removed.
  await publish('metrics.before', 'before', 1);
  await service.untilConfirmed(Date.now() + 3 * WINDOW_MS);
  await publish('metrics.before', 'before', BEFORE - 1);
  await restart();
  await publish('metrics.a', 'a', 3);
  await update({ subjects: ['metrics', 'metrics.>', 'audit.>'] });
  await publish('audit.a', 'audit', 4);
  await publish('metrics.a', 'a', 5);
  await readThrough(BEFORE + 12);
  await eventually('right', async () => countOf('a') === 8);
  expect(countOf('audit')).toBe(0);
  expect(countOf('before')).toBe(BEFORE);
  expect((await service.status()).source).toMatchObject({ gaps: 0, rollbacks: 0, leftOut: 0 });
});

test('messages that are stored under other subjects are counted later', async (context) => {
  needsNats(context, '2.10');
  await update({ subject_transform: { src: 'metrics.>', dest: 'stored.>' } });
  await publish('metrics.a', 'a', 6);
  await publish('audit.a', 'audit', 1);
  await readThrough(BEFORE + 19);
  await eventually('all of them', async () => countOf('a') === 14);
  expect(countOf('audit')).toBe(0);
  expect(await rollbacks()).toBe(1);
  // A look has explained them.
  expect(await leftOut()).toBe(0);
  // What was stored before still counts, under its own subject.
  expect(countOf('before')).toBe(BEFORE);
});

test('a stream that was narrowed still holds what nobody wants', async () => {
  await update({ subjects: ['metrics', 'metrics.>'] });
  const looked = async () => (await service.status()).source.lastSequence;
  await publish('metrics.a', 'a', 1);
  const { last_seq: last } = (
    await (await client.jetstreamManager({ timeout: LIMIT_MS })).streams.info('METRICS')
  ).state;
  await eventually('read', async () => (await looked()) >= last);
  // It has looked at the stream since then, and goes back to before it was narrowed.
  await service.untilConfirmed(Date.now() + 20 * WINDOW_MS);
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
  await publish('metrics.a', 'a', 1);
  await eventually('filled again', async () => countOf('before') === BEFORE);
  expect(countOf('audit')).toBe(0);
});

test('a restart before the next look at the stream forgets nothing', async (context) => {
  needsNats(context, '2.10');
  await eventually('all so far', async () => countOf('a') === 16);
  await update({ subject_transform: { src: 'metrics.a', dest: 'moved.a' } });
  await publish('metrics.a', 'a', 6);
  // It is read after those that nobody knows yet, so the checkpoint says that they were read too.
  await publish('metrics.b', 'b', 1);
  await readThrough(BEFORE + 28);
  await confirm();
  // With a last checkpoint, which says that these windows are done.
  await service.stop('SIGTERM');
  service = await start();
  await eventually('counted', async () => countOf('a') === 22 && countOf('b') === 1);
  expect(await leftOut()).toBe(0);
});

test('after a restart, what was stored under an earlier transform still counts', async (context) => {
  needsNats(context, '2.10');
  const all = 22;
  await confirm();
  await service.stop('SIGTERM');
  service = await start();
  expect(await run(0, 'count', '--name', 'a', '--json')).toMatchObject({ groups: [{ count: all }] });
  expect(await run(0, 'verify', '--json')).toMatchObject({ equal: true });
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
  await publish('metrics.a', 'a', 1);
  await eventually('filled again', async () => countOf('a') === all + 1);
  expect(countOf('audit')).toBe(0);
});

test('others to want in the same restart change nothing of that', async (context) => {
  needsNats(context, '2.10');
  await update({ subject_transform: { src: 'metrics.a', dest: 'again.a' } });
  await publish('metrics.a', 'a', 2);
  await publish('metrics.b', 'b', 1);
  await eventually('read', async () => (await service.status()).source.lastSequence >= (await lastOf()));
  wanted = 'metrics,metrics.>';
  await restart();
  await eventually('counted', async () => countOf('a') === 25 && countOf('b') === 2);
  await restart();
  expect(await leftOut()).toBe(0);
});

test('messages that only a stream that nobody saw could store are counted as left out, once', async (context) => {
  needsNats(context, '2.10');
  await confirm();
  await service.stop('SIGTERM');
  await update({ subject_transform: { src: 'metrics.>', dest: 'elsewhere.>' } });
  await publish('metrics.a', 'a', 2);
  await update({ subject_transform: { src: 'metrics.a', dest: 'again.a' } });
  await publish('metrics.b', 'b', 1);
  service = await start();
  await eventually('read', async () => (await service.status()).source.lastSequence >= (await lastOf()));
  // This process has not looked at the stream since then.
  await restart();
  await eventually('told', async () => (await leftOut()) === 2);
  expect(service.output.stderr).toContain('left out messages with subjects that the stream no longer stores');
  expect(await run(1, 'count', '--json')).toMatchObject({ remarks: [expect.stringMatching(/^2 messages/)] });
  await restart();
  await publish('metrics.b', 'b', 1);
  await eventually('read', async () => (await service.status()).source.lastSequence >= (await lastOf()));
  expect(await leftOut()).toBe(0);
});

test('a transform onto subjects that others publish is refused', async (context) => {
  needsNats(context, '2.10');
  await update({
    subjects: ['metrics', 'metrics.>', 'audit.>'],
    subject_transform: { src: 'metrics.a', dest: 'audit.a' },
  });
  await eventually('told', async () =>
    /together with other subjects/.test((await service.status()).source.unfit ?? ''),
  );
  expect((await service.status()).ready).toBe(false);
});
