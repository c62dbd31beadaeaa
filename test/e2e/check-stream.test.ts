/** What `check` says about all kinds of streams, before `run` finds out. */
import { DiscardPolicy, headers, type NatsConnection, nanos, StorageType, type StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { isNatsOlder } from '../../src/bus/nats-version.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, natsVersion, startNats } from '../../src/servers/nats.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { deleteAllStreams, deleteStreams } from '../bus/deleted-streams.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { sample as sampleOf } from './support.ts';

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
  await deleteAllStreams(nats, streams);
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
  await deleteStreams(nats, streams, ['METRICS']);
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
  await deleteStreams(nats, streams, ['METRICS']);
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], max_consumers: 1 });
  const limited = await check();
  expect(limited.code).toBe(1);
  expect(limited.of('reading')).toMatchObject({
    state: 'failed',
    detail: 'making consumer 2 of 2: the stream, or the account, may have no more consumers',
  });
  expect(limited.of('reading').advice).toContain('Raise max_consumers of the stream');
});

describe("an import of JetStream's API from another account", () => {
  const ADVICE =
    "Give the export of JetStream's API response_type: stream in the account that has the stream.";
  const LOST = 'messages of the stream METRICS: only the first answer comes through';
  const env = { NATS_USER: 'b', NATS_PASSWORD: 'b' };

  /** `response`: of the export. `use` gets the account that has the stream. */
  async function imported<T>(
    response: string,
    use: (owner: NatsConnection, env: Record<string, string>) => Promise<T>,
  ): Promise<T> {
    const extra = `accounts {
      A { jetstream: enabled, users: [ { user: a, password: a } ], exports: [ { service: "$JS.API.>"${response} }, { service: "$KV.>" } ] }
      B { users: [ { user: b, password: b } ], imports: [ { service: { account: A, subject: "$JS.API.>" } }, { service: { account: A, subject: "$KV.>" } } ] }
    }`;
    const server = await startNats({ extra });
    const owner = await connect({ servers: server.url, user: 'a', pass: 'a' });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
    try {
      return await use(owner, { ...env, NATS_URL: server.url });
    } finally {
      await owner.close();
      await server.stop();
    }
  }

  const publish = async (owner: NatsConnection, many: number) => {
    const sample = '{"name":"a","type":"counter","value":1}';
    for (let i = 0; i < many; i++) await owner.jetstream().publish('metrics', sample, { timeout: LIMIT_MS });
  };
  const checked = (response: string) =>
    imported(response, async (owner, on) => {
      await publish(owner, 1);
      return (await check(on)).of('reading');
    });

  test('check says whether more than one answer comes through', async () => {
    expect(await checked(', response_type: stream')).toMatchObject({
      state: 'ok',
      detail: 'made and removed 2 consumers, read 1 message',
    });
    const detail = `asking for 11 ${LOST}`;
    expect(await checked('')).toMatchObject({ state: 'failed', detail, advice: ADVICE });
  });

  test('if not, nothing that reads goes on as if it had read all', async () => {
    await imported('', async (owner, on) => {
      const blackhole = { SINK_BLACKHOLE_ENABLED: 'true', METRICS_START: 'earliest' };
      const service = await startServiceProgram({ ...on, ...blackhole });
      await eventually('the end of an empty stream', async () => (await service.status()).ready);
      await publish(owner, 50);
      expect(await service.ended).toBe(1);
      expect(service.output.stderr).toContain(LOST);
      expect(service.output.stderr).toContain(ADVICE);
      const count = startProgram(['count'], on);
      expect(await count.ended).toBe(1);
      expect(count.output.stderr).toContain(ADVICE);
      expect(count.output.stdout).toBe('');
    });
  });

  test('if so, a single message is proof enough', async () => {
    await imported(', response_type: stream', async (owner, on) => {
      await publish(owner, 1);
      await eventually('the window is complete', async () => {
        const count = startProgram(['count'], { ...on, WINDOW: '100ms', LATENESS: '100ms' });
        await count.ended;
        return count.output.stdout.includes('1 sample from 1 message');
      });
      const { consumers } = await owner.jetstreamManager({ timeout: LIMIT_MS });
      // Nobody waits for the answer.
      await eventually(
        'no consumer is left',
        async () => (await consumers.list('METRICS').next()).length === 0,
      );
    });
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

test('a server that limits requests is asked for what it allows', async () => {
  const limit = 8;
  const messages = 200;
  const server = await startNats({ jetstreamExtra: `limits { max_request_batch: ${limit} }` });
  const owner = await connect({ servers: server.url });
  const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
  await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
  const sample = JSON.stringify({ name: 'a', type: 'counter', value: 1 });
  for (let i = 0; i < messages; i++)
    await owner.jetstream().publish('metrics', sample, { timeout: LIMIT_MS });
  const on = { NATS_URL: server.url, METRICS_START: 'earliest' };
  expect((await check(on)).of('reading')).toMatchObject({
    state: 'ok',
    detail: `made and removed 2 consumers, read ${limit} messages`,
  });
  const service = await startServiceProgram({ ...on, SINK_BLACKHOLE_ENABLED: 'true' });
  await eventually('all are read', async () => (await service.status()).messages.received === messages);
  await eventually('answers are counted', async () => {
    const text = await (await fetch(`${service.url}/metrics`)).text();
    return (sampleOf(text, 'fanout_source_answers_total{answer="no_messages"}') ?? 0) > 0;
  });
  expect((await service.status()).source.answers).toMatchObject({ limit_exceeded: 0, unknown: 0 });
  expect(await service.stop()).toBe(0);
  await owner.close();
  await server.stop();
});

describe('METRICS_FORMAT=counter', () => {
  const env = { METRICS_FORMAT: 'counter', SINK_BLACKHOLE_ENABLED: 'true' };
  const REFUSES = /refuses every increment that is published on its subjects \(it lacks allow_msg_counter\)/;
  const OLDER = /this nats-server has no streams of counters \(2\.12 and newer have them\)/;
  const limits = async (given: Record<string, string> = env) => {
    const { code, of } = await check(given);
    return { code, ...of('limits') };
  };
  const logOfStart = async () => {
    const service = await startServiceProgram({ NATS_URL: nats.url, ...env });
    expect(await service.stop()).toBe(0);
    return service.output.stderr;
  };

  test('a stream that takes no increments: check fails, and the service warns', async (context) => {
    needsNats(context, '2.12');
    await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
    const increment = headers();
    increment.set('Nats-Incr', '1');
    await expect(client.jetstream().publish('metrics', '', { headers: increment })).rejects.toThrow(
      'message counters is disabled',
    );
    const found = await limits();
    expect(found).toMatchObject({ code: 1, state: 'failed', detail: expect.stringMatching(REFUSES) });
    expect(found.advice).toContain('remove this one, and the service makes it so');
    expect(await logOfStart()).toMatch(REFUSES);
    const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
    await expect(streams.update('METRICS', { allow_msg_counter: true } as never)).rejects.toThrow();
    await deleteStreams(nats, streams, ['METRICS']);
    // As advised.
    expect(await logOfStart()).not.toMatch(REFUSES);
    expect(await limits()).toMatchObject({ code: 0, state: 'ok', advice: '' });
    const other = await limits({});
    expect(other).toMatchObject({ code: 1, state: 'failed' });
    expect(other.detail).toContain('takes increments of counters, and refuses all else (allow_msg_counter)');
  });

  test('a copy of a stream of counters takes what that one has', async (context) => {
    needsNats(context, '2.12');
    await add({ name: 'EDGE', subjects: ['metrics', 'metrics.>'], allow_msg_counter: true } as never);
    await add({ name: 'METRICS', mirror: { name: 'EDGE' } });
    expect(await limits()).toMatchObject({ code: 0, state: 'ok', advice: '' });
    const { streams } = await client.jetstreamManager();
    await deleteStreams(nats, streams, ['METRICS']);
    await add({ name: 'METRICS', subjects: ['other'], sources: [{ name: 'EDGE' }] });
    const found = await limits({ ...env, METRICS_SUBJECTS: 'metrics' });
    expect(found).toMatchObject({ code: 0, state: 'ok', detail: expect.stringMatching(REFUSES) });
    expect(found.detail).toContain('it copies those of its sources');
  });

  test('an older server cannot have such a stream', async (context) => {
    context.skip(!isNatsOlder(natsVersion(), '2.12'), 'of servers before 2.12');
    const { code, of } = await check(env);
    expect({ code, ...of('stream METRICS') }).toMatchObject({
      code: 0,
      detail: expect.stringMatching(OLDER),
    });
    expect(await logOfStart()).toMatch(OLDER);
    expect(await limits()).toMatchObject({ code: 0, state: 'ok', detail: expect.stringMatching(OLDER) });
  });
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

test('check says if a crash of the server may lose messages', async (context) => {
  needsNats(context, '2.12');
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], persist_mode: 'async' } as never);
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('stream METRICS').advice).toMatch(
    /^By persist_mode: async, the stream may lose messages .* crash/,
  );
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

test('a message that the server publishes later counts once', async (context) => {
  needsNats(context, '2.12');
  const schedules = { allow_msg_schedules: true, allow_msg_ttl: true, allow_rollup_hdrs: true };
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], ...schedules } as never);
  const env = { NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true', METRICS_START: 'earliest' };
  const service = await startServiceProgram(env);
  const later = headers();
  later.set('Nats-Schedule', `@at ${new Date(Date.now() + 1_000).toISOString()}`);
  later.set('Nats-Schedule-Target', 'metrics.now');
  const sample = JSON.stringify({ name: 'a', type: 'counter', value: 1 });
  await client.jetstream().publish('metrics.later', sample, { headers: later, timeout: LIMIT_MS });
  await eventually('both messages', async () => (await service.status()).messages.received === 2);
  expect((await service.status()).messages.rejected.schedule).toBe(1);
  expect(await service.stop()).toBe(0);
});

describe('limits', () => {
  /** What every server with such a limit is said to do. */
  const BUFFERED =
    /^nats-server [\d.]+ drops plain publishes when [\d,]+ messages or 128 MB wait [^;]*?otherwise(; )?/;
  const limits = async (env: Record<string, string> = {}) => {
    const { code, of } = await check(env);
    const { state, detail, advice } = of('limits');
    return { code, state, detail: detail.replace(BUFFERED, ''), advice };
  };
  const publish = async (many: number, subject = 'metrics') => {
    for (let i = 0; i < many; i++) await client.jetstream().publish(subject, `${i}`, { timeout: LIMIT_MS });
  };

  test('nothing is said of a stream as the service makes it', async () => {
    const service = await startServiceProgram({ NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true' });
    expect(await service.stop()).toBe(0);
    const { code, of } = await check();
    expect(code).toBe(0);
    const { state, detail, advice } = of('limits');
    expect({ state, advice }).toEqual({ state: 'ok', advice: '' });
    expect(detail).toMatch(isNatsOlder(natsVersion(), '2.11') ? /^none loses messages$/ : BUFFERED);
    if (!isNatsOlder(natsVersion(), '2.12')) expect(detail).toContain('when 100,000 messages or 128 MB');
  });

  test('a stream that refuses the newest, before it is full and when it is', async () => {
    const subjects = ['metrics', 'metrics.>'];
    await add({ name: 'METRICS', subjects, discard: DiscardPolicy.New, max_msgs: 10 });
    await publish(4);
    expect(await limits()).toEqual({
      code: 0,
      state: 'warn',
      detail: 'when max_msgs (10 messages) is reached, discard: new refuses what comes: now 40 %',
      advice: 'Set discard: old. Raise max_msgs of the stream.',
    });
    await publish(6);
    expect(await limits()).toEqual({
      code: 1,
      state: 'failed',
      detail: 'max_msgs is reached, and discard: new refuses what comes',
      advice: 'Set discard: old. Raise max_msgs of the stream.',
    });
  });

  test('messages that are refused or go by other settings of the stream', async () => {
    const subjects = ['metrics', 'metrics.>'];
    const short = { max_msg_size: 1_000, max_age: nanos(600_000), duplicate_window: nanos(30_000) };
    await add({ name: 'METRICS', subjects, storage: StorageType.Memory, ...short });
    const { code, state, detail, advice } = await limits();
    expect({ code, state }).toEqual({ code: 0, state: 'warn' });
    expect(detail.split('; ')).toEqual([
      'messages of more than 1 KB are refused (max_msg_size)',
      'messages are removed after 10 min (max_age)',
      'a restart of the server loses what the stream holds (storage: memory)',
      'a message that is published again after more than 30 s counts twice (duplicate_window)',
    ]);
    expect(advice).toContain('Unset max_msg_size of the stream. Raise max_age of the stream');
  });

  test('a stream that holds less than max_age, as it is full before that', async () => {
    await add({ name: 'METRICS', subjects: ['metrics'], max_msgs: 10, max_age: nanos(24 * 3_600_000) });
    await publish(20);
    const { code, state, detail, advice } = await limits({ METRICS_SUBJECTS: 'metrics' });
    expect({ code, state }).toEqual({ code: 0, state: 'warn' });
    expect(detail).toMatch(/^max_msgs \(10 messages\) leaves about the last [\d.]+ m?s, not 24 h$/);
    expect(advice).toMatch(/^Raise max_msgs of the stream: /);
  });

  test('what the server takes, the account stores, and whoever may not ask', async () => {
    const user = (name: string, more = '') => `{ user: ${name}, password: ${name}${more} }`;
    const blind = user('b', ', permissions: { publish: { deny: ["$JS.API.INFO"] } }');
    const account = `jetstream: { max_mem: 1M, max_file: 100K }, users: [ ${user('a')}, ${blind} ]`;
    const server = await startNats({ maxPayloadBytes: 4_096, extra: `accounts { A { ${account} } }` });
    const owner = await connect({ servers: server.url, user: 'a', pass: 'a' });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
    const fill = async (many: number) => {
      for (let i = 0; i < many; i++)
        await owner.jetstream().publish('metrics', ''.padEnd(4_000), { timeout: LIMIT_MS });
      return await limits({ NATS_URL: server.url, NATS_USER: 'a', NATS_PASSWORD: 'a' });
    };
    const payload =
      'the server takes no message of more than 4.1 KB (max_payload), and ends the connection of whoever sends one';
    expect(await fill(1)).toMatchObject({ code: 0, state: 'warn', detail: payload });
    const nearly = await fill(20);
    expect(nearly).toMatchObject({ code: 0, state: 'warn' });
    expect(nearly.detail).toMatch(
      /^when max_file of the account \(100 KB\) is reached, no stream of it stores anything: now 8\d(\.\d)? %; the server takes/,
    );
    expect(nearly.advice).toMatch(/^Raise max_file of the account, or set a lower max_bytes or max_age/);
    const full = await fill(3);
    expect(full).toMatchObject({ code: 1, state: 'failed' });
    expect(full.detail).toMatch(/^max_file of the account is reached, and no stream of it stores anything; /);
    const unknown = await limits({ NATS_URL: server.url, NATS_USER: 'b', NATS_PASSWORD: 'b' });
    expect(unknown).toMatchObject({ code: 0, state: 'warn' });
    expect(unknown.detail).toMatch(/; of the account: unknown \(asking for the limits of the account: /);
    await owner.close();
    await server.stop();
  });
});
