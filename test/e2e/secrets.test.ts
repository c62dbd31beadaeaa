/**
 * Secrets are planted in every setting that can hold one. Then everything goes wrong that can. Nothing that the program
 * writes, answers or leaves behind may contain a secret.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startPostgres } from '../../src/servers/postgres.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { makeCertificate, startTlsFront } from '../faults/tls.ts';
import { ask, askEverybody, ended, eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

const folder = temporaryFolder('secrets');
const ends: (() => unknown)[] = [];
const planted = new Map<string, string>();
let nats: NatsServer;
let env: Record<string, string>;
let service: ServiceProgram;
let client: NatsConnection;

/** Makes a text that does not occur anywhere else, with characters that URLs and JSON escape. */
function secret(of: string): string {
  const made = `pl4nted/${of}"7c41`;
  planted.set(of, made);
  return made;
}

const inUrl = (of: string) => encodeURIComponent(secret(of));

/** The text must not contain a secret, neither plain nor as in URLs, JSON or Basic authorization. */
function expectClean(what: string, text: string): void {
  expect(text.length, what).toBeGreaterThan(0);
  for (const [of, value] of planted) {
    // Whatever precedes the secret, base64 encodes its middle like one of these three shifts.
    const shifts = [0, 1, 2].map((shift) =>
      Buffer.from(' '.repeat(shift) + value)
        .toString('base64')
        .slice(shift + 2, -4),
    );
    const forms = [
      value,
      encodeURIComponent(value),
      JSON.stringify(value).slice(1, -1),
      `pl4nted/${of}`,
      ...shifts,
    ];
    expect(
      forms.filter((form) => text.includes(form)),
      `${what} contains the secret of ${of}`,
    ).toEqual([]);
  }
}

/** A proxy that refuses everything, and echoes the request with its headers. */
async function startEcho(): Promise<number> {
  const server = createServer(({ url, headers }, response) => {
    response.writeHead(401, { 'content-type': 'text/plain' });
    response.end(`not permitted: ${url} ${JSON.stringify(headers)}`);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  ends.push(() => server.close().closeAllConnections());
  return (server.address() as { port: number }).port;
}

/** Throws on SIGUSR2. */
const CRASH = `
import { isMainThread } from 'node:worker_threads';
if (isMainThread) process.on('SIGUSR2', () => { throw new Error('told to crash'); });
`;

beforeAll(async () => {
  const natsPassword = secret('nats');
  nats = await startNats({ auth: { kind: 'user', user: 'fan', password: natsPassword } });
  ends.push(() => nats.stop());
  const [influxdb, postgres, echo] = [
    await startInfluxDb({ admin: { user: 'admin', password: 'other' } }),
    await startPostgres(),
    await startEcho(),
  ];
  ends.push(
    () => influxdb.stop(),
    () => postgres.stop(),
  );
  const front = await startTlsFront(echo, makeCertificate(folder.path, 'localhost'));
  ends.push(front.stop);
  const crash = join(folder.path, 'crash.mjs');
  writeFileSync(crash, CRASH);
  const tokenFile = join(folder.path, 'token');
  writeFileSync(tokenFile, secret('token_file'));
  const on = (...ids: string[]) =>
    Object.fromEntries(ids.flatMap((id) => [[`SINK_${id}_ENABLED`, 'true']] as const));
  env = {
    ...WINDOWS,
    ...on(
      'WRONG',
      'REFUSED',
      'REDSHIFT',
      'POSTGRES',
      'PARQUET',
      'ELSEWHERE',
      'CLICKHOUSE',
      'UNTRUSTED',
      'PROMETHEUS',
      'OTLP',
      'DYNAMODB',
    ),
    NATS_URL: `nats://fan:${encodeURIComponent(natsPassword)}@127.0.0.1:${nats.port}`,
    CONTROL_TOKEN: secret('control'),
    CONTROL_CALLBACK_SECRET: secret('callback'),
    SINK_WRONG_KIND: 'influxdb',
    SINK_WRONG_API: 'v1',
    SINK_WRONG_URL: influxdb.url,
    SINK_WRONG_DATABASE: 'fanout',
    SINK_WRONG_USER: 'admin',
    SINK_WRONG_PASSWORD: secret('influxdb'),
    SINK_REFUSED_KIND: 'influxdb',
    SINK_REFUSED_URL: 'http://127.0.0.1:1',
    SINK_REFUSED_TOKEN_FILE: tokenFile,
    SINK_REFUSED_ORG: 'org',
    SINK_REFUSED_BUCKET: 'bucket',
    SINK_REDSHIFT_URL: `postgres://postgres:${inUrl('redshift')}@127.0.0.1:${postgres.port}/postgres`,
    SINK_POSTGRES_URL: `postgres://postgres:${inUrl('postgres')}@127.0.0.1:${postgres.port}/postgres`,
    SINK_PARQUET_URL: 's3://bucket/prefix',
    SINK_PARQUET_ENDPOINT: `http://127.0.0.1:${echo}`,
    SINK_PARQUET_REGION: 'us-east-1',
    SINK_ELSEWHERE_KIND: 'redshift',
    SINK_ELSEWHERE_URL: `postgres://127.0.0.1:1/x?user=u&password=${inUrl('redshift_query')}`,
    SINK_CLICKHOUSE_URL: `http://127.0.0.1:${echo}`,
    SINK_CLICKHOUSE_PASSWORD: secret('clickhouse'),
    SINK_UNTRUSTED_KIND: 'clickhouse',
    SINK_UNTRUSTED_URL: `https://localhost:${front.port}`,
    SINK_UNTRUSTED_PASSWORD: secret('untrusted'),
    SINK_PROMETHEUS_URL: `http://u:${inUrl('prometheus')}@127.0.0.1:${echo}/api/v1/write?api_key=${inUrl('prometheus_key')}`,
    SINK_PROMETHEUS_HEADERS: `x-scope-key=${inUrl('prometheus_header')}`,
    SINK_OTLP_URL: `http://127.0.0.1:${echo}/v1/metrics?sig=${inUrl('otlp_query')}`,
    SINK_OTLP_HEADERS: `authorization=Bearer ${secret('otlp')}`,
    SINK_DYNAMODB_ENDPOINT: `http://127.0.0.1:${echo}`,
    SINK_DYNAMODB_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
    AWS_SECRET_ACCESS_KEY: secret('aws'),
    AWS_SESSION_TOKEN: secret('aws_session'),
    LOG_LEVEL: 'debug',
    VERIFY_SHARE: '1',
    PROBE_INTERVAL: '1s',
    NODE_OPTIONS: `--import=${crash} --report-uncaught-exception --report-directory=${folder.path}`,
  };
  service = await startServiceProgram(env);
  client = await connect({ servers: nats.url, user: 'fan', pass: natsPassword });
  for (let i = 0; i < 50; i++) client.publish('metrics', `{"name":"n${i}","type":"timer","value":${i}}`);
  await client.flush();
  const sinks = async () => (await service.status()).sinks;
  const allFail = async () => (await sinks()).every(({ lastFailure }) => lastFailure !== null);
  await eventually('every sink has failed', allFail);
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await Promise.all(ends.map((end) => end()));
  folder.remove();
});

test('no HTTP route reveals a secret', async () => {
  for (const path of ['/', '/metrics', '/healthz', '/readyz', '/api/status', '/absent?token=1']) {
    const headers = path === '/' ? { accept: 'text/html' } : {};
    expectClean(path, await (await fetch(service.url + path, { headers })).text());
  }
  const events = await fetch(`${service.url}/api/events`);
  const { value } = await events.body!.getReader().read();
  expectClean('/api/events', Buffer.from(value!).toString());
  const authorization = `Bearer ${planted.get('control')}`;
  for (const [operation, token] of [
    ['config', authorization],
    ['status', authorization],
    ['config', 'Bearer wrong'],
  ] as const) {
    const response = await fetch(`${service.url}/control/all/${operation}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: token },
      body: '{}',
    });
    expectClean(`/control/all/${operation}`, await response.text());
  }
});

test('no answer on the bus and no report of a task reveals a secret', async () => {
  for (const operation of ['config', 'status'])
    expectClean(operation, JSON.stringify(await ask(client, 'all', operation)));
  for (const verb of ['PING', 'INFO', 'STATS'])
    expectClean(verb, JSON.stringify(await askEverybody(client, `$SRV.${verb}`)));
  const from = new Date(Date.now() - 60_000).toISOString();
  for (const [operation, request] of [
    ['verify', { from }],
    ['replay', { sink: 'clickhouse', from, to: new Date(Date.now() - 50_000).toISOString() }],
  ] as const) {
    const answer = await ask(client, 'all', operation, request);
    expectClean(operation, JSON.stringify([answer, await ended(client, 'all', answer)]));
  }
});

test('no command prints a secret, whatever is wrong', async () => {
  const wrong = { NATS_URL: `nats://fan:${inUrl('nats_wrong')}@127.0.0.1:${nats.port}` };
  const bad = {
    NATS_URL: `http://u:${inUrl('bad_nats')}@h`,
    SINK_PROMETHEUS_URL: `ftp://u:${inUrl('bad_url')}@h/?sig=${inUrl('bad_query')}`,
    SINK_REDSHIFT_URL: `no url ${secret('no_url')}`,
    SINK_OTLP_HEADERS: `no headers ${secret('no_headers')}`,
  };
  const runs = [
    [['config'], {}, 0],
    [['check'], {}, 1],
    [['run'], { ...wrong, HTTP_PORT: '0' }, 1],
    [['run'], { ...bad, HTTP_PORT: '0' }, 78],
    [['verify', '--from', new Date(Date.now() - 5000).toISOString()], {}, 1],
  ] as const;
  await Promise.all(
    runs.map(async ([args, more, code]) => {
      const program = startProgram(args, { ...env, ...more });
      expect(await program.ended, args.join(' ')).toBe(code);
      expectClean(args.join(' '), program.output.stdout + program.output.stderr);
    }),
  );
});

test('there is no secret in the list of processes, in the log, or in what a crash leaves behind', async () => {
  const pid = service.child.pid!;
  expectClean('the command line', readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  process.kill(pid, 'SIGUSR2');
  expect(await service.ended).not.toBe(0);
  expect(service.output.stderr).toMatch(/told to crash/);
  expectClean('the log', service.output.stderr);
  const reports = readdirSync(folder.path).filter((name) => name.startsWith('report.'));
  expect(reports).toHaveLength(1);
  expectClean('the diagnostic report', readFileSync(join(folder.path, reports[0]!), 'utf8'));
});
