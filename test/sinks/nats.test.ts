import { readFileSync } from 'node:fs';
import { type NatsConnection, RetentionPolicy, type StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import nats from '../../sinks/nats/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { connectSinkBus } from '../../src/bus/sink-bus.ts';
import { type NatsServer, natsVersion, startNats } from '../../src/servers/nats.ts';
import { setting } from '../../src/settings/builders.ts';
import { readSettings, type SettingError, type Settings } from '../../src/settings/setting.ts';
import { defineSink, readBackOf, type Sink, type SinkModule } from '../../src/sink/contract.ts';
import { deleteStreams } from '../bus/deleted-streams.ts';
import { connect } from '../bus-client.ts';
import { differences, makePoint, manyPoints, START, WINDOW_MS } from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { describeConformance, type Harness } from '../conformance.ts';
import { FaultProxy } from '../faults/proxy.ts';

const NEVER = new AbortController().signal;
const auth = { kind: 'user', user: 'fanout', password: 's3cret' } as const;
let server: NatsServer | undefined;

/** The service says where the bus is. Here, a setting does. */
const withUrl = defineSink<Settings>({
  ...(nats as SinkModule),
  settings: { ...nats.settings, url: setting.text({ meaning: 'where the bus is', required: true }) },
  create: (config, context) =>
    (nats as SinkModule).create(config, {
      ...context,
      connectBus: () => connectSinkBus({ NATS_URL: config.url as string }),
    }),
});

async function addStream(namespace: string, more: Partial<StreamConfig> = {}): Promise<void> {
  const connection = await connect({ servers: server!.url, user: auth.user, pass: auth.password });
  try {
    const { streams } = await connection.jetstreamManager();
    const isThere = (await streams.names(`windows.${namespace}.>`).next()).length > 0;
    if (!isThere) await streams.add({ name: namespace, subjects: [`windows.${namespace}.>`], ...more });
  } finally {
    await connection.close();
  }
}

const harness = (format: string): Harness => ({
  async start() {
    server = await startNats({ auth });
    return server.port;
  },
  async stop() {
    await server?.stop();
  },
  async variables(namespace, port) {
    await addStream(namespace);
    return {
      URL: `nats://${auth.user}:${auth.password}@127.0.0.1:${port}`,
      SUBJECT: `windows.${namespace}`,
      FORMAT: format,
    };
  },
  wrongCredentials: (variables) => ({ ...variables, URL: variables.URL!.replace(auth.password, 'wrong') }),
  missing: (variables) => ({ ...variables, SUBJECT: 'nowhere' }),
  unusable: (namespace) => addStream(namespace, { retention: RetentionPolicy.Workqueue }),
  secrets: [auth.password],
  differs: { answersNothing: true },
});

describeConformance('nats', harness('json'), async () => withUrl);

describe('on the bus', () => {
  let bus: NatsServer;
  let connection: NatsConnection;
  const open: Sink[] = [];

  beforeAll(async () => {
    bus = await startNats();
    connection = await connect({ servers: bus.url });
    const { streams } = await connection.jetstreamManager();
    await streams.add({ name: 'METRICS', subjects: ['metrics.>'] });
    await streams.add({ name: 'WINDOWS', subjects: ['fanout.windows.>'], max_msg_size: 8_000 });
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((sink) => sink.close()));
  });
  afterAll(async () => {
    await connection?.close();
    await bus?.stop();
  });

  function sinkOf(variables: Record<string, string> = {}, env: Record<string, string> = {}): Sink {
    const settings = Object.fromEntries(
      Object.entries(variables).map(([name, value]) => [`S_${name}`, value]),
    );
    const errors: SettingError[] = [];
    const config = readSettings(nats.settings, 'S_', settings, errors, []);
    expect(errors).toEqual([]);
    const connectBus = () => connectSinkBus({ NATS_URL: bus.url, ...env });
    const sink = nats.create(config, { id: 't', log: { info() {}, warn() {} }, connectBus });
    open.push(sink);
    return sink;
  }
  const opening = (...given: Parameters<typeof sinkOf>) => sinkError(sinkOf(...given).open(NEVER));
  const streams = async () => (await connection.jetstreamManager()).streams;

  it('is heard by anyone, as a subject, headers and JSON', async () => {
    const heard = connection.subscribe('fanout.windows.http.>', { max: 1 });
    await connection.flush();
    const point = makePoint({ name: 'http.requests', values: { count: 3, sum: 9 } });
    expect(await sinkOf().write({ points: [point] }, NEVER)).toEqual({ kind: 'written' });
    for await (const { subject, headers, data } of heard) {
      expect(subject).toBe('fanout.windows.http.requests');
      expect(headers?.get('window')).toBe(String(START));
      expect(headers?.get('series')).toBe(point.series.id);
      expect(JSON.parse(Buffer.from(data).toString())).toEqual({
        window_start: START,
        window_ms: WINDOW_MS,
        series_id: point.series.id,
        name: 'http.requests',
        type: 'counter',
        dimensions: { app: 'api' },
        instance: '',
        count: 3,
        sum: 9,
      });
    }
  });

  it('takes each once, gives way to a correction, and comes back after a removal', async () => {
    const state = async () => (await (await streams()).info('WINDOWS')).state.messages;
    const sink = sinkOf({ FORMAT: 'influx' });
    const [one, other] = [1, 2].map((sum) => makePoint({ name: 'corrected', values: { sum } })) as [
      Point,
      Point,
    ];
    const before = await state();
    for (const point of [one, one]) await sink.write({ points: [point] }, NEVER);
    expect(await state()).toBe(before + 1);
    for (const point of [other, one]) await sink.write({ points: [point] }, NEVER);
    await sink.remove({ points: [one] }, NEVER);
    await sink.write({ points: [one] }, NEVER);
    const rows = await Array.fromAsync(sink.read({ from: START, to: START + 1 }, NEVER));
    const ours = rows.filter(({ series }) => series.name === 'corrected');
    expect(differences(ours, [one])).toEqual([]);
  });

  it('rejects what the stream never takes, and writes the rest', async () => {
    const points = [10, 7_000, 9_000].map((length) => makePoint({ dimensions: [['k', 'x'.repeat(length)]] }));
    const outcome = await sinkOf().write({ points }, NEVER);
    expect(outcome).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 2, reason: 'too_large' }],
    });
  });

  it('is refused without a stream, and says how to make it', async () => {
    const error = await opening({ SUBJECT: 'nowhere' });
    expect(error.reason).toBe('not_found');
    expect(error.advice).toContain("nats stream add WINDOWS --subjects 'nowhere.>'");
    // A stream for a part of the names would acknowledge that part only.
    await (await streams()).add({ name: 'PART', subjects: ['part.http.>'] });
    expect((await opening({ SUBJECT: 'part' })).reason).toBe('not_found');
  });

  it.each([
    ['workqueue', { retention: RetentionPolicy.Workqueue }],
    ['interest', { retention: RetentionPolicy.Interest }],
    ['no_ack', { no_ack: true }],
    ['per_name', { max_msgs_per_subject: 1 }],
  ])('is refused by a stream that does not keep what it takes: %s', async (name, more) => {
    await (await streams()).add({ name, subjects: [`${name}.>`], ...more });
    expect((await opening({ SUBJECT: name })).reason).toBe('schema_mismatch');
  });

  it('says that its stream is gone, and knows that another one is another store', async () => {
    const config = { name: 'GONE', subjects: ['gone.>'] };
    await (await streams()).add(config);
    const sink = sinkOf({ SUBJECT: 'gone' });
    await sink.open(NEVER);
    const before = await sink.identity!(NEVER);
    await deleteStreams(bus, await streams(), ['GONE']);
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toMatchObject({
      kind: 'refused',
      reason: 'not_found',
    });
    await (await streams()).add(config);
    await sink.open(NEVER);
    expect(await sink.identity!(NEVER)).not.toBe(before);
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toEqual({ kind: 'written' });
  });

  it('refuses a loop: subjects that the service reads, and hears', async () => {
    const error = await opening({ SUBJECT: 'metrics.windows' });
    expect(error).toMatchObject({ reason: 'bad_request', message: expect.stringContaining('metrics.>') });
    expect((await opening({ SUBJECT: 'fanout.control' })).reason).toBe('bad_request');
    expect((await opening({ SUBJECT: 'any' }, { METRICS_SUBJECTS: 'any.>' })).reason).toBe('bad_request');
  });

  // Older servers have no transforms.
  it.skipIf(natsVersion().startsWith('2.9.'))(
    'refuses a loop by way of a transform of the stream that is read',
    async () => {
      const transform = { subject_transform: { src: 'raw.>', dest: 'cooked.>' } };
      await (await streams()).add({ name: 'COOKED', subjects: ['raw.>'], ...transform });
      const env = { METRICS_STREAM: 'COOKED', METRICS_SUBJECTS: 'cooked.>' };
      const error = await opening({ SUBJECT: 'raw.windows' }, env);
      expect(error).toMatchObject({ reason: 'bad_request', message: expect.stringContaining('COOKED') });
      await sinkOf({ SUBJECT: 'raw.windows' }, { ...env, METRICS_SUBJECTS: 'cooked.metrics.>' }).open(NEVER);
    },
  );

  it('without a stream is not written as long as the server has not read it', async () => {
    const proxy = await FaultProxy.start(bus.port);
    try {
      const sink = sinkOf(
        { SUBJECT: 'plain', DELIVERY: 'core' },
        { NATS_URL: `nats://127.0.0.1:${proxy.port}` },
      );
      await sink.open(NEVER);
      proxy.hang();
      const outcome = await sink.write({ points: [makePoint()] }, AbortSignal.timeout(200));
      expect(outcome).toMatchObject({ kind: 'retry', reason: 'timeout' });
    } finally {
      await proxy.stop();
    }
  });

  it('without a stream is plain NATS: written when the server has it, heard by who listens, and never read back', async () => {
    const heard = connection.subscribe('plain.>');
    await connection.flush();
    const sink = sinkOf({ SUBJECT: 'plain', DELIVERY: 'core' });
    expect(await sink.write({ points: manyPoints(100) }, NEVER)).toEqual({ kind: 'written' });
    await connection.flush();
    expect(heard.getReceived()).toBe(100);
    expect(await Array.fromAsync(sink.read({ from: 0, to: START + WINDOW_MS }, NEVER))).toEqual([]);
    expect(await sink.identity!(NEVER)).toBeUndefined();
    const module = nats as SinkModule;
    expect(readBackOf(module, { delivery: 'core' })).toBe('none');
    expect(readBackOf(module, { delivery: 'stream' })).toBe('ranges');
  });
});

describe('the rights of its user', () => {
  /** As docs/stores.md lists them; METRICS is what the service looks at anyway. */
  const RIGHTS = [
    'fanout.windows.>',
    '$JS.API.STREAM.NAMES',
    '$JS.API.STREAM.INFO.WINDOWS',
    '$JS.API.STREAM.INFO.METRICS',
    '$JS.API.CONSUMER.CREATE.WINDOWS',
    '$JS.API.CONSUMER.MSG.NEXT.WINDOWS.*',
    '$JS.API.CONSUMER.DELETE.WINDOWS.*',
  ];
  let bus: NatsServer;

  beforeAll(async () => {
    const user = (name: string, publish: readonly string[]) =>
      `{ user: ${name}, password: p, permissions: { publish: ${JSON.stringify(publish)}, subscribe: ["_INBOX.>"] } }`;
    const users = [user('all', ['>']), user('some', RIGHTS), user('few', RIGHTS.slice(1))];
    bus = await startNats({ extra: `authorization { users: [${users.join(', ')}] }` });
    const connection = await connect({ servers: bus.url, user: 'all', pass: 'p' });
    await (await connection.jetstreamManager()).streams.add({
      name: 'WINDOWS',
      subjects: ['fanout.windows.>'],
    });
    await connection.close();
  });
  afterAll(() => bus?.stop());

  async function written(user: string) {
    const connectBus = () => connectSinkBus({ NATS_URL: bus.url, NATS_USER: user, NATS_PASSWORD: 'p' });
    const config = { subject: 'fanout.windows', format: 'json', delivery: 'stream' } as const;
    const sink = nats.create(config, { id: 't', log: { info() {}, warn() {} }, connectBus });
    try {
      await sink.open(NEVER);
      const outcome = await sink.write({ points: [makePoint()] }, NEVER);
      const again = await sink.write({ points: [makePoint()] }, NEVER);
      const rows = await Array.fromAsync(sink.read({ from: 0, to: START + 1 }, NEVER));
      return { outcome, again, rows: rows.length };
    } finally {
      await sink.close();
    }
  }

  it('are those that docs/stores.md lists', async () => {
    const said = readFileSync('docs/stores.md', 'utf8');
    for (const right of RIGHTS.filter((right) => !right.endsWith('METRICS')))
      expect(said).toContain(`\`${right}\``);
    const all = { kind: 'written' };
    expect(await written('some')).toEqual({ outcome: all, again: all, rows: 1 });
  });

  it('are named in the error without them', async () => {
    const { outcome } = await written('few');
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'unauthorized' });
    expect((outcome as { message: string }).message).toContain('windows-back-on-the-bus');
  });
});
