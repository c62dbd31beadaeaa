/** Parquet files are set back to an older copy while the service is stopped: it writes again what they lack. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { BUCKET, KEYS, type S3, startS3 } from '../redshift/s3.ts';
import { eventually, untilReceipt } from './control-support.ts';
import { sample, storedPoints, WINDOW_MS, WINDOWS } from './support.ts';

const SAMPLES = 30;
const AWS = {
  AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
  AWS_REGION: 'us-east-1',
};

const folder = temporaryFolder('restored-lake');
let nats: NatsServer;
let client: NatsConnection;
let s3: S3;
let service: ServiceProgram | undefined;

beforeAll(async () => {
  for (const [name, value] of Object.entries(AWS)) vi.stubEnv(name, value);
  [nats, s3] = await Promise.all([startNats(), startS3()]);
  client = await connect({ servers: nats.url });
});
afterEach(async () => {
  await service?.stop('SIGKILL');
});
afterAll(async () => {
  await client?.close();
  await Promise.all([nats?.stop(), s3?.stop()]);
  vi.unstubAllEnvs();
  folder.remove();
});

/** A copy of all files, which is put back in their place. */
interface Root {
  readonly variables: Readonly<Record<string, string>>;
  backUp(): Promise<void>;
  setBack(): Promise<void>;
}

function ofFolder(): Root {
  const [root, backup] = [join(folder.path, 'lake'), join(folder.path, 'backup')];
  return {
    variables: { SINK_LAKE_URL: pathToFileURL(root).href },
    backUp: async () => cpSync(root, backup, { recursive: true }),
    async setBack() {
      rmSync(root, { recursive: true });
      cpSync(backup, root, { recursive: true });
    },
  };
}

function ofBucket(): Root {
  const backup = new Map<string, Uint8Array>();
  return {
    variables: { ...AWS, SINK_LAKE_URL: `s3://${BUCKET}/lake`, SINK_LAKE_ENDPOINT: s3.front },
    async backUp() {
      const reader = new S3Client({ endpoint: s3.endpoint, forcePathStyle: true });
      for (const Key of await s3.keys()) {
        const { Body } = await reader.send(new GetObjectCommand({ Bucket: BUCKET, Key }));
        backup.set(Key, await Body!.transformToByteArray());
      }
      reader.destroy();
    },
    async setBack() {
      for (const key of await s3.keys()) await s3.delete(key);
      for (const [key, bytes] of backup) await s3.put(key, bytes);
    },
  };
}

const publish = async () => {
  const body = JSON.stringify({ name: 'a', type: 'counter', value: 1 });
  for (let i = 0; i < SAMPLES; i++) await client.jetstream({ timeout: LIMIT_MS }).publish('metrics', body);
};
const metric = async (name: string) =>
  sample(await (await fetch(`${service!.url}/metrics`)).text(), `${name}{sink="lake"}`);

test.each([
  ['a folder', ofFolder],
  ['a bucket', ofBucket],
])('%s that is set back to an older copy gets again what it lacks', async (what, make) => {
  const root = make();
  const env = {
    ...WINDOWS,
    ...root.variables,
    NATS_URL: nats.url,
    PIPELINE: what.replace(' ', '-'),
    METRICS_START: 'now',
    SINK_LAKE_ENABLED: 'true',
    SINK_LAKE_KIND: 'parquet',
  };
  const start = async () => {
    service = await startServiceProgram(env);
    return service;
  };
  const sum = async () => (await storedPoints(env, 'lake')).reduce((total, point) => total + point.sum, 0);
  const first = await start();
  await publish();
  await first.untilConfirmed(Date.now());
  expect((await first.status()).sinks[0]!.receipts).toMatchObject({ state: 'kept', failures: 0 });
  await first.stop('SIGTERM');
  await root.backUp();
  const backedUpAt = Date.now();
  const second = await start();
  await publish();
  await second.untilConfirmed(Date.now());
  await untilReceipt(client, `${env.PIPELINE}.lake.0-1`, backedUpAt);
  expect(await sum()).toBe(2 * SAMPLES);
  expect(await metric('fanout_sink_refills_total')).toBe(0);
  await second.stop('SIGTERM');
  await root.setBack();
  expect(await sum()).toBe(SAMPLES);
  const third = await start();
  await eventually('all of it', async () => (await sum()) === 2 * SAMPLES);
  // The answer may be some time old.
  await eventually('a refill', async () => (await metric('fanout_sink_refills_total')) === 1);
  const [, from] = /"from":"([^"]+)".*the store holds older content/.exec(third.output.stderr)!;
  // What the copy has is not written again, but for the windows around it.
  expect(Date.parse(from!)).toBeGreaterThan(backedUpAt - 10 * WINDOW_MS);
  await eventually('all confirmed', async () => (await third.status()).sinks[0]!.state === 'live');
  await third.untilConfirmed(Date.now());
  await third.stop('SIGTERM');
  // The store that was filled again is as far as its checkpoint says.
  const fourth = await start();
  await fourth.untilConfirmed(Date.now());
  expect(await metric('fanout_sink_refills_total')).toBe(0);
  expect(await sum()).toBe(2 * SAMPLES);
});

test('a receipt costs a bucket at most one object put for each window', async () => {
  service = await startServiceProgram({
    ...WINDOWS,
    ...ofBucket().variables,
    SINK_LAKE_URL: `s3://${BUCKET}/paced`,
    NATS_URL: nats.url,
    PIPELINE: 'paced',
    SINK_LAKE_ENABLED: 'true',
    SINK_LAKE_KIND: 'parquet',
  });
  const puts = () => s3.requests.filter((request) => /^PUT \/[^?]*\/paced\/_receipt\./.test(request)).length;
  await eventually('the first', async () => puts() > 0);
  const next = async () => Date.parse((await service!.status()).sinks[0]!.next!);
  const [from, before] = [await next(), puts()];
  // Windows without rows give none.
  const send = async () => {
    while (!isOver) await publish();
  };
  let isOver = false;
  const sending = send();
  await service.untilConfirmed(from + 5 * WINDOW_MS);
  isOver = true;
  await sending;
  // Then nothing is under way any more.
  await service.untilConfirmed(Date.now());
  const [after, to] = [puts(), await next()];
  expect(after).toBeGreaterThan(before);
  // The one for the window before `from` may have been under way.
  expect(after - before).toBeLessThanOrEqual((to - from) / WINDOW_MS + 1);
});
