/** What `check` says about all kinds of streams, before `run` finds out. */
import { connect, headers, type NatsConnection, nanos, type StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';

interface Finding {
  readonly what: string;
  readonly state: string;
  readonly detail: string;
  readonly advice: string;
}

let nats: NatsServer;
let client: NatsConnection;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
});
afterEach(async () => {
  const { streams } = await client.jetstreamManager();
  for await (const name of streams.names()) await streams.delete(name);
});
afterAll(async () => {
  await client.close();
  await nats.stop();
});

async function add(config: Partial<StreamConfig> & { name: string }): Promise<void> {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.add(config);
}

/** Returns the exit code, and a lookup of findings by what was checked. */
async function check(env: Record<string, string> = {}) {
  const sink = { SINK_BLACKHOLE_ENABLED: 'true' };
  const program = startProgram(['check', '--json'], { NATS_URL: nats.url, ...sink, ...env });
  const code = await program.ended;
  const findings = JSON.parse(program.output.stdout) as Finding[];
  return { code, of: (what: string) => findings.find((finding) => finding.what === what)! };
}

test('check says what the stream stores, if that is not what it captures', async (context) => {
  needsNats(context, '2.10');
  await add({
    name: 'METRICS',
    subjects: ['metrics.>'],
    subject_transform: { src: 'metrics.>', dest: 'm.>' },
  });
  const { code, of } = await check({ METRICS_SUBJECTS: 'metrics.>' });
  expect(code).toBe(0);
  expect(of('stream METRICS').detail).toMatch(/, metrics\.>, stored as m\.>$/);
  expect((await check({ METRICS_SUBJECTS: 'other.>' })).of('stream METRICS')).toMatchObject({
    state: 'failed',
    detail: 'the stream METRICS does not capture other.> (its subjects: metrics.>; it stores: m.>)',
  });
});

test('check names the sources of the stream, and how to notice messages that come in twice', async () => {
  await add({ name: 'EDGE', subjects: ['edge.>'] });
  await add({ name: 'METRICS', sources: [{ name: 'EDGE' }] });
  const single = (await check()).of('stream METRICS');
  expect(single).toMatchObject({ state: 'ok', advice: '' });
  expect(single.detail).toContain('from EDGE');
  const { streams } = await client.jetstreamManager();
  await streams.delete('METRICS');
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], sources: [{ name: 'EDGE' }] });
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('stream METRICS').advice).toContain('one has the header Nats-Stream-Source');
});

test('check finds out if the service and its commands can read at the same time', async () => {
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
  expect((await check()).of('reading')).toMatchObject({
    state: 'ok',
    detail: 'made and removed 2 consumers, read 0 messages',
  });
  for (let i = 0; i < 25; i++)
    await client.jetstream().publish('metrics.a', String(i), { timeout: LIMIT_MS });
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('reading').detail).toBe('made and removed 2 consumers, read 10 messages');
  const { consumers, streams } = await client.jetstreamManager();
  expect(await consumers.list('METRICS').next()).toEqual([]);
  await streams.delete('METRICS');
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], max_consumers: 1 });
  const limited = await check();
  expect(limited.code).toBe(1);
  expect(limited.of('reading')).toMatchObject({
    state: 'failed',
    detail: 'making consumer 2 of 2: the stream, or the account, may have no more consumers',
  });
  expect(limited.of('reading').advice).toContain('Raise max_consumers of the stream');
});

test("check finds out if more than one answer comes through an import of JetStream's API", async () => {
  const imported = async (response: string) => {
    const extra = `accounts {
      A { jetstream: enabled, users: [ { user: a, password: a } ], exports: [ { service: "$JS.API.>"${response} } ] }
      B { users: [ { user: b, password: b } ], imports: [ { service: { account: A, subject: "$JS.API.>" } } ] }
    }`;
    const server = await startNats({ extra });
    const owner = await connect({ servers: server.url, user: 'a', pass: 'a' });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
    await owner.jetstream().publish('metrics', '1', { timeout: LIMIT_MS });
    const { of } = await check({ NATS_URL: server.url, NATS_USER: 'b', NATS_PASSWORD: 'b' });
    await owner.close();
    await server.stop();
    return of('reading');
  };
  expect(await imported(', response_type: stream')).toMatchObject({
    state: 'ok',
    detail: 'made and removed 2 consumers, read 1 messages',
  });
  expect(await imported('')).toMatchObject({
    state: 'failed',
    detail: 'asking for 11 messages of the stream METRICS: only the first answer comes through',
    advice: "Give the export of JetStream's API response_type: stream in the account that has the stream.",
  });
});

test('a stream that limits how long a consumer may be inactive is read', async (context) => {
  needsNats(context, '2.10');
  const consumer_limits = { inactive_threshold: nanos(60_000) };
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], consumer_limits });
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('reading').state).toBe('ok');
  const sink = { SINK_BLACKHOLE_ENABLED: 'true' };
  const service = await startServiceProgram({ NATS_URL: nats.url, ...sink });
  const { consumers } = await client.jetstreamManager();
  const [info] = await consumers.list('METRICS').next();
  expect(info?.config.inactive_threshold).toBe(nanos(60_000));
  expect(await service.stop()).toBe(0);
});

test('there is one warning if the stream removes messages by subject', async () => {
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], max_msgs_per_subject: 1_000 });
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('stream METRICS').advice).toMatch(
    /^By max_msgs_per_subject: 1000, the stream may lose messages by subject, .* verify calls them unknown/,
  );
  const service = await startServiceProgram({ NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true' });
  expect(await service.stop()).toBe(0);
  expect(
    service.output.stderr.match(/"settings":\["max_msgs_per_subject: 1000"\].*may lose messages/g),
  ).toHaveLength(1);
});

test('markers that the server stores in place of removed messages are counted, not decoded', async (context) => {
  needsNats(context, '2.11');
  const markers = { allow_msg_ttl: true, subject_delete_marker_ttl: nanos(5_000), allow_rollup_hdrs: true };
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], ...markers } as never);
  expect((await check()).of('stream METRICS').advice).toMatch(
    /^By allow_msg_ttl, subject_delete_marker_ttl, allow_rollup_hdrs, /,
  );
  const env = { NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true', METRICS_START: 'earliest' };
  const service = await startServiceProgram(env);
  const ttl = headers();
  ttl.set('Nats-TTL', '1s');
  const sample = JSON.stringify({ name: 'a', type: 'counter', value: 1 });
  for (const subject of ['metrics.a', 'metrics.b'])
    await client.jetstream().publish(subject, sample, { headers: ttl, timeout: LIMIT_MS });
  await eventually('both markers', async () => {
    const { rejected } = (await service.status()).messages;
    return rejected.delete_marker === 2;
  });
  const { rejected, received } = (await service.status()).messages;
  expect(received).toBe(4);
  expect(rejected.empty).toBe(0);
  expect(await service.stop()).toBe(0);
});
