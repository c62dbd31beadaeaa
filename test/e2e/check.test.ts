import { once } from 'node:events';
import { symlinkSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect } from '../../src/bus/connect.ts';
import { bucketExists } from '../../src/bus/kv/bucket.ts';
import { ensureStream, manager, streamExists } from '../../src/bus/stream.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { KEY, startReceiver } from '../sinks/otlp-receiver.ts';
import { eventually } from './control-support.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack?.stop();
});

async function check(env: Record<string, string>, ...args: string[]) {
  const program = startProgram(['check', ...args], env);
  return { code: await program.ended, ...program.output };
}

interface Finding {
  readonly what: string;
  readonly state: string;
  readonly detail: string;
  readonly advice: string;
}

test('check creates nothing on the bus, and says that the service will', async () => {
  const { code, stdout } = await check({ ...stack.env }, '--json');
  const findings = JSON.parse(stdout) as Finding[];
  expect(code).toBe(0);
  expect(findings.find(({ what }) => what === 'stream METRICS')).toMatchObject({
    state: 'ok',
    detail: expect.stringMatching(/^does not exist yet; the service creates it.* at most 8\.6 GB on disk$/),
  });
  const { core } = await loadConfig({ NATS_URL: stack.nats.url });
  const bus = await connect(core, { debug() {}, info() {}, warn() {}, error() {} });
  expect(await streamExists(bus, 'METRICS')).toBe(false);
  expect(await bucketExists(bus)).toBe(false);
  await bus.close();
});

test('check warns of variables that have no effect', async () => {
  const odd = { METRICS_STRAEM: 'x', SINK_POSTGRES_URL: 'postgres://db/db' };
  const { code, stdout } = await check({ ...stack.env, ...odd }, '--json');
  expect(code).toBe(0);
  expect((JSON.parse(stdout) as Finding[])[0]).toEqual({
    what: 'settings',
    state: 'warn',
    detail:
      'METRICS_STRAEM is not a setting: did you mean METRICS_STREAM?; SINK_POSTGRES_URL is set, but SINK_POSTGRES_ENABLED is not: this sink is off',
    advice: 'Correct or remove what has no effect.',
  });
  const told = await check({ ...stack.env, ...odd });
  expect(told.stdout).toContain('1 warn');
  expect(told.stdout).toMatch(/^settings +warn +METRICS_STRAEM/m);
});

test('check says if MAX_SERIES_BYTES does not fit into the memory', async () => {
  const env = { ...stack.env, MAX_SERIES_BYTES: '1TB' };
  const { code, stdout } = await check(env, '--json');
  const memory = (JSON.parse(stdout) as Finding[]).find(({ what }) => what === 'memory');
  expect(code).toBe(1);
  expect(memory).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/^at most 14 TB with MAX_SERIES_BYTES, of [\d.]+ [MG]B here$/),
    advice: 'Lower MAX_SERIES_BYTES, or give the process more memory.',
  });
});

test('if all is well, check writes, reads and removes a probe point in every store', async () => {
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  const { core } = await loadConfig({ NATS_URL: stack.nats.url });
  const bus = await connect(core, silent);
  await ensureStream(bus, core);
  await bus.close();
  const { code, stdout } = await check({ ...stack.env });
  expect(code, stdout).toBe(0);
  expect(stdout.match(/written, read back, removed, in \d+ ms/g)).toHaveLength(4);
  const rows = await stack.postgres.execute('SELECT count(*)::int AS n FROM fanout_points', 'fanout');
  expect(rows.rows).toEqual([{ n: 0 }]);
});

test('the probe is looked up by its key if reading the whole store would take long', async () => {
  const asked: unknown[] = [];
  const between = createServer((coming, answer) => {
    asked.push(coming.headers['x-amz-target']);
    const { method, url, headers } = coming;
    const going = request(new URL(url!, stack.env.SINK_DYNAMODB_ENDPOINT), { method, headers });
    going.on('response', (come) => {
      answer.writeHead(come.statusCode!, come.headers);
      come.pipe(answer);
    });
    coming.pipe(going);
  }).listen(0, '127.0.0.1');
  await once(between, 'listening');
  const port = (between.address() as AddressInfo).port;
  const { code, stdout } = await check({ ...stack.env, SINK_DYNAMODB_ENDPOINT: `http://127.0.0.1:${port}` });
  between.close();
  expect(code, stdout).toBe(0);
  expect(stdout).toMatch(/sink dynamodb .*written, read back, removed/);
  expect(asked).not.toContain('DynamoDB_20120810.Scan');
});

test('control characters in the answer of a store do not reach the terminal', async () => {
  const said = 'no \u001b[2J\u009b2J\u202e entry';
  const hostile = createServer((_, answer) => {
    answer.writeHead(401).end(said);
  }).listen(0, '127.0.0.1');
  await once(hostile, 'listening');
  const env = {
    NATS_URL: stack.nats.url,
    SINK_HOSTILE_ENABLED: 'true',
    SINK_HOSTILE_KIND: 'influxdb',
    SINK_HOSTILE_API: 'v1',
    SINK_HOSTILE_URL: `http://127.0.0.1:${(hostile.address() as AddressInfo).port}`,
    SINK_HOSTILE_DATABASE: 'metrics',
  };
  const plain = await check(env);
  const json = await check(env, '--json');
  hostile.close();
  expect(plain.stdout).toContain('no \\u001b[2J\\u009b2J\\u202e entry');
  expect(JSON.parse(json.stdout).at(-1).detail).toContain(said);
  for (const { stdout } of [plain, json])
    expect(['\u001b', '\u009b', '\u202e'].filter((one) => stdout.includes(one))).toEqual([]);
});

test('a store that can neither be read nor cleared is only written to', async () => {
  const receiver = await startReceiver();
  const env = { SINK_OTLP_ENABLED: 'true', SINK_OTLP_URL: receiver.url, SINK_OTLP_HEADERS: `api-key=${KEY}` };
  const { code, stdout } = await check({ NATS_URL: stack.nats.url, ...env });
  await receiver.stop();
  expect(code, stdout).toBe(0);
  expect(stdout).toMatch(/written, cannot be read back, not removed, in \d+ ms/);
  expect(receiver.received().map(({ metric }) => metric)).toEqual(['fanout.check.count', 'fanout.check.sum']);
});

test('the first error is told, not that of the cleaning up', async () => {
  const kind = fileURLToPath(new URL('./unreadable-sink.ts', import.meta.url));
  const { code, stdout } = await check(
    { NATS_URL: stack.nats.url, SINK_X_ENABLED: 'true', SINK_X_KIND: kind },
    '--json',
  );
  expect(code).toBe(1);
  expect((JSON.parse(stdout) as Finding[]).at(-1)).toMatchObject({
    state: 'failed',
    detail: 'no permission to read',
    advice: 'Grant SELECT.',
  });
});

test('check reports a change of the windows before `run` announces it', async () => {
  const service = await startServiceProgram({ ...stack.env, WINDOW: '1s' });
  await service.untilConfirmed(Date.now() + 1500);
  expect(await service.stop()).toBe(0);
  const { code, stdout } = await check({ ...stack.env, WINDOW: '2s' });
  expect(code).toBe(0);
  expect(stdout).toContain('will announce a new shape of its windows');
});

test('every problem is reported, with advice and without secrets', async () => {
  const env = {
    ...stack.env,
    NATS_URL: 'nats://127.0.0.1:1',
    SINK_REDSHIFT_URL: stack.env.SINK_REDSHIFT_URL!.replace(stack.postgres.password, 'wr0ng-pass'),
    SINK_INFLUXDB_URL: 'http://127.0.0.1:1',
    SINK_SQLITE_PATH: '/dev/null/fanout.db',
  };
  const { code, stdout } = await check(env);
  expect(code).toBe(1);
  const states = Object.fromEntries(
    stdout.split('\n').flatMap((line) => {
      const match = /^(bus|sink \w+).*?\s(ok|failed)\s/.exec(line);
      return match ? [[match[1], match[2]]] : [];
    }),
  );
  expect(states).toEqual({
    bus: 'failed',
    'sink dynamodb': 'ok',
    'sink influxdb': 'failed',
    'sink redshift': 'failed',
    'sink sqlite': 'failed',
  });
  expect(stdout).toContain('What to do:');
  expect(stdout).not.toContain('wr0ng-pass');
});

test('the sink with the longer windows of two that share a table has failed, in the words of the service', async () => {
  const [file, link] = [join(stack.folder, 'shared.db'), join(stack.folder, 'link.db')];
  const env = {
    NATS_URL: stack.nats.url,
    PIPELINE: 'shared',
    SINK_FINE_ENABLED: 'true',
    SINK_FINE_KIND: 'sqlite',
    SINK_FINE_PATH: file,
    SINK_LONG_ENABLED: 'true',
    SINK_LONG_KIND: 'sqlite',
    SINK_LONG_PATH: join(stack.folder, 'own.db'),
    SINK_LONG_WINDOW: '2s',
    WINDOW: '1s',
  };
  const service = await startServiceProgram(env);
  await eventually('checkpoints that know their stores', async () => {
    const list = startProgram(['checkpoint', 'list', '--json'], env);
    await list.ended;
    const { checkpoints } = JSON.parse(list.output.stdout) as { checkpoints: { store: string | null }[] };
    return checkpoints.filter(({ store }) => store !== null).length === 2;
  });
  expect(await service.stop()).toBe(0);
  const apart = await check(env, '--json');
  expect(apart.code, apart.stdout).toBe(0);

  symlinkSync(file, link);
  const shared = await check({ ...env, SINK_LONG_PATH: link }, '--json');
  const [fine, long] = (JSON.parse(shared.stdout) as Finding[]).slice(-2);
  expect({ code: shared.code, fine, long }).toMatchObject({
    code: 1,
    fine: { what: 'sink fine (sqlite)', state: 'ok' },
    long: {
      what: 'sink long (sqlite)',
      state: 'failed',
      detail: expect.stringMatching(
        /ms; the sink fine writes windows of another length to the same table, or to one that this is a copy of$/,
      ),
      advice: 'Give one of them a new table.',
    },
  });
  const equal = { ...env, PIPELINE: 'equal', SINK_LONG_PATH: link, SINK_LONG_WINDOW: '' };
  const same = await check(equal, '--json');
  expect(same.code, same.stdout).toBe(0);
});

test('--watch finds messages that the stream refuses, and nothing if it stores all', async () => {
  const { core } = await loadConfig({ NATS_URL: stack.nats.url });
  const bus = await connect(core, { debug() {}, info() {}, warn() {}, error() {} });
  const jetstream = await manager(bus);
  await jetstream.streams.add({ name: 'WATCHED', subjects: ['watched'], max_msg_size: 100 });
  const env = {
    NATS_URL: stack.nats.url,
    METRICS_STREAM: 'WATCHED',
    METRICS_SUBJECTS: 'watched',
    SINK_BLACKHOLE_ENABLED: 'true',
  };
  const watched = async (size: number) => {
    const sending = setInterval(() => bus.publish('watched', `${Math.random()}`.padEnd(size)), 5);
    const { code, stdout } = await check(env, '--watch', '2s', '--json');
    clearInterval(sending);
    const findings = JSON.parse(stdout) as Finding[];
    return { code, found: findings.find(({ what }) => what === 'what the stream stores')! };
  };
  const well = await watched(10);
  expect([well.code, well.found.state]).toEqual([0, 'ok']);
  expect(well.found.detail).toMatch(/^the stream did not store 0 of [1-9][\d,]* messages? heard on the bus$/);
  const bad = await watched(200);
  expect([bad.code, bad.found.state]).toEqual([1, 'failed']);
  expect(bad.found.detail).toMatch(
    /^the stream did not store ([1-9][\d,]*) of \1 messages? heard on the bus$/,
  );
  expect(bad.found.advice).toContain('docs/producers.md');
  await jetstream.streams.delete('WATCHED');
  await bus.close();
});

test('what is made because of a wrong setting is said, by check and by the service', async () => {
  const env = { ...stack.env, SINK_INFLUXDB_DATABASE: 'metrcs', SINK_POSTGRES_ENABLED: 'false' };
  const path = join(stack.folder, 'nonexistent', 'x.db');
  const lake = join(stack.folder, 'nowhere', 'lake');
  const typed = {
    ...env,
    SINK_SQLITE_PATH: path,
    SINK_PARQUET_ENABLED: 'true',
    SINK_PARQUET_URL: pathToFileURL(lake).href,
  };
  const details = async () => {
    const { code, stdout } = await check(typed, '--json');
    expect(code, stdout).toBe(0);
    const findings = JSON.parse(stdout) as Finding[];
    return (kind: string) => findings.find(({ what }) => what === `sink ${kind} (${kind})`)?.detail;
  };
  const first = await details();
  expect(first('influxdb')).toMatch(/^made the database metrcs, written, read back, removed/);
  expect(first('sqlite')).toContain(`made the file ${path}, written, read back, removed`);
  expect(first('parquet')).toContain(`made the folder ${lake}, written, read back, removed`);
  const second = await details();
  expect(second('parquet')).toContain(`folder ${lake}: written`);
  expect(second('influxdb')).toMatch(/^written/);
  expect(second('sqlite')).toMatch(/^\/.*\/x\.db: written/);

  const again = { ...typed, SINK_INFLUXDB_DATABASE: 'metris', PIPELINE: 'typed' };
  const service = await startServiceProgram(again);
  const said = /"made":"database metris".*"made the database metris"/;
  await eventually('the log says it', async () => said.test(service.output.stderr));
  expect(await service.stop()).toBe(0);
});
