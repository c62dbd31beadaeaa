/** The stream is deleted: either rows arrive again, or the service is not ready and says why. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { deleteStreams } from '../bus/deleted-streams.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

const TIMES = Number(process.env.DELETE_TIMES ?? 3);
const folder = temporaryFolder('deleted-stream');
const file = join(folder.path, 'a.db');
let nats: NatsServer;
let client: NatsConnection;
let service: ServiceProgram;

const variables = () => ({
  NATS_URL: nats.url,
  ...WINDOWS,
  SINK_SQLITE_ENABLED: 'true',
  SINK_SQLITE_PATH: file,
});

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
  service = await startServiceProgram(variables());
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

const readyz = async () => {
  const response = await fetch(`${service.url}/readyz`);
  return { code: response.status, text: await response.text() };
};

function publish(name: string): void {
  client.publish('metrics', JSON.stringify({ name, type: 'counter', value: 1 }));
}

function hasRow(name: string): boolean {
  if (!existsSync(file)) return false;
  const database = new DatabaseSync(file, { readOnly: true, timeout: LIMIT_MS });
  try {
    const isMade = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'points'").get() !== undefined;
    return isMade && database.prepare('SELECT 1 FROM points WHERE name = ?').get(name) !== undefined;
  } finally {
    database.close();
  }
}

test(`deleted ${TIMES} times`, async () => {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  publish('before');
  await eventually('a row is stored', async () => hasRow('before'));
  for (let time = 0; time < TIMES; time++) {
    for (let i = 0; i < 20_000; i++) publish('filler');
    await client.flush();
    await deleteStreams(nats, streams, ['METRICS']);
    await eventually('not ready', async () => (await readyz()).code === 503);
    await eventually('the stream is created again', async () => (await service.status()).source.unproven);
    expect(await readyz()).toEqual({
      code: 503,
      text: 'the stream was replaced and has delivered nothing\n',
    });
    const name = `after-${time}`;
    const isSettled = async () => {
      publish(name);
      return hasRow(name) || service.output.stderr.includes('the stream stores nothing of what is published');
    };
    await eventually('rows, or a log line that says why not', isSettled);
    expect((await readyz()).code).toBe(hasRow(name) ? 200 : 503);
    if (!hasRow(name)) return;
  }
});

test('the bucket of the checkpoints is deleted: not ready, and a log line says why, until it works again', async () => {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.delete('KV_fanout-checkpoints');
  await eventually('not ready', async () => {
    publish('on');
    return (await readyz()).code === 503;
  });
  expect(service.output.stderr).toMatch(
    /"level":"error".*not ready: the bucket of the checkpoints was deleted/,
  );
  await eventually('ready', async () => {
    publish('on');
    return (await readyz()).code === 200;
  });
  const bucket = await client.jetstream().views.kv('fanout-checkpoints', { bindOnly: true });
  expect((await bucket.get('default.sqlite.0-1'))?.string()).toContain('"next"');
});

test('a new stream that stores nothing: not ready, and a log line says why', async () => {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  const tiny = { name: 'METRICS', subjects: ['metrics', 'metrics.>'], max_msg_size: 1 };
  // The service may make it again in between.
  await eventually('a stream that takes nothing', async () => {
    await deleteStreams(nats, streams, ['METRICS']).catch(() => {});
    return await streams.add(tiny).then(
      () => true,
      () => false,
    );
  });
  await eventually('the new stream is found', async () => (await service.status()).source.unproven);
  await eventually('it is logged', async () => {
    publish('lost');
    return /"level":"error".*the stream stores nothing of what is published/.test(service.output.stderr);
  });
  expect((await readyz()).code).toBe(503);
  await deleteStreams(nats, streams, ['METRICS']);
  await eventually('a stream that works', async () => {
    publish('found');
    await sleep(100);
    return hasRow('found');
  });
  expect((await readyz()).code).toBe(200);
});

test('replaced while the service was down: what the old one held is a gap, counted and logged, once', async () => {
  const { streams } = await client.jetstreamManager();
  publish('read');
  await eventually('a row is stored', async () => hasRow('read'));
  await service.stop();
  publish('unread');
  await client.flush();
  const { config } = await streams.info('METRICS');
  await deleteStreams(nats, streams, ['METRICS']);
  await streams.add(config);
  service = await startServiceProgram(variables());
  const { gaps, latestGaps } = (await service.status()).source;
  expect(gaps).toBe(1);
  expect(Date.parse(latestGaps[0]!.from)).toBeLessThan(Date.parse(latestGaps[0]!.to));
  expect(service.output.stderr).toMatch(
    /"level":"error".*the stream is another one than that of the checkpoints/,
  );
  await eventually('rows of the new one', async () => {
    publish('new');
    return hasRow('new');
  });
  // A row is in the store before its window is confirmed, and the checkpoint past the gap.
  await service.untilConfirmed(Date.now());
  expect(await service.stop()).toBe(0);
  service = await startServiceProgram(variables());
  expect((await service.status()).source.gaps).toBe(0);
});
