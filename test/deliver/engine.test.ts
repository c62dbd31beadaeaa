import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { coarseTiling } from '../../src/aggregate/coarse-tiling.ts';
import type { Series } from '../../src/aggregate/point.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { UnreadableCheckpoint } from '../../src/bus/bus-error.ts';
import type { Checkpoint } from '../../src/bus/kv/checkpoints.ts';
import { newSourceStats, type Reader, type Source, type SourceStats } from '../../src/bus/read/source.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { type Attachment, Engine, type EngineEvents, type EngineSettings } from '../../src/deliver/engine.ts';
import { CheckpointKeeper } from '../../src/deliver/lane/checkpoint-saver.ts';
import { NameChoices } from '../../src/deliver/name-choices.ts';
import { readFrom } from '../../src/deliver/start-points.ts';
import { ScriptedSink } from './fixtures.ts';
import { VirtualClock } from './virtual-clock.ts';

const TILING = Tiling.of({
  windowMs: 1000,
  latenessMs: 100,
  maxAheadMs: 100,
  maxSeries: 100,
  sketchScale: SKETCH_SCALE,
});
const SETTINGS: EngineSettings = {
  metricsFormat: 'auto',
  metricsCounters: undefined,
  maxMessageBytes: 10_000,
  slice: { index: 0, of: 1 },
  stopTimeoutMs: 1000,
  verify: { share: 1, replayShare: 0.5, delayMs: 3000 },
};

/** A stream in memory. The stream times are as given: a server's clock may step back. */
class Stream {
  readonly messages: { readonly payload: Uint8Array; readonly time: number }[] = [];
  /** How many of them it no longer holds. */
  removed = 0;

  publish(time: number, eventTime: number, value: number): void {
    const timestamp = new Date(eventTime).toISOString();
    const payload = Buffer.from(JSON.stringify({ name: 'a', type: 'counter', value, timestamp }));
    this.messages.push({ payload, time });
  }

  /** Hands over the messages one by one, reports progress after each, and waits for more. `through`: read before. */
  source(from: number, clock: VirtualClock, through = Number.POSITIVE_INFINITY): Source {
    const stats: SourceStats = { ...newSourceStats(), reading: true };
    const { removed } = this;
    const first = this.messages.findIndex(({ time }, i) => i >= removed && (time >= from || i >= through));
    const toTime = this.messages[removed]?.time ?? from;
    const run = async (reader: Reader, signal: AbortSignal) => {
      let told = 0;
      if (removed > 0 && toTime > from) reader.gap?.({ fromTime: from, toTime, messages: 0 });
      for (let i = first < 0 ? this.messages.length : first; !signal.aborted; ) {
        const message = this.messages[i];
        if (message === undefined) {
          await clock.sleep(10, signal);
          continue;
        }
        i += 1;
        stats.lastSequence = i;
        stats.lastStreamTime = message.time;
        reader.message(wholeMessage(message.payload, message.time, i));
        told = Math.max(told, message.time);
        await reader.progress(told);
      }
    };
    return { stats, run };
  }
}

const differences: string[] = [];
const SILENT: EngineEvents = {
  closed() {},
  differs: (sink, difference) => differences.push(`${sink}: ${difference}`),
  wrote() {},
  pointsRejected() {},
  pointsLost() {},
  sinkChanged() {},
  cumulative() {},
  rounded() {},
  messageRejected() {},
  leftUnread() {},
  catchUpStarted() {},
  replayFailed(sink, error) {
    throw new Error(`${sink}: ${String(error)}`);
  },
  catchingUp() {},
  caughtUp() {},
  reopened() {},
  swept() {},
  storeReplaced() {},
  storeUnnamed() {},
  receiptsChanged() {},
};

/** Windows 0 and 1, and after the server's clock stepped back a message of window 0, which is in the stores by then. */
async function reopen(stream: Stream, clock: VirtualClock): Promise<void> {
  stream.publish(500, 500, 1);
  stream.publish(1200, 1200, 10);
  await clock.pass(100);
  stream.publish(900, 900, 2);
  stream.publish(2500, 2500, 100);
  await clock.pass(5000);
}

function setUp() {
  const clock = new VirtualClock(1_700_000_000_000);
  const stream = new Stream();
  const sinks = { a: new ScriptedSink(), b: new ScriptedSink() };
  const saved = new Map<string, Checkpoint>();
  const store = {
    load: async (sink: string) => saved.get(sink),
    save: async (sink: string, checkpoint: Checkpoint) => {
      if (spoiled.has(sink)) throw new UnreadableCheckpoint(`${sink} is garbage`, 'Delete it.');
      if ((saved.get(sink)?.next ?? 0) >= checkpoint.next) return 'superseded' as const;
      saved.set(sink, checkpoint);
      return 'saved' as const;
    },
    list: async () => [],
  };
  const spoiled = new Set<string>();
  const start = (
    begins: Readonly<Record<string, number>> = {},
    events = SILENT,
    settings: Partial<EngineSettings> = {},
    names: ReadonlyMap<string, NameChoices> = new Map(),
    windows: ReadonlyMap<string, Tiling> = new Map(),
  ) => {
    const attachmentOf = (): Attachment => ({
      tiling: TILING,
      from: new Map(Object.keys(sinks).map((id) => [id, saved.get(id)?.next ?? begins[id] ?? 0])),
      closedThrough: new Map([...saved].map(([id, { sequence }]) => [id, sequence])),
      unreadable: new Map([...spoiled].map((id) => [id, new UnreadableCheckpoint(`${id} is garbage`, '')])),
      names,
      windows,
      replayable: true,
      keepsMs: 60_000,
      reattach: async () => attachmentOf(),
      instance: '',
      open: (first: number, closed?: number) => stream.source(readFrom(first, TILING), clock, closed),
      openAside: (first: number) => stream.source(readFrom(first, TILING), clock),
      keeperOf: (sink: string) =>
        new CheckpointKeeper({
          sink,
          store,
          clock,
          describe: () => ({ savedAt: '', shape: {} as never }),
          failed() {},
        }),
    });
    const limits = { maxPoints: 10, maxBytes: 1e6, inFlight: 2 };
    const engineSinks = Object.entries(sinks).map(([id, sink]) => {
      return { id, kind: 'scripted', sink, limits, timeoutMs: 1000, backlogBytes: 1e6 };
    });
    const engine = new Engine(attachmentOf(), engineSinks, { ...SETTINGS, ...settings }, clock, events);
    const stop = new AbortController();
    const run = engine.run(stop.signal);
    return {
      engine,
      stop: async () => {
        stop.abort();
        await clock.pass(5000);
        await run;
      },
    };
  };
  const rows = (sink: ScriptedSink) => Object.fromEntries([...sink.rows].sort());
  return { clock, stream, sinks, saved, spoiled, start, rows };
}

test('a message for a window that was handed out: the window is recomputed and overwritten in every store', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const { stop } = start();
  stream.publish(500, 500, 1);
  stream.publish(1200, 1200, 10);
  await clock.pass(100);
  expect(rows(sinks.a)).toEqual({ '0:a': 1 });
  // The server's clock steps back: this message belongs to window 0, which is already in the stores.
  stream.publish(900, 900, 2);
  stream.publish(2500, 2500, 100);
  await clock.pass(5000);
  await stop();
  for (const sink of Object.values(sinks)) expect(rows(sink)).toEqual({ '0:a': 3, '1:a': 10 });
});

test('a part of a window of a sink of its own is reopened: the whole of it is written again, for that sink', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const recomputed: number[] = [];
  const events = { ...SILENT, recomputed: (at: number) => recomputed.push(at) };
  const windows = new Map([['a', coarseTiling(TILING, 3000)]]);
  const { stop } = start({}, events, {}, new Map(), windows);
  for (const [at, value] of [
    [500, 1],
    [1200, 10],
    [2200, 100],
    [3500, 1000],
  ] as const) {
    stream.publish(at, at, value);
    await clock.pass(100);
  }
  expect([rows(sinks.a), rows(sinks.b)]).toEqual([{ '0:a': 111 }, { '0:a': 1, '1:a': 10, '2:a': 100 }]);
  // The server's clock steps back.
  stream.publish(900, 900, 2);
  stream.publish(6500, 6500, 1);
  await clock.pass(5000);
  await stop();
  expect(rows(sinks.a)).toEqual({ '0:a': 113, '3:a': 1000 });
  expect(rows(sinks.b)).toEqual({ '0:a': 3, '1:a': 10, '2:a': 100, '3:a': 1000 });
  // Each lane tells of the window of the pipeline.
  expect(recomputed).toEqual([0, 0]);
});

test('a sum that is too large only in a window of a sink of its own is counted, and told once', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const told: string[] = [];
  const events = { ...SILENT, rounded: ({ name }: Series, sum: number) => told.push(`${name} ${sum}`) };
  const windows = new Map([['a', coarseTiling(TILING, 3000)]]);
  const names = new Map([['b', new NameChoices([{ from: 0, names: ['other'] }])]]);
  const { engine, stop } = start({}, events, {}, names, windows);
  const large = 2 ** 52;
  for (const at of [500, 1200, 2200, 3500, 4500, 5500, 6500, 9500]) stream.publish(at, at, large);
  await clock.pass(5000);
  await stop();
  expect(rows(sinks.a)).toEqual({ '0:a': 3 * large, '3:a': 3 * large, '6:a': large });
  expect([engine.live.pipeline.stats.roundedSums, engine.roundedSums]).toEqual([0, 2]);
  expect(told).toEqual([`a ${3 * large}`]);
});

test('a sink with windows of its own resumes ahead of where the live path starts, and lacks nothing', async () => {
  const { clock, stream, sinks, saved, start, rows } = setUp();
  const windows = new Map([['a', coarseTiling(TILING, 3000)]]);
  const checkpoint = { savedAt: '', shape: {} as never };
  saved.set('a', { ...checkpoint, next: 6000, sequence: 1 });
  saved.set('b', { ...checkpoint, next: 4000, sequence: 1 });
  for (const [at, value] of [
    [3500, 1],
    // News for a window that the sink ahead has, but no news for the live path, which computes it for the other one.
    [4500, 100],
    [6500, 10],
    [9500, 1000],
  ] as const)
    stream.publish(at, at, value);
  const { engine, stop } = start({}, SILENT, {}, new Map(), windows);
  await clock.pass(10_000);
  expect(engine.lanes.map(({ lane }) => [lane.state, lane.next])).toEqual([
    ['live', 9000],
    ['live', 9000],
  ]);
  await stop();
  expect(rows(sinks.a)).toEqual({ '3:a': 101, '6:a': 10 });
  expect(rows(sinks.b)).toEqual({ '4:a': 100, '6:a': 10 });
});

test('a window stays as it is if the stream no longer holds it whole when a message comes for it', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const { engine, stop } = start();
  stream.publish(500, 500, 1);
  stream.publish(700, 700, 2);
  stream.publish(1200, 1200, 10);
  await clock.pass(100);
  stream.removed = 1;
  // The server's clock steps back.
  stream.publish(900, 900, 4);
  stream.publish(2500, 2500, 100);
  await clock.pass(5000);
  await stop();
  for (const sink of Object.values(sinks)) expect(rows(sink)).toEqual({ '0:a': 3, '1:a': 10 });
  expect(engine.gaps.latest).toMatchObject([{ from: -1000 }, { from: -1000 }]);
});

test.each([
  ['a', 'b'],
  ['b', 'a'],
] as const)(
  'of two sinks that reach one table with windows of two lengths, %s with the longer ones is stopped',
  async (long, short) => {
    const { clock, stream, sinks, start, rows } = setUp();
    for (const sink of Object.values(sinks)) Object.assign(sink, { identity: async () => 'one table' });
    const windows = new Map([[long, coarseTiling(TILING, 3000)]]);
    const { engine, stop } = start({}, SILENT, {}, new Map(), windows);
    await clock.pass(100);
    for (let second = 0; second < 8; second++) stream.publish(1000 * second + 500, 1000 * second + 500, 1);
    await clock.pass(10_000);
    const laneOf = (id: string) => engine.lanes.find(({ lane }) => lane.id === id)!.lane;
    expect([laneOf(long).state, laneOf(long).up]).toEqual(['stopped', false]);
    expect(laneOf(long).lastFailure).toMatchObject({
      reason: 'shared_table',
      message: expect.stringContaining(
        `the sink ${short} writes windows of another length to the same table`,
      ),
    });
    expect(rows(sinks[long])).toEqual({});
    expect(laneOf(short).state).toBe('live');
    expect(Object.values(rows(sinks[short])).every((sum) => sum === 1)).toBe(true);
    expect(sinks[short].rows.size).toBeGreaterThan(5);
    await stop();
  },
);

test('a sink that is stopped because of its table is told of once, and stays so when its checkpoint can be read again', async () => {
  const { clock, stream, sinks, spoiled, start, rows } = setUp();
  for (const sink of Object.values(sinks)) Object.assign(sink, { identity: async () => 'one table' });
  sinks.b.openError = new Error('down');
  const told: string[] = [];
  const events = { ...SILENT, tableShared: (sink: string) => told.push(sink) };
  const { engine, stop } = start({}, events, {}, new Map(), new Map([['a', coarseTiling(TILING, 3000)]]));
  const { lane } = engine.lanes[0]!;
  const publish = async (from: number, to: number) => {
    for (let second = from; second < to; second++)
      stream.publish(1000 * second + 500, 1000 * second + 500, 1);
    await clock.pass(1000 * (to - from));
  };
  await publish(0, 5);
  spoiled.add('a');
  await publish(5, 10);
  expect(lane.lastFailure).toMatchObject({ reason: 'checkpoint' });
  const before = rows(sinks.a);
  sinks.b.openError = undefined;
  await publish(10, 60);
  expect(lane.lastFailure).toMatchObject({ reason: 'shared_table' });
  const { downSince } = lane;
  spoiled.clear();
  await publish(60, 200);
  expect([lane.state, lane.downSince, told]).toEqual(['stopped', downSince, ['a']]);
  expect(rows(sinks.a)).toEqual(before);
  expect(sinks.b.rows.size).toBeGreaterThan(190);
  await stop();
});

test('sinks with one table and windows of one length, or with tables of their own, go on', async () => {
  const { clock, stream, sinks, start } = setUp();
  Object.assign(sinks.a, { identity: async () => 'one' });
  Object.assign(sinks.b, { identity: async () => 'another' });
  const { engine, stop } = start({}, SILENT, {}, new Map(), new Map([['a', coarseTiling(TILING, 3000)]]));
  stream.publish(500, 500, 1);
  stream.publish(8500, 8500, 1);
  await clock.pass(5000);
  expect(engine.lanes.map(({ lane }) => lane.state)).toEqual(['live', 'live']);
  await stop();
  const { clock: later, sinks: same, start: again } = setUp();
  for (const sink of Object.values(same)) Object.assign(sink, { identity: async () => 'one' });
  const { engine: other, stop: end } = again();
  await later.pass(5000);
  expect(other.lanes.map(({ lane }) => lane.state)).toEqual(['live', 'live']);
  await end();
});

test('a lane that is set back knows what the live path was told of its windows before', async () => {
  const { clock, stream, sinks, saved, start, rows } = setUp();
  const { engine, stop } = start();
  stream.publish(500, 500, 1);
  stream.publish(1200, 1200, 10);
  await clock.pass(100);
  // The server's clock steps back: this message belongs to window 0. Without it, a replay of that window ends before.
  stream.publish(900, 900, 2);
  await clock.pass(5000);
  expect(rows(sinks.a)).toEqual({ '0:a': 3 });
  await Promise.all([
    engine.replaceLane('a', async () => {
      saved.set('a', { ...saved.get('a')!, next: 0, sequence: 0 });
    }),
    clock.pass(5000),
  ]);
  stream.publish(2500, 2500, 100);
  await clock.pass(5000);
  await stop();
  for (const sink of Object.values(sinks)) expect(rows(sink)).toEqual({ '0:a': 3, '1:a': 10 });
});

test('a window is not written again by a guess at the names of the sink: that is counted and told', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const told: unknown[] = [];
  const namesUnknown = (...unknown: unknown[]) => told.push(unknown);
  const names = new Map([['a', new NameChoices([{ from: 1_000, names: ['*'] }])]]);
  const { engine, stop } = start({}, { ...SILENT, namesUnknown }, {}, names);
  await reopen(stream, clock);
  await stop();
  expect(rows(sinks.a)).toEqual({ '0:a': 1, '1:a': 10 });
  expect(rows(sinks.b)).toEqual({ '0:a': 3, '1:a': 10 });
  expect(told).toEqual([['a', 0]]);
  expect(engine.gaps.latest).toEqual([{ messages: 0, from: 0, to: 1000 }]);
});

test('whoever keeps windows hears where they begin, which are closed, and what becomes of one that is reopened', async () => {
  const { clock, stream, start } = setUp();
  const told: unknown[] = [];
  const sumOf = (window: ClosedWindow) => [window.start, window.sumOf(0), window.takeSketches()?.size ?? 0];
  const { stop } = start(
    {},
    {
      ...SILENT,
      began: (from) => told.push(['began', from]),
      closed: (windows, boundary) => told.push(['closed', windows.map(sumOf), boundary]),
      reopened: (starts, through) => told.push(['reopened', starts, through]),
      recomputed: (at, window, read) => told.push(['recomputed', at, window && sumOf(window), read]),
    },
    { keepsSketches: true },
  );
  await reopen(stream, clock);
  await stop();
  expect(told.slice(0, 4)).toEqual([
    ['began', 0],
    ['closed', [[0, 1, 0]], 1000],
    ['reopened', [0], 3],
    ['closed', [[1000, 10, 0]], 2000],
  ]);
  // By each sink that writes it again.
  for (const each of told.slice(4)) expect(each).toEqual(['recomputed', 0, [0, 3, 0], 3]);
  expect(told.length).toBeGreaterThan(4);
});

test('a sink that starts later has missed nothing after a resume, and gets nothing from before its start', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const { engine, stop } = start({ b: clock.now() + 86_400_000 });
  stream.publish(500, 500, 1);
  stream.publish(1200, 1200, 10);
  await clock.pass(1000);
  engine.pause('b');
  await clock.pass(1000);
  engine.resume('b');
  stream.publish(2500, 2500, 100);
  stream.publish(3500, 3500, 1000);
  await clock.pass(5000);
  const [, b] = engine.lanes;
  expect([b!.lane.state, b!.lane.backlogPoints, engine.progressOf(b!.lane)]).toEqual(['live', 0, undefined]);
  await stop();
  expect([rows(sinks.a), rows(sinks.b)]).toEqual([{ '0:a': 1, '1:a': 10, '2:a': 100 }, {}]);
});

test.each(['before the start', 'while it runs'])(
  'a checkpoint that is spoiled %s stops only its own sink, until it is deleted; nothing is lost',
  async (when) => {
    const { clock, stream, sinks, saved, spoiled, start, rows } = setUp();
    if (when === 'before the start') spoiled.add('a');
    const { engine, stop } = start();
    const looks = () => engine.lanes.map(({ lane: { state, up } }) => `${state} ${up}`);
    stream.publish(500, 500, 1);
    stream.publish(1200, 1200, 10);
    await clock.pass(5000);
    spoiled.add('a');
    stream.publish(2500, 2500, 100);
    await clock.pass(60_000);
    expect(looks()).toEqual(['stopped false', 'live true']);
    expect(engine.lanes[0]!.lane.lastFailure).toMatchObject({
      reason: 'checkpoint',
      message: expect.stringContaining('a is garbage'),
    });
    // Only deleting the checkpoint lets it go on.
    engine.pause('a');
    engine.resume('a');
    stream.publish(3500, 3500, 1000);
    await clock.pass(60_000);
    expect(looks()).toEqual(['stopped false', 'live true']);
    expect(rows(sinks.a)['2:a']).toBeUndefined();
    expect(rows(sinks.b)).toEqual({ '0:a': 1, '1:a': 10, '2:a': 100 });
    spoiled.clear();
    stream.publish(4500, 4500, 10_000);
    await clock.pass(120_000);
    expect(looks()).toEqual(['live true', 'live true']);
    expect(rows(sinks.a)).toEqual({ '0:a': 1, '1:a': 10, '2:a': 100, '3:a': 1000 });
    expect(saved.get('a')?.next).toBe(saved.get('b')?.next);
    await stop();
  },
);

test('a crash before a window is rewritten: the next start finds the message again', async () => {
  const { clock, stream, sinks, saved, start, rows } = setUp();
  start();
  stream.publish(500, 500, 1);
  stream.publish(1200, 1200, 10);
  await clock.pass(3000);
  expect([...saved.values()].map(({ next, sequence }) => [next, sequence])).toEqual([
    [1000, 2],
    [1000, 2],
  ]);
  // Store a hangs on the rewrite: its checkpoint must not move, although all later windows are written.
  sinks.a.answer = ({ points }) => (points[0]!.windowStart === 0 ? 'hang' : undefined);
  stream.publish(900, 900, 2);
  stream.publish(2500, 2500, 100);
  await clock.pass(60_000);
  expect(rows(sinks.a)).toEqual({ '0:a': 1, '1:a': 10 });
  expect(saved.get('a')?.next).toBe(1000);
  expect(saved.get('b')?.next).toBe(2000);
  expect(rows(sinks.b)).toEqual({ '0:a': 3, '1:a': 10 });
  // The first instance is left hanging, which is what a crash looks like to the next one.
  const dead = sinks.a;
  sinks.a = new ScriptedSink();
  for (const [key, value] of dead.rows) sinks.a.rows.set(key, value);
  const { stop } = start();
  await clock.pass(60_000);
  await stop();
  expect(rows(sinks.a)).toEqual({ '0:a': 3, '1:a': 10 });
});

test('a restart does not take a message for new if it was already in its window', async () => {
  const { clock, stream, sinks, start } = setUp();
  const first = start();
  for (let i = 0; i < 50; i++) stream.publish(i * 100, i * 100 - 50, 1);
  await clock.pass(5000);
  await first.stop();
  const written = sinks.a.batches.length;
  const second = start();
  await clock.pass(5000);
  expect(second.engine.live.aggregator.stats.reopened).toBe(0);
  expect(second.engine.live.aggregator.stats.ignored).toBeGreaterThan(0);
  await second.stop();
  expect(sinks.a.batches.length).toBe(written);
});

test('a sink is owed nothing that is lost until the stream deletes what its first window can depend on', async () => {
  const { clock, stream, sinks, start } = setUp();
  const { engine, stop } = start();
  sinks.b.answer = () => ({ kind: 'retry', reason: 'connection', message: 'no' });
  for (let i = 0; i < 50; i++) {
    stream.publish(i * 100, i * 100, 1);
    await clock.pass(100);
  }
  const [a, b] = engine.lanes.map(({ lane }) => lane.next);
  expect([a! > 3000, b]).toEqual([true, 0]);
  const safe = () => ['a', 'b', 'c'].map((id) => engine.safeUntil(id));
  const { maxAheadMs } = TILING;
  expect(safe()).toEqual([a! - maxAheadMs + 60_000, -maxAheadMs + 60_000, undefined]);
  // The stream has been looked at: it is full before that.
  engine.live.source.stats.holdsMs = 10_000;
  expect(safe()).toEqual([a! - maxAheadMs + 10_000, -maxAheadMs + 10_000, undefined]);
  sinks.b.answer = () => undefined;
  await clock.pass(30_000);
  await stop();
});

test('every window is verified in every store; one that is rewritten in the meantime is not a difference', async () => {
  const { clock, stream, sinks, start } = setUp();
  differences.length = 0;
  const { engine, stop } = start();
  const verified = () => engine.lanes.map(({ verifier }) => verifier.stats);
  for (let i = 0; i < 100; i++) {
    stream.publish(i * 100, i * 100 - 50, 1);
    await clock.pass(100);
  }
  // The server's clock steps back: window 8 is rewritten before it is due to be read back.
  stream.publish(8900, 8900, 2);
  stream.publish(10_200, 10_200, 1);
  await clock.pass(20_000);
  // One of them was confirmed twice.
  const all = { equal: 10, different: 0, unknown: 0, lastDifference: null, confirmed: 11 };
  expect(verified()).toMatchObject(Array(2).fill(all));
  expect(differences).toEqual([]);

  // From here on, the value in store b is not the one that it acknowledged.
  const key = '10:a';
  sinks.b.answer = () => {
    queueMicrotask(() => {
      const point = sinks.b.stored.get(key);
      if (point) sinks.b.stored.set(key, { ...point, sum: point.sum + 1 });
    });
    return undefined;
  };
  stream.publish(11_200, 11_200, 1);
  await clock.pass(20_000);
  const [a, b] = verified();
  expect(a).toMatchObject({ equal: 11, different: 0 });
  expect(b).toMatchObject({ equal: 10, different: 1, unknown: 0 });
  expect(differences).toEqual([`b: ${b!.lastDifference}`]);
  expect(b!.lastDifference).toMatch(/^window 1970-01-01T00:00:10.000Z: the values of its 1 row in/);
  await stop();
});

test('a pause of any length at any time, even during a catch-up: nothing is lost, and no other sink waits', async () => {
  const { clock, stream, sinks, start, rows } = setUp();
  const { engine, stop } = start();
  const expected: Record<string, number> = {};
  let paused = 0;
  for (let i = 0; i < 200; i++) {
    stream.publish(i * 100, i * 100 - 50, 1);
    const window = Math.floor((i * 100 - 50) / 1000);
    // The first message belongs to a window before the first one that is wanted.
    if (window >= 0) expected[`${window}:a`] = (expected[`${window}:a`] ?? 0) + 1;
    await clock.pass(Math.floor(60 * clock.random()));
    if (clock.random() < 0.2) {
      engine.pause('a');
      paused += 1;
      expect(engine.lanes[0]!.lane.state).toBe('paused');
    } else if (clock.random() < 0.3) engine.resume('a');
    if (i === 150) expect(engine.lanes[1]!.lane.next).toBeGreaterThan(13_000);
  }
  expect(paused).toBeGreaterThan(20);
  engine.resume('a');
  engine.pause('nobody');
  await clock.pass(20_000);
  const complete = (found: Record<string, number>) =>
    Object.fromEntries(Object.entries(found).filter(([key]) => Number(key.split(':')[0]) < 19));
  for (const sink of Object.values(sinks)) expect(complete(rows(sink))).toEqual(complete(expected));
  expect(engine.lanes.map(({ lane }) => lane.state)).toEqual(['live', 'live']);
  await stop();
});
