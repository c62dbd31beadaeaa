/** Stores that are reached only through a proxy. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startDynamoDb } from '../../src/servers/dynamodb.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { type HttpProxy, startProxy } from '../../src/servers/tinyproxy.ts';
import { makeCertificates } from '../bus/credentials.ts';
import { startTlsFront } from '../faults/tls.ts';

/** This machine under an address that is not that of the loopback: for that, no proxy is asked. */
const HOST = '0.0.0.0';

const folder = temporaryFolder('proxied');
const ends: (() => unknown)[] = [];
let proxy: HttpProxy;
/** Host and port by kind of sink. */
let places: Readonly<Record<'influxdb' | 'dynamodb' | 'prometheus' | 'tls', string>>;

async function started<S extends Pick<Server, 'port' | 'stop'>>(starting: Promise<S>): Promise<S> {
  const server = await starting;
  ends.push(() => server.stop());
  return server;
}

beforeAll(async () => {
  const { named } = makeCertificates(folder.path);
  const [influxdb, dynamodb, prometheus] = await Promise.all([
    started(startInfluxDb()),
    started(startDynamoDb()),
    started(startPrometheusReceiver({})),
  ]);
  const front = await startTlsFront(influxdb.port, named, 'any');
  ends.push(() => front.stop());
  const place = ({ port }: { readonly port: number }) => `${HOST}:${port}`;
  places = {
    influxdb: place(influxdb),
    dynamodb: place(dynamodb),
    prometheus: place(prometheus),
    tls: place(front),
  };
  proxy = await started(startProxy());
});
afterAll(async () => {
  await Promise.all(ends.map((end) => end()));
  folder.remove();
});

async function check(env: Record<string, string>) {
  const before = proxy.asked();
  const program = startProgram(['check', '--json'], {
    NATS_URL: 'nats://127.0.0.1:1',
    SINK_INFLUXDB_ENABLED: 'true',
    SINK_INFLUXDB_API: 'v1',
    SINK_INFLUXDB_URL: `http://${places.influxdb}`,
    SINK_INFLUXDB_DATABASE: 'fanout',
    SINK_DYNAMODB_ENABLED: 'true',
    SINK_DYNAMODB_ENDPOINT: `http://${places.dynamodb}`,
    SINK_DYNAMODB_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'emulator',
    AWS_SECRET_ACCESS_KEY: 'emulator',
    SINK_PROMETHEUS_ENABLED: 'true',
    SINK_PROMETHEUS_URL: `http://${places.prometheus}/api/v1/write`,
    ...env,
  });
  await program.ended;
  const findings = JSON.parse(program.output.stdout) as { what: string; state: string; detail: string }[];
  const sinks = findings.filter(({ what }) => what.startsWith('sink'));
  const asked = proxy.asked().filter((place) => !before.includes(place));
  return { states: sinks.map(({ state }) => state), sinks, asked, output: program.output };
}

test('NO_PROXY: the proxy is not asked for what it names, nor for this machine', async () => {
  const blocked = { HTTP_PROXY: proxy.url, NO_PROXY: 'example.org, 0.0.0.0/8' };
  expect(await check(blocked)).toMatchObject({ states: ['ok', 'ok', 'ok'], asked: [] });
  const here = {
    HTTP_PROXY: proxy.url,
    SINK_INFLUXDB_URL: `http://${places.influxdb.replace(HOST, '127.0.0.1')}`,
  };
  const { states, asked, output } = await check(here);
  expect(states, output.stdout).toEqual(['ok', 'ok', 'ok']);
  expect(asked.sort()).toEqual([places.dynamodb, places.prometheus].sort());
});

test('http_proxy: every sink over HTTP goes through it', async () => {
  const { states, asked, output } = await check({ http_proxy: proxy.url });
  expect(states, output.stdout).toEqual(['ok', 'ok', 'ok']);
  expect(asked).toContain(places.influxdb);
});

test('HTTPS_PROXY: a tunnel, through which certificates are verified', async () => {
  const { sinks, asked } = await check({
    HTTPS_PROXY: proxy.url,
    SINK_INFLUXDB_URL: `https://${places.tls}`,
  });
  expect(asked).toEqual([places.tls]);
  expect(sinks.find(({ what }) => what.includes('influxdb'))).toMatchObject({ state: 'failed' });
});

test('a proxy that does not work is an error of the sink, and its password is masked', async () => {
  const { states, output } = await check({ HTTP_PROXY: 'http://user:pass-of-proxy@127.0.0.1:1' });
  expect(states).toEqual(['failed', 'failed', 'failed']);
  expect(output.stdout + output.stderr).not.toContain('pass-of-proxy');
  const socks = await check({ HTTP_PROXY: 'socks5://127.0.0.1:1' });
  expect(socks.output.stderr).toContain('HTTP_PROXY: a proxy is named by a URL with http or https');
});
