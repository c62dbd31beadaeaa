/** Control of one instance on a real bus: with raw requests of the micro protocol, with `ctl`, and with callbacks. */

import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Asking, ask as askOverHttp } from '../../src/base/http-client.ts';
import { VERSION } from '../../src/base/version.ts';
import { findControlSocket } from '../../src/control/control-socket.ts';
import { OPERATIONS } from '../../src/control/request.ts';
import { viewOf } from '../../src/observe/view.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { type Anything, ask, askEverybody, ctl, ended, eventually } from './control-support.ts';
import { endOf, expectEqual, sample, sendTraffic, WINDOWS } from './support.ts';

const SECRET = 'planted-token-7741';
const folder = temporaryFolder('control-test');
const database = join(folder.path, 'a.db');
const profiles = join(folder.path, 'profiles');
const called: { url: string; body: string; signature: string | undefined }[] = [];
let nats: NatsServer;
let receiver: Server;
let host: string;
let client: NatsConnection;
let service: ServiceProgram;
let env: Record<string, string>;
let instance: string;
let truth: TruthRow[];

const sinks = () => ({
  SINK_SQLITE_ENABLED: 'true',
  SINK_SQLITE_PATH: database,
  SINK_HOLE_ENABLED: 'true',
  SINK_HOLE_KIND: 'blackhole',
});
const traffic = () =>
  sendTraffic({ folder: folder.path, nats }, ['--count', '6000', '--rate', '6000', '--series', '50']);
const request = (operation: string, body?: unknown) => ask(client, instance, operation, body);
const sqlite = async () => (await service.status()).sinks.find(({ id }) => id === 'sqlite')!;

beforeAll(async () => {
  nats = await startNats();
  receiver = createServer((incoming, response) => {
    let body = '';
    incoming.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    incoming.on('end', () => {
      called.push({ url: incoming.url!, body, signature: incoming.headers['fanout-signature'] as string });
      response.end();
    });
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  host = `127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  client = await connect({ servers: nats.url });
  env = {
    NATS_URL: nats.url,
    ...WINDOWS,
    ...sinks(),
    CONTROL_PROFILE_DIR: profiles,
    CONTROL_CALLBACK_HOSTS: `http://${host}`,
    CONTROL_CALLBACK_SECRET: SECRET,
  };
  service = await startServiceProgram(env);
  env.HTTP_PORT = new URL(service.url).port;
  instance = (await service.status()).instance;
  await eventually('control is on the bus', async () => (await service.status()).control.onBus);
  truth = await traffic();
  await service.untilConfirmed(endOf(truth));
});
afterAll(async () => {
  await client?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  receiver?.close();
  folder.remove();
});

test('nats micro sees it: PING, INFO and STATS', async () => {
  const [ping, ...others] = await askEverybody(client, '$SRV.PING.metrics-fanout');
  expect(others).toEqual([]);
  const identity = { name: 'metrics-fanout', version: VERSION, metadata: { instance, pipeline: 'default' } };
  expect(ping).toMatchObject({ type: 'io.nats.micro.v1.ping_response', ...identity });
  expect(await askEverybody(client, '$SRV.PING')).toEqual([ping]);
  const [info] = await askEverybody(client, `$SRV.INFO.metrics-fanout.${ping.id}`);
  expect(info).toMatchObject({ type: 'io.nats.micro.v1.info_response', ...identity });
  const subjects: string[] = info.endpoints.map(({ subject }: Anything) => subject);
  const expected = [instance, 'all'].flatMap((target) =>
    Object.keys(OPERATIONS).map((operation) => `fanout.control.${target}.${operation}`),
  );
  expect(subjects.sort()).toEqual(expected.sort());

  await request('status');
  await request('status', { nonsense: 1 });
  const [stats] = await askEverybody(client, '$SRV.STATS.metrics-fanout');
  const found = stats.endpoints.find(
    ({ subject }: Anything) => subject === `fanout.control.${instance}.status`,
  );
  expect(found).toMatchObject({ name: 'status', num_requests: 2, data: { refused: 1 } });
});

test('a request without an inbox for its answer changes nothing, and shows in status, metrics and log', async () => {
  const before = (await service.status()).control.unanswered;
  const heard: string[] = [];
  const listening = client.subscribe('scratch.>', { callback: (_, { subject }) => heard.push(subject) });
  const body = JSON.stringify({ sink: 'hole' });
  for (const reply of ['scratch.a', 'scratch.b', undefined])
    client.publish('fanout.control.all.sink.pause', body, { ...(reply && { reply }) });
  for (const verb of ['PING', 'INFO', 'STATS']) client.publish(`$SRV.${verb}`, '', { reply: 'scratch.c' });
  expect(await request('status')).toMatchObject({ ok: true });
  await client.flush();
  listening.unsubscribe();
  expect(heard).toEqual([]);
  const { control, sinks: now } = await service.status();
  expect(now.map(({ paused }) => paused)).toEqual([false, false]);
  expect(control.unanswered - before).toBe(6);
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(metrics).toContain(`fanout_control_unanswered_total ${before + 6}`);
  expect(service.output.stderr.match(/ignored a request to control/g)).toHaveLength(1);
});

test('status is the same as /api/status, and config as `config --json`, without secrets', async () => {
  const { ok, result } = await request('status');
  expect(ok).toBe(true);
  const { now, source, samples, messages, ...plain } = await service.status();
  expect(result).toMatchObject({
    instance: plain.instance,
    startedAt: plain.startedAt,
    ready: true,
    detached: false,
    sinks: [{ id: 'hole' }, { id: 'sqlite', paused: false, state: 'live' }],
  });
  const config = await request('config');
  expect(config.result.settings).toMatchObject({
    SINK_SQLITE_PATH: database,
    CONTROL_CALLBACK_SECRET: '***',
  });
  expect(config.result.sinks).toEqual(['hole', 'sqlite']);
  expect(JSON.stringify(config)).not.toContain(SECRET);
});

test('nothing is written to a paused sink, and the others go on; after the resume, it has every row', async () => {
  expect(await request('sink.pause', { sink: 'sqlite' })).toMatchObject({
    ok: true,
    result: { sink: 'sqlite', paused: true },
  });
  const before = await sqlite();
  expect(before).toMatchObject({ state: 'paused', paused: true });
  const more = await traffic();
  await eventually('the other sink has confirmed everything', async () => {
    const { sinks } = await service.status();
    return Date.parse(sinks.find(({ id }) => id === 'hole')!.next!) >= endOf(more);
  });
  const held = await sqlite();
  expect(held).toMatchObject({ next: before.next, written: before.written, backlogBytes: 0, paused: true });
  expect(viewOf(await service.status()).headline).toEqual({
    text: expect.stringMatching(
      /^sqlite is paused\. Nothing is lost until .* UTC: the stream still holds .* h\.$/,
    ),
    tone: 'warn',
  });
  const metrics = await (await fetch(`${service.url}/metrics`)).text();
  expect(sample(metrics, 'fanout_sink_paused{sink="sqlite"}')).toBe(1);
  expect(sample(metrics, 'fanout_sink_paused{sink="hole"}')).toBe(0);
  const replay = await request('replay', {
    sink: 'sqlite',
    from: new Date(Date.now() - 60_000).toISOString(),
  });
  expect(replay).toMatchObject({ ok: false, error: { code: 'paused' } });

  expect(await request('sink.resume', { sink: 'sqlite' })).toMatchObject({ ok: true });
  await service.untilConfirmed(endOf(more));
  expect(await sqlite()).toMatchObject({ state: 'live', paused: false });
  truth = [...truth, ...more];
  await expectEqual({ SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: database }, truth);
});

describe('tasks', () => {
  const from = () => new Date(truth[0]!.windowStart!).toISOString();
  const to = () => new Date(endOf(truth)).toISOString();

  test('a verification finds a lost window, a replay restores it, and then a verification finds nothing', async () => {
    const edit = new DatabaseSync(database, { timeout: LIMIT_MS });
    edit.prepare('DELETE FROM points WHERE window_start = ?').run(truth[0]!.windowStart!);
    edit.close();
    const asked = { from: from(), to: to(), sink: 'sqlite' };
    const events: Anything[] = [];
    const subscription = client.subscribe('fanout.control.events.*', {
      callback: (_, message) => events.push({ subject: message.subject, ...message.json<object>() }),
    });
    await client.flush();
    const started = await request('verify', asked);
    expect(started.result).toMatchObject({
      operation: 'verify',
      state: 'running',
      endedAt: null,
      result: null,
    });
    const found = await ended(client, instance, started);
    expect(found).toMatchObject({ state: 'done', error: null, result: { equal: false } });
    expect(found.result.sinks[0].windows).toMatchObject({ different: 1, unknown: 0 });
    expect(events).toMatchObject([
      { subject: `fanout.control.events.${found.id}`, id: found.id, state: 'done' },
    ]);

    const other = await ended(client, instance, await request('verify', { ...asked, name: 'nothing.*' }));
    expect(other.result).toMatchObject({ equal: false, matched: false, sinks: [{ rows: { equal: 0 } }] });
    const replayed = await ended(client, instance, await request('replay', asked));
    expect(replayed).toMatchObject({ state: 'done', result: { sink: 'sqlite', done: true, gaps: 0 } });
    const { code, answers } = await ctl(
      env,
      'verify',
      '--json',
      '--from',
      from(),
      '--to',
      to(),
      '--sink',
      'sqlite',
    );
    expect(answers).toMatchObject([{ instance, task: { state: 'done', result: { equal: true } } }]);
    expect(code).toBe(0);
    await subscription.drain();
  });

  test('send a signed report to the given URL', async () => {
    called.length = 0;
    const callback = `http://${host}/done?key=1`;
    const report = await ended(client, instance, await request('profile.cpu', { seconds: 1, callback }));
    await eventually('the callback came', async () => called.length > 0);
    const [{ url, body, signature } = expect.unreachable()] = called;
    expect([url, called.length]).toEqual(['/done?key=1', 1]);
    expect(signature).toMatch(/^t=\d+,v1=[0-9a-f]{64}$/);
    const { callback: outcome, ...told } = report;
    expect(JSON.parse(body)).toEqual(told);
    await eventually('the status says that it was delivered', async () => {
      const known = await request('task.status', { id: report.id });
      return known.result.callback.delivered === true && known.result.callback.attempts === 1;
    });

    for (const other of [`https://${host}/`, 'http://localhost:1/', `http://evil.org/?${host}`]) {
      const refused = await request('profile.cpu', { seconds: 1, callback: other });
      expect(refused, other).toMatchObject({
        ok: false,
        error: { code: 'callback_refused', field: 'callback' },
      });
    }
    expect(called).toHaveLength(1);
  });

  test('record a CPU profile of the requested length', async () => {
    const began = performance.now();
    const { result } = await ended(client, instance, await request('profile.cpu', { seconds: 1 }));
    const { startTime, endTime, nodes } = JSON.parse(readFileSync(result.file, 'utf8'));
    // Not shorter. No upper limit is needed: the profile ended by itself.
    expect((endTime - startTime) / 1e6).toBeGreaterThan(0.9);
    expect((endTime - startTime) / 1e3).toBeLessThan(performance.now() - began);
    expect(nodes.length).toBeGreaterThan(1);
    expect(result.file.startsWith(profiles)).toBe(true);
    expect(statSync(result.file).mode & 0o777).toBe(0o600);
  });

  test('write a heap snapshot without the known secrets', async () => {
    const { state, result } = await ended(client, instance, await request('profile.heap'));
    expect(state).toBe('done');
    const text = readFileSync(result.file, 'utf8');
    expect(result.bytes).toBe(statSync(result.file).size);
    expect(JSON.parse(text).snapshot.node_count).toBeGreaterThan(1000);
    expect(text).toContain(database);
    expect(text).not.toContain(SECRET);
  });

  test('run one at a time; a cancelled one ends, and says so', async () => {
    const started = await request('profile.cpu', { seconds: 60 });
    expect(await request('profile.heap')).toMatchObject({ ok: false, error: { code: 'busy' } });
    expect(await request('task.cancel', { id: started.result.id })).toMatchObject({ ok: true });
    const report = await ended(client, instance, started);
    expect(report).toMatchObject({ state: 'cancelled', result: null, error: { code: 'cancelled' } });
    expect(await request('task.cancel', { id: report.id })).toMatchObject({ error: { code: 'over' } });
  });
});

test.each<[string, string, unknown]>([
  ['status', 'not_json', 'no JSON at all'],
  ['status', 'not_json', '[1]'],
  ['status', 'too_large', new Uint8Array(1_000_000)],
  ['status', 'unknown_field', { sink: 'sqlite' }],
  ['sink.pause', 'missing_field', {}],
  ['sink.pause', 'bad_value', { sink: 7 }],
  ['sink.pause', 'unknown_sink', { sink: 'nobody' }],
  ['replay', 'unknown_sink', { sink: '--from=x', from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' }],
  ['replay', 'range_too_long', { sink: 'sqlite', from: '2020-01-01T00:00:00Z' }],
  ['verify', 'range_too_long', { from: '2020-01-01T00:00:00Z', to: '2020-03-01T00:00:00Z' }],
  ['task.status', 'unknown_task', { id: '../../etc/passwd' }],
])('%s is refused, in JSON, with the headers of micro services: %s', async (operation, code, body) => {
  const bytes = body instanceof Uint8Array || typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await client.request(`fanout.control.${instance}.${operation}`, bytes, {
    timeout: LIMIT_MS,
  });
  const { ok, error, ...rest } = answer.json<Anything>();
  expect([ok, error.code, rest.instance]).toEqual([false, code, instance]);
  expect(answer.headers?.get('Nats-Service-Error')).toBe(code);
  expect(Number(answer.headers?.get('Nats-Service-Error-Code'))).toBeGreaterThanOrEqual(400);
  expect(await service.status()).toMatchObject({ ready: true });
});

test('a failed task says why: the stream does not hold the range', async () => {
  const asked = { sink: 'sqlite', from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' };
  const report = await ended(client, instance, await request('replay', asked));
  expect(report).toMatchObject({ state: 'failed', result: null, error: { code: 'failed' } });
  expect(report.error?.message).toContain('no complete window');
});

test('a flood of invalid requests does not affect the data', async () => {
  for (let i = 0; i < 20_000; i++) client.publish(`fanout.control.${instance}.sink.pause`, `{"sink":${i}}`);
  await client.flush();
  expect(await request('status')).toMatchObject({ ok: true, result: { ready: true } });
  const more = await traffic();
  await service.untilConfirmed(endOf(more));
  expect(await sqlite()).toMatchObject({ paused: false });
});

describe('over HTTP, without a token', () => {
  const headers = { 'content-type': 'application/json' };
  const post = (path: string, asking: Partial<Asking> = {}) =>
    askOverHttp(`${service.url}/control/${path}`, {
      method: 'POST',
      headers,
      body: '{}',
      signal: AbortSignal.timeout(LIMIT_MS),
      ...asking,
    });
  const socketPath = () =>
    findControlSocket({ controlSocket: 'auto', pipeline: 'default', httpPort: port() })!;
  const port = () => Number(new URL(service.url).port);

  test('every request over TCP is refused, even from this machine, and the answer says what to do', async () => {
    for (const more of [{}, { 'x-forwarded-for': '127.0.0.1' }, { authorization: 'Bearer anything' }]) {
      for (const path of ['all/status', `${instance}/detach`, 'all/nothing']) {
        const { status, text } = await post(path, { headers: { ...headers, ...more } });
        const { error } = JSON.parse(text);
        expect([status, error.code], path).toEqual([403, 'forbidden']);
        expect(error.message).toMatch(/Set CONTROL_TOKEN .* CONTROL_SOCKET/);
      }
    }
    const asked = await ctl(env, 'pause', 'sqlite', '--url', service.url);
    expect(asked).toMatchObject({ code: 1, stdout: expect.stringContaining('CONTROL_TOKEN') });
    expect(await service.status()).toMatchObject({ detached: false });
    expect(await sqlite()).toMatchObject({ paused: false });
  });

  test('a request with a foreign host name is refused', async () => {
    const { status, text } = await post('all/status', { headers: { ...headers, host: 'evil.example.org' } });
    expect([status, text]).toEqual([421, expect.stringContaining('HTTP_ALLOWED_HOSTS')]);
  });

  test('the user of the service may send requests over its socket', async () => {
    expect(statSync(socketPath()).mode & 0o777).toBe(0o600);
    const over = (path: string, asking: Partial<Asking> = {}) =>
      post(path, { socketPath: socketPath(), ...asking });
    const well = await over('all/status');
    expect([well.status, JSON.parse(well.text).result.instance]).toEqual([200, instance]);
    expect((await over(`${instance}/status`)).status).toBe(200);
    const refused: [string, Partial<Asking>, number][] = [
      ['all/status', { headers: { 'content-type': 'text/plain' } }, 415],
      ['all/status', { body: `{"pipeline":"${'x'.repeat(100_000)}"}` }, 413],
      ['all/status', { body: '{"pipeline":"another"}' }, 404],
      ['someone/status', {}, 404],
      ['all/nothing', {}, 404],
      ['all/status', { method: 'GET', body: '' }, 404],
    ];
    for (const [path, asking, status] of refused)
      expect((await over(path, asking)).status, `${path} ${JSON.stringify(asking)}`).toBe(status);
  });
});

test('an instance of another bus, found by its socket, is shown as such, and nothing of it is changed', async () => {
  const other = await startNats();
  try {
    const elsewhere = { ...env, NATS_URL: other.url };
    const shown = await ctl(elsewhere, 'status');
    expect(shown, shown.stderr).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`${instance}: is on ANOTHER BUS, ${nats.url}, `),
    });
    for (const all of [
      ['detach', '--all'],
      ['pause', 'hole', '--instance', instance],
    ]) {
      const refused = await ctl(elsewhere, ...all, '--json');
      expect(refused, refused.stderr).toMatchObject({
        code: 1,
        answers: [{ instance, ok: false, via: 'socket', otherBus: [nats.url], error: { code: 'other_bus' } }],
      });
      const { message } = refused.answers[0].error;
      for (const word of [nats.url, other.url, '--url', 'NATS_URL']) expect(message).toContain(word);
    }
    const { detached, bus, sinks: now } = await service.status();
    expect([detached, bus.urls, now.map(({ paused }) => paused)]).toEqual([
      false,
      [nats.url],
      [false, false],
    ]);
    const read = await ctl(elsewhere, 'config', '--json');
    expect(read).toMatchObject({ code: 0, answers: [{ instance, otherBus: [nats.url] }] });
    for (const command of ['ask', 'cardinality']) {
      const asked = startProgram([command, '--json', '--timeout', `${LIMIT_MS}ms`], elsewhere);
      await asked.ended;
      expect(JSON.parse(asked.output.stdout)).toMatchObject({ otherBus: [{ instance, urls: [nats.url] }] });
    }
  } finally {
    await other.stop();
  }
  // Under another name of this machine, it is the same bus.
  const same = { ...env, NATS_URL: nats.url.replace('127.0.0.1', 'localhost') };
  const known = await ctl(same, 'status', '--json');
  expect(known.answers.map(({ otherBus }) => otherBus)).toEqual([undefined]);
});

test('the log line of a request says how it came', async () => {
  const logged = (via: string) =>
    new RegExp(`"operation":"sink.resume","via":"${via}".*control request received`).test(
      service.output.stderr,
    );
  // The same operation is logged once a second.
  await eventually('over the bus', async () => {
    await request('sink.resume', { sink: 'hole' });
    return logged('bus');
  });
  const path = `http://127.0.0.1/control/${instance}/sink.resume`;
  await eventually('over the socket', async () => {
    await askOverHttp(path, {
      method: 'POST',
      body: '{"sink":"hole"}',
      headers: { 'content-type': 'application/json' },
      socketPath: findControlSocket({
        controlSocket: 'auto',
        pipeline: 'default',
        httpPort: Number(env.HTTP_PORT),
      }),
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    return logged('socket');
  });
});

test('a pause ends with the process, as the log says', async () => {
  await request('sink.pause', { sink: 'sqlite' });
  expect(await service.stop()).toBe(0);
  expect(service.output.stderr).toContain(
    'sinks are paused; they continue when resumed, or at the next start',
  );
  const more = await traffic();
  service = await startServiceProgram({ ...env, CONTROL_TOKEN: SECRET });
  await service.untilConfirmed(endOf(more));
  expect(await sqlite()).toMatchObject({ state: 'live', paused: false });

  // If there is a token, only requests with it are accepted over TCP, even from this machine.
  const url = `${service.url}/control/all/status`;
  const headers = { 'content-type': 'application/json' };
  const without = await fetch(url, { method: 'POST', headers, body: '{}' });
  expect(without.status).toBe(401);
  const wrong = { ...headers, authorization: `Bearer ${SECRET}x` };
  expect((await fetch(url, { method: 'POST', headers: wrong, body: '{}' })).status).toBe(401);
  const with_ = await ctl({ ...env, CONTROL_TOKEN: SECRET }, 'status', '--json', '--url', service.url);
  expect(with_).toMatchObject({ code: 0, answers: [{ via: 'http', ok: true }] });
  const away = { ...env, NATS_URL: 'nats://127.0.0.1:1', CONTROL_TOKEN: SECRET };
  expect(await ctl(away, 'status', '--json')).toMatchObject({ code: 0, answers: [{ via: 'socket' }] });
  const elsewhere = { ...away, CONTROL_SOCKET: join(folder.path, 'nobody.sock') };
  expect(await ctl(elsewhere, 'status', '--json')).toMatchObject({ code: 0, answers: [{ via: 'http' }] });
  expect(service.output.stderr).not.toContain(SECRET);
});

test('CONTROL_ENABLED=false switches control off completely', async () => {
  await service.stop();
  service = await startServiceProgram({ ...env, CONTROL_ENABLED: 'false' });
  // The service is working, so everything else that it does on the bus is running by now.
  await service.untilConfirmed(Date.now());
  const ping = client.request('$SRV.PING.metrics-fanout', '', { timeout: LIMIT_MS });
  await expect(ping).rejects.toThrow('503');
  const response = await fetch(`${service.url}/control/all/status`, { method: 'POST', body: '{}' });
  expect(response.status).toBe(405);
  const httpPort = Number(new URL(service.url).port);
  expect(findControlSocket({ controlSocket: 'auto', pipeline: 'default', httpPort })).toBeUndefined();
  expect(await service.status()).toMatchObject({ ready: true, control: { enabled: false, onBus: false } });
  const asked = await ctl({ ...env, HTTP_PORT: new URL(service.url).port }, 'status');
  expect(asked.code).toBe(1);
  expect(asked.stderr).toContain('CONTROL_ENABLED');
});
