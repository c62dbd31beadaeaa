/** Every store that this machine can run, each behind a link of its own that can be cut. */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startClickHouse } from '../../src/servers/clickhouse.ts';
import { type InfluxDb2, influxd2, startInfluxDb2 } from '../../src/servers/influxdb2.ts';
import { startPgBouncer } from '../../src/servers/pgbouncer.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { startStack } from '../../src/servers/stack.ts';
import { startLink } from '../chaos/link.ts';
import { BUCKET, KEYS, startS3 } from '../redshift/s3.ts';

/** Two writers with ten connections each. */
const POOL_SIZE = 20;
const CLICKHOUSE = { user: 'fanout', password: 'stores' };
/** The bucket of InfluxDB 2. */
const SOAKED = 'soak';
/** One write in so many is refused because there are too many. */
const THROTTLED_SHARE = 0.2;

export type Variables = Readonly<Record<string, string>>;

export interface Outage {
  readonly store: string;
  begin(): Promise<void>;
  end(): Promise<void>;
}

export interface Stores {
  /** For the service: through the links. */
  readonly throughLinks: Variables;
  /** For whoever compares. */
  readonly direct: Variables;
  readonly folder: string;
  /** Which versions these are, and what is left out. */
  readonly said: readonly string[];
  readonly outages: readonly Outage[];
  stop(): Promise<void>;
}

/** Where a setting names a server, and the port of it. */
type Place = readonly [variable: string, port: number];

/** The servers of all stores but S3, and the settings with which a sink finds each of them. */
export async function startServers() {
  const stack = await startStack();
  const clickhouse = await startClickHouse(CLICKHOUSE);
  const prometheus = await startPrometheusReceiver({ outOfOrder: '2h' });
  const pooler = await startPgBouncer({
    port: stack.postgres.port,
    password: new URL(stack.postgres.url).password,
    mode: 'transaction',
    poolSize: POOL_SIZE,
  });
  const pooled = new URL(await stack.postgres.createDatabase('pooled'));
  pooled.port = String(pooler.port);
  const parquet = join(stack.folder, 'parquet');
  mkdirSync(parquet);
  // Debian has none.
  const influxdb2 = influxd2() === undefined ? undefined : await startInfluxDb2();
  const env = {
    ...stack.env,
    ...(await settingsOf(influxdb2)),
    SINK_POSTGRES_ENABLED: 'true',
    SINK_POSTGRES_URL: await stack.postgres.createDatabase('keyed'),
    SINK_POOLED_ENABLED: 'true',
    SINK_POOLED_KIND: 'redshift',
    SINK_POOLED_URL: pooled.href,
    SINK_CLICKHOUSE_ENABLED: 'true',
    SINK_CLICKHOUSE_URL: clickhouse.url,
    SINK_CLICKHOUSE_USER: CLICKHOUSE.user,
    SINK_CLICKHOUSE_PASSWORD: CLICKHOUSE.password,
    SINK_PROMETHEUS_ENABLED: 'true',
    SINK_PROMETHEUS_URL: `${prometheus.url}/api/v1/write`,
    SINK_FOLDER_ENABLED: 'true',
    SINK_FOLDER_KIND: 'parquet',
    SINK_FOLDER_URL: pathToFileURL(parquet).href,
  };
  return {
    stack,
    clickhouse,
    prometheus,
    influxdb2,
    pooler,
    parquet,
    env,
    async stop() {
      await Promise.all([pooler.stop(), prometheus.stop(), clickhouse.stop(), influxdb2?.stop()]);
      await stack.stop();
    },
  };
}

async function settingsOf(influxdb2: InfluxDb2 | undefined): Promise<Variables> {
  if (influxdb2 === undefined) return {};
  await influxdb2.createBucket(SOAKED);
  return {
    SINK_INFLUXDB2_ENABLED: 'true',
    SINK_INFLUXDB2_KIND: 'influxdb',
    SINK_INFLUXDB2_API: 'v2',
    SINK_INFLUXDB2_URL: influxdb2.url,
    SINK_INFLUXDB2_TOKEN: influxdb2.token,
    SINK_INFLUXDB2_ORG: influxdb2.org,
    SINK_INFLUXDB2_BUCKET: SOAKED,
  };
}

/** What the real servers say of their versions, and what is left out because it is not here. */
async function saidOf({ prometheus, clickhouse, influxdb2 }: Awaited<ReturnType<typeof startServers>>) {
  const build = (await fetch(`${prometheus.url}/api/v1/status/buildinfo`)).json();
  const { version } = ((await build) as { data: { version: string } }).data;
  const health = async (url: string) =>
    ((await (await fetch(`${url}/health`)).json()) as { version: string }).version;
  return [
    `Prometheus ${version}`,
    `ClickHouse ${(await clickhouse.execute('SELECT version()')).trim()}`,
    influxdb2 === undefined
      ? 'skipped: InfluxDB 2, since there is no influxd of version 2 on the PATH'
      : `InfluxDB ${await health(influxdb2.url)}, beside 1.x`,
  ];
}

export async function startStores(): Promise<Stores> {
  const servers = await startServers();
  const { stack, clickhouse, prometheus, influxdb2, pooler, parquet, env } = servers;
  const s3 = await startS3();
  const throttle = await startThrottle(stack.dynamodb.port);
  const direct = {
    ...env,
    SINK_DYNAMODB_ENDPOINT: stack.dynamodb.url.replace(`:${stack.dynamodb.port}`, `:${throttle.port}`),
    SINK_BUCKET_ENABLED: 'true',
    SINK_BUCKET_KIND: 'parquet',
    SINK_BUCKET_URL: `s3://${BUCKET}/soak`,
    SINK_BUCKET_ENDPOINT: s3.front,
    AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    AWS_REGION: 'us-east-1',
  };
  const places: Record<string, Place> = {
    influxdb: ['SINK_INFLUXDB_URL', stack.influxdb.port],
    redshift: ['SINK_REDSHIFT_URL', stack.postgres.port],
    postgres: ['SINK_POSTGRES_URL', stack.postgres.port],
    pooled: ['SINK_POOLED_URL', pooler.port],
    dynamodb: ['SINK_DYNAMODB_ENDPOINT', throttle.port],
    clickhouse: ['SINK_CLICKHOUSE_URL', Number(new URL(clickhouse.url).port)],
    prometheus: ['SINK_PROMETHEUS_URL', Number(new URL(prometheus.url).port)],
    bucket: ['SINK_BUCKET_ENDPOINT', Number(new URL(s3.front).port)],
  };
  if (influxdb2 !== undefined) places.influxdb2 = ['SINK_INFLUXDB2_URL', influxdb2.port];
  const links = await linksTo(direct, places);
  return {
    said: await saidOf(servers),
    throughLinks: links.variables,
    direct,
    folder: stack.folder,
    outages: [...links.outages, folderOutage(parquet)],
    async stop() {
      await links.stop();
      throttle.close();
      await s3.stop();
      await servers.stop();
    },
  };
}

async function linksTo(direct: Variables, places: Readonly<Record<string, Place>>) {
  const variables: Record<string, string> = { ...direct };
  const outages: Outage[] = [];
  const stops: (() => Promise<void>)[] = [];
  for (const [store, [variable, port]] of Object.entries(places)) {
    const link = await startLink(port);
    variables[variable] = direct[variable]!.replace(`:${port}`, `:${link.port}`);
    outages.push({ store, begin: () => link.proxy.refuse(), end: () => link.proxy.pass() });
    stops.push(() => link.stop());
  }
  return { variables, outages, stop: async () => void (await Promise.all(stops.map((stop) => stop()))) };
}

/** As if its file system was unmounted: another folder, and an empty one, is in its place. */
function folderOutage(folder: string): Outage {
  const away = `${folder}-away`;
  return {
    store: 'folder',
    async begin() {
      renameSync(folder, away);
      mkdirSync(folder);
    },
    async end() {
      if (existsSync(folder)) renameSync(folder, `${folder}-underneath`);
      renameSync(away, folder);
    },
  };
}

/** Passes requests on to DynamoDB's emulator, which takes everything, and refuses some writes as a busy table does. */
async function startThrottle(target: number): Promise<{ readonly port: number; close(): void }> {
  const server = createServer((incoming: IncomingMessage, outgoing: ServerResponse) => {
    const isWrite = String(incoming.headers['x-amz-target']).endsWith('.BatchWriteItem');
    if (isWrite && Math.random() < THROTTLED_SHARE) {
      incoming.resume();
      outgoing.writeHead(400, { 'content-type': 'application/x-amz-json-1.0' });
      outgoing.end('{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}');
      return;
    }
    const { method, url, headers } = incoming;
    const passed = request({ port: target, host: '127.0.0.1', method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: () => void server.close() };
}
