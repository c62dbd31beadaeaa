/** Every store over TLS. Certificates are verified by default, and only those of a known authority are trusted. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startClickHouse } from '../../src/servers/clickhouse.ts';
import { startDynamoDb } from '../../src/servers/dynamodb.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { startPostgres } from '../../src/servers/postgres.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { type Certificates, makeCertificates } from '../bus/credentials.ts';
import { type Certificate, startTlsFront, type TlsFront } from '../faults/tls.ts';
import { BUCKET, KEYS, startS3 } from '../redshift/s3.ts';
import { KEY, startReceiver } from '../sinks/otlp-receiver.ts';

const CLICKHOUSE = { user: 'fanout', password: 'pass' };
const folder = temporaryFolder('tls');
const ends: (() => unknown)[] = [];
let certificates: Certificates;
/** Ports by kind of sink. */
let ports: Readonly<Record<string, number>>;
let postgresUrl: string;

async function started<S extends Pick<Server, 'port'>>(starting: Promise<S & { stop(): unknown }>) {
  const server = await starting;
  ends.push(() => server.stop());
  return server;
}

beforeAll(async () => {
  certificates = makeCertificates(folder.path);
  const postgres = await started(startPostgres());
  const [influxdb, dynamodb, clickhouse, prometheus, otlp, s3] = await Promise.all([
    started(startInfluxDb()),
    started(startDynamoDb()),
    started(startClickHouse(CLICKHOUSE)),
    started(startPrometheusReceiver({})),
    startReceiver(),
    startS3(),
  ]);
  ends.push(
    () => otlp.stop(),
    () => s3.stop(),
  );
  postgresUrl = postgres.url;
  ports = {
    influxdb: influxdb.port,
    dynamodb: dynamodb.port,
    clickhouse: clickhouse.port,
    prometheus: prometheus.port,
    otlp: otlp.port,
    redshift: postgres.port,
    postgres: postgres.port,
    parquet: Number(new URL(s3.front).port),
  };
});
afterAll(async () => {
  await Promise.all(ends.map((end) => end()));
  folder.remove();
});

/** Puts all stores behind TLS with this certificate. */
async function startFronts(certificate: Certificate): Promise<Record<string, TlsFront>> {
  const fronts: Record<string, TlsFront> = {};
  for (const [kind, port] of Object.entries(ports)) {
    const speaks = kind === 'redshift' || kind === 'postgres' ? 'postgres' : 'any';
    fronts[kind] = await startTlsFront(port, certificate, speaks);
    ends.push(fronts[kind].stop);
  }
  return fronts;
}

/** What `check` finds for each sink. */
async function check(fronts: Record<string, TlsFront>, env: Record<string, string> = {}) {
  const url = (kind: string) => `https://127.0.0.1:${fronts[kind]!.port}`;
  const postgres = (kind: string) => postgresUrl.replace(/:\d+\//, `:${fronts[kind]!.port}/`);
  const program = startProgram(['check', '--json'], {
    NATS_URL: 'nats://127.0.0.1:1',
    SINK_INFLUXDB_ENABLED: 'true',
    SINK_INFLUXDB_API: 'v1',
    SINK_INFLUXDB_URL: url('influxdb'),
    SINK_INFLUXDB_DATABASE: 'fanout',
    SINK_DYNAMODB_ENABLED: 'true',
    SINK_DYNAMODB_ENDPOINT: url('dynamodb'),
    SINK_DYNAMODB_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: KEYS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
    SINK_CLICKHOUSE_ENABLED: 'true',
    SINK_CLICKHOUSE_URL: url('clickhouse'),
    SINK_CLICKHOUSE_USER: CLICKHOUSE.user,
    SINK_CLICKHOUSE_PASSWORD: CLICKHOUSE.password,
    SINK_PROMETHEUS_ENABLED: 'true',
    SINK_PROMETHEUS_URL: `${url('prometheus')}/api/v1/write`,
    SINK_OTLP_ENABLED: 'true',
    SINK_OTLP_URL: url('otlp'),
    SINK_OTLP_HEADERS: `api-key=${KEY}`,
    SINK_REDSHIFT_ENABLED: 'true',
    SINK_REDSHIFT_URL: `${postgres('redshift')}?sslmode=require`,
    SINK_POSTGRES_ENABLED: 'true',
    SINK_POSTGRES_URL: `${postgres('postgres')}?sslmode=require`,
    SINK_POSTGRES_TABLE: 'points_of_postgres',
    SINK_PARQUET_ENABLED: 'true',
    SINK_PARQUET_URL: `s3://${BUCKET}/tls`,
    SINK_PARQUET_ENDPOINT: url('parquet'),
    SINK_PARQUET_REGION: 'us-east-1',
    ...env,
  });
  await program.ended;
  const findings = JSON.parse(program.output.stdout) as { what: string; state: string; advice: string }[];
  return new Map(
    findings.flatMap(({ what, state, advice }) => {
      const kind = /\((\w+)\)/.exec(what)?.[1];
      return kind === undefined ? [] : [[kind, { state, advice }] as const];
    }),
  );
}

test('a certificate of an unknown authority is refused before anything is sent, unless NODE_EXTRA_CA_CERTS has it', async () => {
  const fronts = await startFronts(certificates.server);
  const unknown = await check(fronts);
  expect([...unknown.keys()].sort()).toEqual(Object.keys(ports).sort());
  for (const [kind, found] of unknown) {
    const advice = expect.stringMatching(/NODE_EXTRA_CA_CERTS/);
    expect(found, kind).toEqual({ state: 'failed', advice });
    expect(fronts[kind]!.passed, kind).toBe(0);
  }
  const known = await check(fronts, { NODE_EXTRA_CA_CERTS: certificates.ca });
  expect(Object.fromEntries(known)).toEqual(
    Object.fromEntries(Object.keys(ports).map((kind) => [kind, { state: 'ok', advice: '' }])),
  );
});

test('a certificate of a known authority for another name is refused before anything is sent', async () => {
  const fronts = await startFronts(certificates.named);
  for (const [kind, found] of await check(fronts, { NODE_EXTRA_CA_CERTS: certificates.ca })) {
    expect(found, kind).toEqual({ state: 'failed', advice: expect.stringMatching(/name/) });
    expect(fronts[kind]!.passed, kind).toBe(0);
  }
});
