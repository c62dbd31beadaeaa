/** Counters, atomic batches and schedules of newer servers: what is in the stream counts once, in the right window. */
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { headers, type StreamConfig } from 'nats';
import { afterEach, expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { createCoreSource } from '../../src/bus/read/core.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import { ensureStream, manager } from '../../src/bus/stream.ts';
import { openPipeline } from '../../src/deliver/pipeline.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { LIMIT_MS } from '../limits.ts';
import { needsNats } from './server-version.ts';
import { memoryLog, settings, until } from './support.ts';

const WINDOW_MS = 100;
const HIT = JSON.stringify({ name: 'hits', type: 'counter', value: 1 });
const stops: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

type Core = ReturnType<typeof settings>;

async function setUp(env: Record<string, string>): Promise<{ nats: NatsServer; bus: Bus; core: Core }> {
  const nats = await startNats();
  stops.push(() => nats.stop());
  const core = settings({ NATS_URL: nats.url, IDLE_SLACK: '50ms', ...env });
  const bus = await connect(core, memoryLog());
  stops.push(() => bus.close());
  return { nats, bus, core };
}

interface Row {
  readonly start: number;
  readonly series: string;
  readonly count: number;
  readonly sum: number;
}

/** Reads as the service does, in short windows, until the test ends. Returns the rows so far. */
function reading(bus: Bus, core: Core) {
  const tiling = Tiling.of({ windowMs: WINDOW_MS, latenessMs: 0, maxAheadMs: 0, maxSeries: 100 });
  const rows: Row[] = [];
  const rounded: string[] = [];
  const { pipeline } = openPipeline(
    SeriesTable.of(tiling),
    { ...core, maxMessageBytes: 1_048_576, slice: { index: 0, of: 1 } },
    { from: Number.NEGATIVE_INFINITY, closedThrough: 0, instance: '', tiling },
    {
      nextTurn: systemClock.nextTurn,
      onRounded: ({ name }, sum) => rounded.push(`${name} ${sum}`),
      onWindows: (windows) => {
        for (const window of windows)
          for (let i = 0; i < window.size; i++) {
            const { series, count, sum } = window.point(i);
            rows.push({ start: window.start, series: `${series.type} ${series.name}`, count, sum });
          }
      },
    },
  );
  const stop = new AbortController();
  const source =
    core.metricsSource === 'core'
      ? createCoreSource(bus, core)
      : createJetStreamSource(bus, core, { start: { kind: 'earliest' } });
  const run = source.run(pipeline, stop.signal);
  stops.push(() => {
    stop.abort();
    return run;
  });
  const totals = () => {
    const sums = new Map<string, { count: number; sum: number }>();
    for (const { series, count, sum } of rows) {
      const before = sums.get(series) ?? { count: 0, sum: 0 };
      sums.set(series, { count: before.count + count, sum: before.sum + sum });
    }
    return Object.fromEntries(sums);
  };
  const counted = () => Object.values(totals()).reduce((all, { count }) => all + count, 0);
  return { rows, rounded, stats: pipeline.stats, totals, counted };
}

const add = async (bus: Bus, config: object) =>
  (await manager(bus)).streams.add(config as Partial<StreamConfig> & { name: string });

/** Publishes, and returns the server's answer. */
async function ask(bus: Bus, subject: string, fields: Record<string, string>, body = ''): Promise<object> {
  const block = headers();
  for (const [name, value] of Object.entries(fields)) block.set(name, value);
  return (await bus.connection.request(subject, body, { headers: block, timeout: LIMIT_MS })).json();
}

/** As nats-server 2.15.1 hands them over: the header, and in the body the running total. */
const STORED = [
  ['Nats-Incr: 1', 'orders.eu', 1],
  ['Nats-Incr: +5', 'orders.eu', 6],
  ['Nats-Incr: -3', 'orders.eu', 3],
  ['Nats-Incr: 2\r\nNats-Msg-Id: x', 'orders.us', 2],
  [
    'Nats-Incr: 4\r\nNats-Stream-Source: C 4 c.> orders.> c.us RJKe6mAE\r\nNats-Counter-Sources: {"C":{"c.us":"4"}}',
    'orders.us',
    6,
  ],
  ['Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\nNats-Incr: 10', 'orders.us', 16],
] as const;

test('counters, with the bytes of a server that has them', async () => {
  const { nats, bus, core } = await setUp({
    METRICS_SOURCE: 'core',
    METRICS_SUBJECTS: 'orders.*',
    METRICS_FORMAT: 'counter',
  });
  const { totals, counted, stats } = reading(bus, core);
  await bus.flush();
  const socket = connectSocket(nats.port, '127.0.0.1');
  await once(socket, 'data');
  socket.write('CONNECT {"verbose":false,"headers":true}\r\n');
  for (const [fields, subject, total] of STORED) {
    const block = `NATS/1.0\r\n${fields}\r\n\r\n`;
    const body = `{"val":"${total}"}`;
    socket.write(`HPUB ${subject} ${block.length} ${block.length + body.length}\r\n${block}${body}\r\n`);
  }
  socket.end('PUB orders.eu 11\r\n{"val":"7"}\r\n');
  await until('all rows', () => counted() === STORED.length && stats.rejectedMessages.size > 0);
  expect(totals()).toEqual({
    'counter orders.eu': { count: 3, sum: 3 },
    'counter orders.us': { count: 3, sum: 16 },
  });
  expect([...stats.rejectedMessages]).toEqual([['missing_increment', 1]]);
});

test('counters of a real stream, and of one that copies it; sums beyond 2^53 are told', async (context) => {
  needsNats(context, '2.12');
  const env = { METRICS_SUBJECTS: 'orders.*', METRICS_FORMAT: 'counter' };
  const { bus, core } = await setUp(env);
  // Made so that it takes them.
  await ensureStream(bus, core);
  const { totals, counted, stats, rounded } = reading(bus, core);
  const increments = ['1', '+5', '-3', '007', '0'];
  for (const increment of increments) await ask(bus, 'orders.eu', { 'Nats-Incr': increment });
  await ask(bus, 'orders.us', { 'Nats-Incr': '2', 'Nats-Msg-Id': 'x' });
  expect(await ask(bus, 'orders.us', { 'Nats-Incr': '2', 'Nats-Msg-Id': 'x' })).toMatchObject({
    duplicate: true,
  });
  expect(await ask(bus, 'orders.us', { 'Nats-Incr': '1.5' })).toMatchObject({ error: { code: 400 } });
  await until('all rows', () => counted() === increments.length + 1);
  const expected = {
    'counter orders.eu': { count: increments.length, sum: 10 },
    'counter orders.us': { count: 1, sum: 2 },
  };
  expect(totals()).toEqual(expected);
  expect([stats.rejectedMessages.size, stats.roundedSums]).toEqual([0, 0]);

  await add(bus, {
    name: 'COPY',
    allow_msg_counter: true,
    allow_direct: true,
    sources: [{ name: 'METRICS' }],
  });
  const copied = reading(bus, settings({ NATS_URL: core.natsUrl.join(','), ...env, METRICS_STREAM: 'COPY' }));
  await until('the copy', () => copied.counted() === increments.length + 1);
  expect(copied.totals()).toEqual(expected);

  const large = '9007199254740992';
  await ask(bus, 'orders.large', { 'Nats-Incr': large });
  await until('it is told', () => rounded.length > 0);
  expect(rounded).toEqual([`orders.large ${large}`]);
  expect(stats.roundedSums).toBe(1);
});

test('an atomic batch counts once, at the time of its commit', async (context) => {
  needsNats(context, '2.12');
  const { bus, core } = await setUp({});
  await add(bus, { name: 'METRICS', subjects: ['metrics', 'metrics.>'], allow_atomic: true });
  const { rows, totals, counted } = reading(bus, core);
  const batch = async (id: string, size: number, commits: boolean) => {
    for (let i = 1; i <= size; i++) {
      const fields = { 'Nats-Batch-Id': id, 'Nats-Batch-Sequence': `${i}` };
      const last = i === size && commits;
      if (last) await sleep(5 * WINDOW_MS);
      const block = headers();
      for (const [name, value] of Object.entries(fields)) block.set(name, value);
      const at = Date.now();
      if (last) {
        await ask(bus, 'metrics', { ...fields, 'Nats-Batch-Commit': '1' }, HIT);
        return at;
      }
      bus.connection.publish('metrics', HIT, { headers: block });
    }
    return Number.NaN;
  };
  await batch('abandoned', 3, false);
  const committed = await batch('whole', 4, true);
  await until('all rows', () => counted() >= 4);
  await bus.connection.jetstream().publish('metrics', HIT, { timeout: LIMIT_MS });
  await until('what comes later', () => counted() >= 5);
  expect(totals()).toEqual({ 'counter hits': { count: 5, sum: 5 } });
  for (const { start } of rows) expect(start + WINDOW_MS).toBeGreaterThan(committed);
});

test('what a schedule publishes counts once, when it is published; the order for it does not', async (context) => {
  needsNats(context, '2.12');
  const { bus, core } = await setUp({});
  await add(bus, { name: 'METRICS', subjects: ['metrics', 'metrics.>'], allow_msg_schedules: true });
  const { rows, totals, counted, stats } = reading(bus, core);
  const due = Date.now() + 2_000;
  const order = {
    'Nats-Schedule': `@at ${new Date(due).toISOString()}`,
    'Nats-Schedule-Target': 'metrics.done',
  };
  await ask(bus, 'metrics.order', order, HIT);
  await until('it is published', () => counted() > 0);
  await bus.connection.jetstream().publish('metrics', HIT, { timeout: LIMIT_MS });
  await until('what comes later', () => counted() >= 2);
  expect(totals()).toEqual({ 'counter hits': { count: 2, sum: 2 } });
  expect([...stats.rejectedMessages]).toEqual([['schedule', 1]]);
  expect(rows[0]!.start + WINDOW_MS).toBeGreaterThan(due);
});
