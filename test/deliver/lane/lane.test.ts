import { describe, expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../../src/aggregate/buckets.ts';
import { coarseTiling } from '../../../src/aggregate/coarse-tiling.ts';
import { Tiling } from '../../../src/aggregate/tiling.ts';
import { WindowMerger } from '../../../src/aggregate/window-merger.ts';
import type { Checkpoint } from '../../../src/bus/kv/checkpoints.ts';
import { FanOut } from '../../../src/deliver/fanout.ts';
import { CheckpointKeeper } from '../../../src/deliver/lane/checkpoint-saver.ts';
import type { LaneOptions } from '../../../src/deliver/lane/lane.ts';
import { isAsKnown, type ReceiptBefore, SinkError, type WriteOutcome } from '../../../src/sink/contract.ts';
import { keyOf, laneOf, ScriptedSink, sizedWindow, WINDOW_MS } from '../fixtures.ts';
import { settle, VirtualClock } from '../virtual-clock.ts';

const SHAPE = { windowMs: WINDOW_MS, latenessMs: 0, maxAheadMs: 0, maxSeries: 10 };
const RETRY: WriteOutcome = { kind: 'retry', reason: 'server_error', message: 'no' };

describe('writing', () => {
  test('splits a window at the limits and confirms it when all of it is acknowledged', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(3, 25));
    lane.advance(4 * WINDOW_MS, 0);
    await clock.pass(100);
    expect(sink.batches.map(({ points }) => points.length).sort()).toEqual([10, 10, 5]);
    expect(sink.rows.size).toBe(25);
    expect(lane.next).toBe(4 * WINDOW_MS);
    expect(lane.stats.written).toBe(25);
    expect([lane.backlogPoints, lane.backlogBytes]).toEqual([0, 0]);
  });

  test('I5: the checkpoint stays at a window with an unsettled point, even if later windows are complete', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = ({ points }) => (points.some((point) => keyOf(point) === '1:s12') ? RETRY : undefined);
    const { lane } = laneOf(clock, sink, { limits: { maxPoints: 5, maxBytes: 1e6, inFlight: 4 } });
    void lane.run();
    for (const number of [1, 2, 3]) lane.offer(sizedWindow(number, 15));
    lane.advance(10 * WINDOW_MS, 0);
    await clock.pass(120_000);
    expect(sink.rows.size).toBe(3 * 15 - 5);
    expect(lane.next).toBe(1 * WINDOW_MS);
    sink.answer = () => undefined;
    await clock.pass(120_000);
    expect(sink.rows.size).toBe(3 * 15);
    expect(lane.next).toBe(10 * WINDOW_MS);
  });

  test('after a partial answer, only the points to retry are sent again', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    let first = true;
    sink.answer = () => {
      if (!first) return undefined;
      first = false;
      return {
        kind: 'partial',
        retry: [1, 3],
        rejected: [{ index: 2, reason: 'too_large', message: 'big' }],
      };
    };
    const { lane, told } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(60_000);
    expect(sink.batches.map(({ points }) => points.map(({ series }) => series.name))).toEqual([
      ['s0', 's1', 's2', 's3', 's4'],
      ['s1', 's3'],
    ]);
    expect(lane.stats.written).toBe(4);
    expect(Object.fromEntries(lane.stats.rejected)).toEqual({ too_large: 1 });
    expect(told.rejected).toHaveLength(1);
    expect(told.confirmed).toEqual([[0, 1]]);
    expect(lane.next).toBe(WINDOW_MS);
  });

  test('with one write in flight, nothing overtakes a batch that is tried again, whole or in part', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const answers = new Map<number, WriteOutcome>([
      [0, RETRY],
      [1, { kind: 'partial', retry: [0, 2], rejected: [] }],
      [3, { kind: 'partial', retry: [1], rejected: [], reason: 'unknown' }],
      [4, { kind: 'refused', reason: 'bad_request', message: 'no' }],
    ]);
    sink.answer = () => answers.get(sink.batches.length - 1);
    const { lane } = laneOf(clock, sink, { limits: { maxPoints: 4, maxBytes: 1e6, inFlight: 1 } });
    void lane.run();
    for (const number of [0, 1, 2]) lane.offer(sizedWindow(number, 6));
    lane.advance(3 * WINDOW_MS, 0);
    await clock.pass(300_000);
    expect(lane.next).toBe(3 * WINDOW_MS);
    const sent = sink.batches.map(({ points }) => points[0]!.windowStart / WINDOW_MS);
    expect(sent).toEqual([0, 0, 0, 0, 0, 0, 1, 1, 2, 2]);
  });

  test('points that the store dropped without saying which count as rejected, and the window has lost some', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const unidentified = { count: 3, message: 'partial write: dropped=4' };
    sink.answer = () => ({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 2, reason: 'refused', message: '' }],
      unidentified,
    });
    const { lane, told } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 10));
    await clock.pass(60_000);
    expect(sink.batches).toHaveLength(1);
    expect(lane.stats.written).toBe(6);
    expect(Object.fromEntries(lane.stats.rejected)).toEqual({ refused: 1, unidentified: 3 });
    expect(told.unidentified).toEqual([unidentified]);
    // With a loss, a window is never verified as equal.
    expect(told.confirmed).toEqual([[0, 4]]);
    expect(lane.next).toBe(WINDOW_MS);
  });

  test('a sum that is not finite is refused for every store, and recorded', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 3, (i) => (i === 1 ? Number.POSITIVE_INFINITY : i)));
    await clock.pass(1000);
    expect(sink.rows.size).toBe(2);
    expect(told.rejected).toEqual([{ index: 1, reason: 'invalid_value', message: 'the sum is not finite' }]);
    expect(lane.next).toBe(WINDOW_MS);
  });
});

describe('failures', () => {
  test('are retried with growing waits until they succeed; there is one event down and one up', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => RETRY;
    const { lane, told } = laneOf(clock, sink);
    void lane.run();
    await clock.pass(10);
    lane.offer(sizedWindow(0, 5));
    await clock.pass(10 * 60_000);
    const tries = sink.batches.length;
    expect(tries).toBeGreaterThan(10);
    expect(tries).toBeLessThan(100);
    expect(lane.stats.retries.get('server_error')).toBe(tries);
    expect(lane.up).toBe(false);
    sink.answer = () => undefined;
    await clock.pass(60_000);
    expect(lane.next).toBe(WINDOW_MS);
    expect(told.changes.map(([up]) => up)).toEqual([true, false, true]);
  });

  test('while the store is down, the lane knows since when, and when it is tried again', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const triedAt: number[] = [];
    sink.answer = () => {
      triedAt.push(clock.steady());
      return RETRY;
    };
    const limits = { maxPoints: 5, maxBytes: 1e6, inFlight: 3 };
    const { lane } = laneOf(clock, sink, { limits });
    void lane.run();
    await clock.pass(10);
    expect([lane.downSince, lane.nextAttemptMs]).toEqual([undefined, undefined]);
    lane.offer(sizedWindow(0, 15));
    await clock.pass(1);
    expect(lane.downSince).toBe(clock.now() - 1);
    const said: { at: number; next: number }[] = [];
    for (let i = 0; i < 300; i++) {
      await clock.pass(997);
      said.push({ at: clock.steady(), next: clock.steady() + lane.nextAttemptMs! });
    }
    expect(triedAt.length).toBeGreaterThan(10);
    for (const { at, next } of said.slice(0, -60)) expect(triedAt.find((time) => time > at)).toBe(next);
    expect(lane.downSince).toBe(clock.now() - clock.steady() + triedAt[0]!);
    lane.pause();
    expect(lane.nextAttemptMs).toBeUndefined();
    lane.resume();
    sink.answer = () => undefined;
    lane.startCatchUp();
    await clock.pass(60_000);
    expect(lane.nextAttemptMs).toBeUndefined();
  });

  test('how long a write took is reported as that of a store that took it, or of one that did not', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const answers: (WriteOutcome | Error | 'hang' | undefined)[] = [
      RETRY,
      new Error('connect ECONNREFUSED'),
      'hang',
      { kind: 'partial', retry: [0, 1], rejected: [], reason: 'throttled' },
      { kind: 'partial', retry: [1], rejected: [] },
      undefined,
    ];
    const wrote: [seconds: number, taken: boolean][] = [];
    sink.answer = () => answers.shift();
    const { lane } = laneOf(clock, sink, {}, { wrote: (...told) => wrote.push(told) });
    void lane.run();
    lane.offer(sizedWindow(0, 2));
    await clock.pass(120_000);
    expect(wrote).toEqual([
      [0, false],
      [0, false],
      [5, false],
      [0, false],
      [0, true],
      [0, true],
    ]);
  });

  test('a store that is down is probed by one writer at a time', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    let writing = 0;
    let most = 0;
    const { lane } = laneOf(clock, sink, {
      limits: { maxPoints: 1, maxBytes: 1e6, inFlight: 8 },
      timeoutMs: 1000,
    });
    void lane.run();
    lane.offer(sizedWindow(0, 100));
    sink.answer = () => RETRY;
    await clock.pass(60_000);
    sink.answer = () => {
      writing += 1;
      most = Math.max(most, writing);
      void clock.sleep(999, new AbortController().signal).then(() => {
        writing -= 1;
      });
      return 'hang';
    };
    await clock.pass(600_000);
    expect(most).toBe(1);
  });

  test('a write that hangs is given up after the timeout, and counted', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => 'hang';
    const { lane } = laneOf(clock, sink, { timeoutMs: 2000 });
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(1999);
    expect(lane.stats.retries.size).toBe(0);
    await clock.pass(1);
    expect(lane.stats.retries.get('timeout')).toBe(1);
    expect(lane.lastFailure?.message).toBe('no answer within 2000 ms');
  });

  test('a throw is an unknown outcome and is retried', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    let times = 0;
    const errors = [new Error('boom'), new SinkError('no answer within 17 ms' as never, 'boom')];
    sink.answer = () => errors[times++];
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(10_000);
    expect(Object.fromEntries(lane.stats.retries)).toEqual({ unknown: 2 });
    expect(sink.rows.size).toBe(5);
  });

  test('a store that refuses the sink is opened again before each retry, at the slowest pace', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => ({ kind: 'refused', reason: 'unauthorized', message: 'who are you' });
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(600_000);
    expect(sink.opens).toBeGreaterThan(5);
    expect(sink.opens).toBeLessThan(50);
    sink.answer = () => undefined;
    await clock.pass(60_000);
    expect(lane.next).toBe(WINDOW_MS);
  });

  test('writes that fail together count as one failure: a short blip causes a short wait', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const clock = new VirtualClock(undefined, seed);
      const sink = new ScriptedSink();
      const { lane } = laneOf(clock, sink, { limits: { maxPoints: 1, maxBytes: 1e6, inFlight: 16 } });
      void lane.run();
      await clock.pass(10);
      sink.answer = () => RETRY;
      lane.offer(sizedWindow(0, 50));
      await clock.pass(60);
      sink.answer = () => undefined;
      await clock.pass(2000);
      expect(lane.next, `seed ${seed}`).toBe(WINDOW_MS);
    }
  });

  test.each([86_400_000, Number.POSITIVE_INFINITY, Number.NaN])(
    'a store that asks for a pause of %d ms is retried much sooner',
    async (afterMs) => {
      const clock = new VirtualClock();
      const sink = new ScriptedSink();
      sink.answer = () => ({ kind: 'retry', reason: 'throttled', message: 'later', afterMs });
      const { lane } = laneOf(clock, sink, { limits: { maxPoints: 10, maxBytes: 1e6, inFlight: 1 } });
      void lane.run();
      lane.offer(sizedWindow(0, 5));
      await clock.pass(120_000);
      expect(sink.batches.length).toBeLessThan(100);
      sink.answer = () => undefined;
      await clock.pass(60_000);
      expect(lane.next).toBe(WINDOW_MS);
    },
  );

  test('an open that hangs and ignores its signal is abandoned and retried', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const open = sink.open.bind(sink);
    sink.open = () => new Promise(() => {});
    const { lane } = laneOf(clock, sink, { timeoutMs: 1000 });
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(5000);
    sink.open = open;
    await clock.pass(60_000);
    expect(lane.next).toBe(WINDOW_MS);
  });

  test.each([
    { kind: 'partial', retry: [99], rejected: [] },
    { kind: 'partial', rejected: [] },
    { kind: 'partial', retry: [] },
    { kind: 'partial', retry: [1, 1], rejected: [] },
    { kind: 'partial', retry: [1], rejected: [{ index: 1, reason: 'refused', message: '' }] },
    { kind: 'partial', retry: [], rejected: [{ index: 1, reason: 'row 17', message: '' }] },
    { kind: 'partial', retry: [1], rejected: [], reason: 'row 17' },
    { kind: 'partial', retry: [1], rejected: [], unidentified: { count: 5, message: '' } },
    { kind: 'partial', retry: [], rejected: [], unidentified: { count: -1, message: '' } },
    { kind: 'partial', retry: [], rejected: [], unidentified: {} },
    { kind: 'partial', retry: [], rejected: [], unidentified: null },
    { kind: 'retry', reason: 'no answer within 17 ms', message: '' },
    { kind: 'refused', reason: 'no such token: 17', message: '' },
    { kind: 'what?' },
    undefined,
  ])('an invalid answer is an unknown outcome: %j', async (answer) => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const write = sink.write.bind(sink);
    sink.write = async () => answer as WriteOutcome;
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    await clock.pass(1000);
    // The reasons are a closed list because they label a counter.
    expect([...lane.stats.retries.keys()]).toEqual(['unknown']);
    expect(lane.stats.rejected.size).toBe(0);
    expect(lane.stats.written).toBe(0);
    sink.write = write;
    await clock.pass(60_000);
    expect(sink.rows.size).toBe(5);
  });

  test('open is retried until it resolves, and its advice is kept for the operator', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.openError = new SinkError('not_found', 'no such database.', 'Create it.');
    const { lane } = laneOf(clock, sink);
    void lane.run();
    await clock.pass(60_000);
    expect(lane.state).toBe('opening');
    expect(lane.lastFailure?.message).toBe('no such database. Create it.');
    expect(clock.now() - lane.downSince!).toBeGreaterThan(59_000);
    const { opens } = sink;
    await clock.pass(lane.nextAttemptMs! - 1);
    expect(sink.opens).toBe(opens);
    await clock.pass(1);
    expect(sink.opens).toBe(opens + 1);
    sink.openError = undefined;
    await clock.pass(60_000);
    expect([lane.state, lane.up]).toEqual(['live', true]);
    expect([lane.downSince, lane.nextAttemptMs]).toEqual([undefined, undefined]);
  });
});

describe('the backlog', () => {
  test('I7: over its limit, a lane drops its copies for a replay from the checkpoint, and takes no more', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => RETRY;
    const bytes = sizedWindow(0, 10).bytes;
    const { lane, told } = laneOf(clock, sink, { backlogBytes: 3.5 * bytes });
    void lane.run();
    for (let number = 0; number < 10; number++) lane.offer(sizedWindow(number, 10));
    expect(told.fellBehind).toBe(1);
    expect(lane.state).toBe('catching_up');
    expect(lane.next).toBe(0);
    expect([lane.backlogBytes, lane.backlogPoints]).toEqual([0, 0]);
    lane.advance(10 * WINDOW_MS, 0);
    expect(lane.offeredTo).toBe(0);
  });

  test('in core mode the oldest windows are dropped and counted', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => RETRY;
    const bytes = sizedWindow(0, 10).bytes;
    const { lane } = laneOf(clock, sink, {
      backlogBytes: 3.5 * bytes,
      replayable: false,
      from: Number.NEGATIVE_INFINITY,
    });
    void lane.run();
    await settle();
    for (let number = 0; number < 10; number++) lane.offer(sizedWindow(number, 10));
    expect(lane.stats.dropped).toBe(70);
    expect(lane.backlogPoints).toBe(30);
    sink.answer = () => undefined;
    await clock.pass(120_000);
    expect(
      [...sink.rows.keys()].map((key) => key.split(':')[0]).filter((n, i, all) => all.indexOf(n) === i),
    ).toEqual(['7', '8', '9']);
    expect(lane.stats.written + lane.stats.dropped).toBe(100);
  });

  test('a replay is held back until there is room, and joins the live path without a gap', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => RETRY;
    const bytes = sizedWindow(0, 10).bytes;
    const { lane } = laneOf(clock, sink, { backlogBytes: 2.5 * bytes });
    void lane.run();
    lane.startCatchUp();
    let done = false;
    const replayed = Array.from({ length: 6 }, (_, number) => sizedWindow(number, 10));
    void lane.replay(replayed, 6 * WINDOW_MS, 0, new AbortController().signal).then(() => {
      done = true;
    });
    await clock.pass(60_000);
    expect(done).toBe(false);
    expect(lane.backlogBytes).toBeLessThanOrEqual(2.5 * bytes);
    sink.answer = () => undefined;
    await clock.pass(60_000);
    expect(done).toBe(true);
    lane.join();
    // The live path offers a window that the replay has already delivered: it is not written again.
    const before = sink.batches.length;
    for (const number of [5, 6]) lane.offer(sizedWindow(number, 10));
    await clock.pass(1000);
    expect(sink.batches.length).toBe(before + 1);
    expect(lane.next).toBe(7 * WINDOW_MS);
    expect(sink.rows.size).toBe(70);
  });
});

test('a replay keeps no more in memory than the store takes up, however much the backlog may hold', async () => {
  const clock = new VirtualClock();
  const sink = new ScriptedSink();
  let taken = 0;
  sink.answer = () => (taken-- > 0 ? undefined : RETRY);
  const points = 70_000;
  const limits = { maxPoints: points / 10, maxBytes: 1e9, inFlight: 1 };
  const { lane } = laneOf(clock, sink, { limits, backlogBytes: 1e9 });
  void lane.run();
  lane.startCatchUp();
  const { signal } = new AbortController();
  const told: string[] = [];
  const large = [0, 1, 2].map((number) => sizedWindow(number, points));
  const replayed = async () => {
    for (const [number, window] of large.entries()) {
      await lane.replay([window], (number + 1) * WINDOW_MS, number, signal);
      told.push(`took ${number}`);
      await lane.untilReplayed(signal);
      told.push(`wants ${number + 1}`);
    }
  };
  void replayed();
  await clock.pass(1_000);
  expect([told, lane.backlogPoints]).toEqual([['took 0'], points]);
  // Half of it.
  taken = 5;
  await clock.pass(120_000);
  expect([told, lane.backlogPoints]).toEqual([['took 0', 'wants 1'], points / 2]);
  taken = 6;
  await clock.pass(120_000);
  expect([told.at(-1), lane.next]).toEqual(['took 1', WINDOW_MS]);
  taken = 100;
  await clock.pass(120_000);
  expect([told.at(-1), lane.next]).toEqual(['wants 3', 3 * WINDOW_MS]);
});

describe('a rewrite', () => {
  test('waits for a batch of the same window that is still in flight, which could land last', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const landing = Promise.withResolvers<void>();
    const write = sink.write.bind(sink);
    let writes = 0;
    sink.write = async (batch, signal) => {
      writes += 1;
      if (writes === 1) await landing.promise;
      return await write(batch, signal);
    };
    const { lane, told } = laneOf(clock, sink, { backlogBytes: 1.5 * sizedWindow(0, 3).bytes });
    void lane.run();
    lane.offer(sizedWindow(0, 3, () => 1));
    await clock.pass(1000);
    lane.offer(sizedWindow(1, 3));
    expect(told.fellBehind).toBe(1);
    void lane.replay([sizedWindow(0, 3, () => 2)], WINDOW_MS, 0, new AbortController().signal);
    await clock.pass(1000);
    expect(writes).toBe(1);
    landing.resolve();
    await clock.pass(1000);
    expect([...sink.rows.values()]).toEqual([2, 2, 2]);
    expect(lane.next).toBe(WINDOW_MS);
  });

  test('leaves out windows before the first window of the sink', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane } = laneOf(clock, sink, { first: 2 * WINDOW_MS });
    void lane.run();
    for (const number of [1, 2]) lane.offer(sizedWindow(number, 1));
    lane.advance(3 * WINDOW_MS, 0);
    await clock.pass(1000);
    await lane.rewrite([sizedWindow(1, 1), sizedWindow(2, 1)], new AbortController().signal);
    expect([...sink.rows.keys()]).toEqual(['2:s0']);
    expect(lane.next).toBe(3 * WINDOW_MS);
  });
});

describe('isolation', () => {
  test('I7: one lane hangs, and one store refuses; the third lane has no lag at all', async () => {
    const clock = new VirtualClock();
    const [hanging, refusing, good] = [new ScriptedSink(), new ScriptedSink(), new ScriptedSink()];
    hanging.answer = () => 'hang';
    refusing.openError = new Error('ECONNREFUSED');
    const lanes = [hanging, refusing, good].map((sink, i) => laneOf(clock, sink, { id: String(i) }).lane);
    for (const lane of lanes) void lane.run();
    const fanout = new FanOut(lanes, 0);
    for (let number = 0; number < 20; number++) {
      fanout.hand([sizedWindow(number, 30).window], (number + 1) * WINDOW_MS, 0);
      await clock.pass(10);
      expect(lanes[2]!.next).toBe((number + 1) * WINDOW_MS);
    }
    expect(lanes[0]!.next).toBe(0);
    expect(lanes[1]!.next).toBe(0);
  });
});

describe('which store it is', () => {
  const named = (identity: () => Promise<string | undefined>) =>
    Object.assign(new ScriptedSink(), { identity: () => identity() });

  test('a store that is not the one of the checkpoint is reported, and gets nothing until the lane begins again', async () => {
    const clock = new VirtualClock();
    const sink = named(async () => 'another');
    let replaced = 0;
    const { lane, told } = laneOf(
      clock,
      sink,
      { identity: 'the one', from: 5 * WINDOW_MS },
      { storeReplaced: () => replaced++ },
    );
    void lane.run();
    lane.offer(sizedWindow(5, 3));
    await clock.pass(1000);
    expect([replaced, sink.rows.size, lane.state]).toEqual([1, 0, 'catching_up']);
    lane.beginAgain(2 * WINDOW_MS);
    expect([told.fellBehind, lane.next, lane.stats.refills]).toEqual([1, 2 * WINDOW_MS, 1]);
  });

  test('it is asked again after a failure, and from time to time, and not after being told to slow down', async () => {
    const clock = new VirtualClock();
    let asked = 0;
    const sink = named(async () => {
      asked += 1;
      return 'the one';
    });
    const answers: WriteOutcome[] = [{ kind: 'retry', reason: 'throttled', message: 'slower' }];
    sink.answer = () => answers.pop();
    const { lane } = laneOf(clock, sink, { identity: 'the one' });
    void lane.run();
    lane.offer(sizedWindow(0, 3));
    await clock.pass(10_000);
    expect([asked, sink.rows.size]).toEqual([1, 3]);
    answers.push(RETRY);
    lane.offer(sizedWindow(1, 3));
    await clock.pass(10_000);
    expect([asked, sink.rows.size]).toEqual([2, 6]);
    await clock.pass(60_000);
    expect(asked).toBe(2);
    // Another writer may have made the store anew.
    lane.offer(sizedWindow(2, 3));
    await clock.pass(1000);
    expect([asked, sink.rows.size]).toEqual([3, 9]);
  });

  test('until it is known where to begin again, nothing is confirmed for the new store, whoever resumes the lane', async () => {
    const clock = new VirtualClock();
    const saved: [next: number, store: string | undefined][] = [];
    const keeper = new CheckpointKeeper({
      sink: 'test',
      clock,
      store: {
        load: async () => undefined,
        list: async () => [],
        save: async (_, { next, store }) => {
          saved.push([next, store]);
          return 'saved';
        },
      },
      describe: () => ({ savedAt: '', shape: { ...SHAPE, slice: '0/1' } }),
      failed: () => {},
    });
    let identity = 'the one';
    const sink = named(async () => identity);
    const { lane, told } = laneOf(clock, sink, { identity, keeper });
    void lane.run();
    lane.hold();
    lane.offer(sizedWindow(0, 3));
    lane.advance(WINDOW_MS, 1);
    await clock.pass(31_000);
    identity = 'another';
    lane.offer(sizedWindow(1, 3));
    lane.advance(2 * WINDOW_MS, 2);
    await clock.pass(1000);
    expect(lane.stats.refills).toBe(1);
    lane.pause();
    lane.resume();
    lane.release();
    await clock.pass(5000);
    expect(told.fellBehind).toBe(0);
    expect(saved.filter(([, store]) => store === 'another')).toEqual([]);
    lane.beginAgain(0);
    expect(told.fellBehind).toBe(1);
    lane.advance(3 * WINDOW_MS, 3);
    lane.join();
    lane.advance(4 * WINDOW_MS, 4);
    await clock.pass(5000);
    expect(saved.at(-1)).toEqual([4 * WINDOW_MS, 'another']);
  });

  test('what fails while it is asked may be of another store', async () => {
    const clock = new VirtualClock();
    let identity = 'the one';
    let delayMs = 0;
    const sink = named(async () => {
      const said = identity;
      await clock.sleep(delayMs, new AbortController().signal);
      return said;
    });
    const outcomes: WriteOutcome[] = [];
    sink.answer = () => outcomes.shift();
    let replaced = 0;
    const options = { identity, limits: { maxPoints: 3, maxBytes: 1e6, inFlight: 2 } };
    const { lane } = laneOf(clock, sink, options, { storeReplaced: () => replaced++ });
    void lane.run();
    await clock.pass(100);
    delayMs = 2000;
    outcomes.push(RETRY, RETRY);
    lane.offer(sizedWindow(0, 6));
    await clock.pass(1500);
    identity = 'another';
    await clock.pass(120_000);
    lane.offer(sizedWindow(1, 3));
    await clock.pass(10_000);
    expect(replaced).toBe(1);
  });

  test.each([
    ['throws', () => Promise.reject(new TypeError('no such thing'))],
    ['is refused', () => Promise.reject(new SinkError('unauthorized', 'not you'))],
    ['lacks what it asks for', () => Promise.reject(new SinkError('not_found', 'no such catalog'))],
    ['never gets an answer in time', () => new Promise<undefined>(() => {})],
    ['always fails', () => Promise.reject(new SinkError('server_error', 'no'))],
    ['says nothing of use', async () => 'x'.repeat(101)],
  ])('a sink that %s when asked is written to all the same', async (_, identity) => {
    const clock = new VirtualClock();
    const sink = named(identity);
    let unnamed = 0;
    const { lane } = laneOf(clock, sink, { identity: 'the one' }, { unnamed: () => unnamed++ });
    void lane.run();
    lane.offer(sizedWindow(0, 3));
    await clock.pass(600_000);
    expect(sink.rows.size).toBe(3);
    expect(lane.state).toBe('live');
    expect(lane.up).toBe(true);
    expect(unnamed).toBeLessThanOrEqual(1);
  });
});

function keeperThatSaves(clock: VirtualClock, saved: Checkpoint[]): CheckpointKeeper {
  return new CheckpointKeeper({
    sink: 'test',
    clock,
    store: {
      load: async () => undefined,
      list: async () => [],
      save: async (_, checkpoint) => {
        saved.push(checkpoint);
        return 'saved';
      },
    },
    describe: () => ({ savedAt: '', shape: { ...SHAPE, slice: '0/1' } }),
    failed: () => {},
  });
}

test('a store keeps no receipt of windows without rows, but once a minute', async () => {
  const clock = new VirtualClock();
  const keeper = keeperThatSaves(clock, []);
  const times: number[] = [];
  const sink = Object.assign(new ScriptedSink(), {
    identity: async () => 'the one',
    receipt: async () => times.at(-1),
    giveReceipt: async (_: string, time: number) => {
      const before = times.at(-1);
      times.push(time);
      return { before };
    },
  });
  const receipts = { writer: 'writer', known: new Map() };
  const { lane } = laneOf(clock, sink, { keeper, identity: 'the one', receipts, from: 0 });
  void lane.run();
  for (let n = 0; n < 18; n++) {
    if (n % 9 === 0) lane.offer(sizedWindow(n, 3));
    lane.advance((n + 1) * WINDOW_MS, n);
    await clock.pass(10_000);
  }
  // The first window with rows, a minute later, the second one, and a minute later.
  expect(times.map((time) => time / WINDOW_MS)).toEqual([1, 8, 10, 16]);
  expect(lane.next).toBe(18 * WINDOW_MS);
});

test('the first checkpoint after a start has a receipt too, if it comes late: rows were written before it', async () => {
  const clock = new VirtualClock();
  const saved: Checkpoint[] = [];
  let failures = 0;
  const keeper = new CheckpointKeeper({
    sink: 'test',
    clock,
    store: {
      load: async () => undefined,
      list: async () => [],
      save: async (_, checkpoint) => {
        if (isDown) throw new Error('the bus is slow');
        saved.push(checkpoint);
        return 'saved';
      },
    },
    describe: () => ({ savedAt: '', shape: { ...SHAPE, slice: '0/1' } }),
    failed: () => {
      failures += 1;
    },
  });
  let isDown = true;
  let held = 0;
  const sink = Object.assign(new ScriptedSink(), {
    identity: async () => 'the one',
    receipt: async () => held,
    giveReceipt: async (_: string, time: number) => {
      const before = held;
      held = time;
      return { before };
    },
  });
  const receipts = { writer: 'writer', known: new Map([['writer', 0]]) };
  const { lane } = laneOf(clock, sink, { keeper, identity: 'the one', receipts, from: 0 });
  void lane.run();
  lane.offer(sizedWindow(0, 3));
  lane.advance(WINDOW_MS, 0);
  for (let i = 0; i < 100 && (failures === 0 || lane.next < WINDOW_MS); i++) await clock.pass(10);
  expect([failures > 0, lane.next]).toEqual([true, WINDOW_MS]);
  isDown = false;
  const stopping = lane.stop(AbortSignal.abort());
  await clock.pass(10_000);
  await stopping;
  // Else a copy from before these rows would be taken for what the checkpoint speaks of.
  expect(saved.at(-1)).toMatchObject({ next: WINDOW_MS, receipts: { writer: WINDOW_MS } });
});

test('a store that is restored once more, while it is filled again, gets all of it again', async () => {
  const clock = new VirtualClock();
  const saved: Checkpoint[] = [];
  const keeper = keeperThatSaves(clock, saved);
  const sink = Object.assign(new ScriptedSink(), {
    identity: async () => 'the one',
    receipt: async () => held,
    giveReceipt: async (_: string, time: number, known: number | undefined) => {
      const before = held;
      if (isAsKnown(before, known)) held = Math.max(time, before);
      return { before };
    },
  });
  let held = 4 * WINDOW_MS;
  const known = new Map([['writer', 10 * WINDOW_MS]]);
  const replaced: (number | undefined)[] = [];
  const { lane } = laneOf(
    clock,
    sink,
    { keeper, identity: 'the one', receipts: { writer: 'writer', known }, from: 10 * WINDOW_MS },
    { storeReplaced: (older) => replaced.push(older?.to) },
  );
  void lane.run();
  await clock.pass(5000);
  expect(replaced).toEqual([4 * WINDOW_MS]);
  const { signal } = new AbortController();
  const fill = async (from: number, to: number) => {
    const windows = Array.from({ length: to - from }, (_, i) => sizedWindow(from + i, 3));
    void lane.replay(windows, to * WINDOW_MS, 0, signal);
    await clock.pass(60_000);
  };
  lane.beginAgain(4 * WINDOW_MS);
  await fill(4, 7);
  held = 4 * WINDOW_MS;
  await fill(7, 8);
  expect(replaced).toEqual([4 * WINDOW_MS, 4 * WINDOW_MS]);
  lane.beginAgain(4 * WINDOW_MS);
  await fill(4, 10);
  await fill(10, 12);
  expect(replaced).toHaveLength(2);
  expect(held).toBe(12 * WINDOW_MS);
  const claimed = (time: number) => ({ next: time, receipts: { writer: time } });
  expect(saved.map(({ next, receipts }) => ({ next, receipts }))).toEqual([
    claimed(10 * WINDOW_MS),
    claimed(12 * WINDOW_MS),
  ]);
});

test('older content that a receipt finds too late is found by the next one', async () => {
  const clock = new VirtualClock();
  let held = 0;
  let delayMs = 0;
  const sink = Object.assign(new ScriptedSink(), {
    identity: async () => 'the one',
    receipt: async () => held,
    giveReceipt: async (_: string, time: number, known: number | undefined) => {
      const before = held;
      if (isAsKnown(before, known)) held = time;
      await clock.sleep(delayMs, new AbortController().signal);
      return { before };
    },
  });
  const replaced: (number | undefined)[] = [];
  const { lane } = laneOf(
    clock,
    sink,
    {
      keeper: keeperThatSaves(clock, []),
      identity: 'the one',
      receipts: { writer: 'writer', known: new Map([['writer', 0]]) },
      from: 0,
    },
    { storeReplaced: (older) => replaced.push(older?.to) },
  );
  void lane.run();
  const confirm = async (window: number) => {
    lane.offer(sizedWindow(window, 3));
    lane.advance((window + 1) * WINDOW_MS, 0);
    await clock.pass(8000);
  };
  await confirm(0);
  await confirm(1);
  expect(held).toBe(2 * WINDOW_MS);
  delayMs = 6000;
  await confirm(2);
  // It is there all the same.
  expect(lane.receipts).toMatchObject({ state: 'failing', until: 3 * WINDOW_MS });
  held = WINDOW_MS;
  await confirm(3);
  expect([replaced, lane.receipts.state]).toEqual([[], 'failing']);
  delayMs = 0;
  await confirm(4);
  expect(replaced).toEqual([WINDOW_MS]);
});

test('a receipt that fails is counted and told once; a store that keeps none is asked again later', async () => {
  const clock = new VirtualClock();
  const keeper = new CheckpointKeeper({
    sink: 'test',
    clock,
    store: { load: async () => undefined, list: async () => [], save: async () => 'saved' },
    describe: () => ({ savedAt: '', shape: { ...SHAPE, slice: '0/1' } }),
    failed: () => {},
  });
  let asked = 0;
  let held: number | undefined;
  const keeps = async (time: number): Promise<ReceiptBefore | undefined> => {
    const before = held;
    held = time;
    return { before };
  };
  let answer = keeps;
  const sink = Object.assign(new ScriptedSink(), {
    identity: async () => 'the one',
    receipt: async () => held,
    giveReceipt: async (_: string, time: number) => {
      asked += 1;
      return answer(time);
    },
  });
  const told: (string | undefined)[] = [];
  const { lane } = laneOf(
    clock,
    sink,
    { keeper, identity: 'the one', receipts: { writer: 'writer', known: new Map() } },
    { receiptsChanged: (failure) => told.push(failure) },
  );
  void lane.run();
  let next = 0;
  const confirmAnother = async () => {
    lane.offer(sizedWindow(next, 3));
    next += 1;
    lane.advance(next * WINDOW_MS, 0);
    await clock.pass(20_000);
  };
  expect(lane.receipts).toEqual({ state: 'unknown', until: null, lastFailure: null });
  await confirmAnother();
  await confirmAnother();
  expect(lane.receipts).toMatchObject({ state: 'kept', until: 2 * WINDOW_MS });
  answer = async () => {
    throw new SinkError('unauthorized', 'no right', 'Grant it.');
  };
  await confirmAnother();
  await confirmAnother();
  expect([lane.stats.receiptFailures, told]).toEqual([2, ['no right. Grant it.']]);
  expect(lane.receipts).toMatchObject({ state: 'failing', until: 2 * WINDOW_MS });
  answer = () => new Promise(() => {});
  await confirmAnother();
  expect([lane.stats.receiptFailures, told.length]).toEqual([3, 1]);
  expect(lane.receipts.lastFailure?.message).toBe('no answer within 5000 ms');
  answer = keeps;
  await confirmAnother();
  expect([lane.receipts.state, told]).toEqual(['kept', ['no right. Grant it.', undefined]]);
  answer = () => Promise.reject(new Error('no'));
  await confirmAnother();
  answer = async () => undefined;
  await confirmAnother();
  // That is not to take receipts again.
  expect(told.slice(2)).toEqual(['no']);
  const before = asked;
  await confirmAnother();
  expect([lane.receipts.state, asked]).toEqual(['none', before]);
  answer = keeps;
  await clock.pass(3_600_000);
  await confirmAnother();
  expect([lane.receipts.state, asked, lane.stats.receiptFailures]).toEqual(['kept', before + 1, 4]);
});

/** Runs a lane whose messages cannot be read again. */
async function runInCore(
  clock: VirtualClock,
  sink: ScriptedSink,
  options: Pick<LaneOptions, 'merger'> & Partial<Pick<LaneOptions, 'backlogBytes'>>,
) {
  const from = Number.NEGATIVE_INFINITY;
  const { lane } = laneOf(clock, sink, { ...options, replayable: false, from });
  const running = lane.run();
  await settle();
  const end = async () => {
    const stopped = lane.stop(new AbortController().signal);
    await clock.pass(5000);
    await stopped;
    await running;
  };
  return { lane, end };
}

describe('windows of its own, of three of the pipeline', () => {
  const FINE = Tiling.of({ ...SHAPE, maxSeries: 1000, sketchScale: SKETCH_SCALE });
  const own = () => new WindowMerger(coarseTiling(FINE, 3 * WINDOW_MS), FINE);
  const sums = ({ rows }: ScriptedSink) => Object.fromEntries([...rows].sort());
  const one = (number: number) => sizedWindow(number, 1, () => 10 ** number);

  test('are written when the last of their parts is complete, and only then confirmed', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink, { merger: own() });
    void lane.run();
    for (const number of [0, 1, 2, 3]) {
      lane.offer(one(number));
      lane.advance((number + 1) * WINDOW_MS, number + 1);
      await clock.pass(100);
      expect(sums(sink)).toEqual(number < 2 ? {} : { '0:s0': 111 });
      expect([lane.next, lane.offeredTo]).toEqual([number < 2 ? 0 : 3 * WINDOW_MS, (number + 1) * WINDOW_MS]);
    }
    // Nothing but empty windows of the pipeline may be left of one.
    lane.advance(7 * WINDOW_MS, 5);
    await clock.pass(100);
    expect(sums(sink)).toEqual({ '0:s0': 111, '3:s0': 1000 });
    expect([told.confirmed, lane.next]).toEqual([
      [
        [0, 0],
        [3 * WINDOW_MS, 0],
      ],
      6 * WINDOW_MS,
    ]);
  });

  test('parts from before the first whole one, and parts that come again, do not count', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane } = laneOf(clock, sink, { merger: own(), from: 3 * WINDOW_MS });
    void lane.run();
    for (const number of [2, 3, 3, 4, 3, 5]) lane.offer(one(number));
    lane.advance(6 * WINDOW_MS, 1);
    await clock.pass(100);
    expect(sums(sink)).toEqual({ '3:s0': 111_000 });
  });

  test('a pause gives up the one that is being made: a replay begins with its start', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink, { merger: own() });
    void lane.run();
    for (const number of [0, 1, 2, 3]) lane.offer(one(number));
    lane.advance(4 * WINDOW_MS, 1);
    await clock.pass(100);
    expect(lane.backlogBytes).toBeGreaterThan(0);
    lane.pause();
    expect([lane.backlogBytes, lane.offeredTo]).toEqual([0, 3 * WINDOW_MS]);
    lane.resume();
    expect(told.fellBehind).toBe(1);
    const { signal } = new AbortController();
    lane.startCatchUp();
    await lane.replay([one(3), one(4)], 5 * WINDOW_MS, 2, signal);
    lane.join();
    lane.offer(one(5));
    lane.advance(6 * WINDOW_MS, 3);
    await clock.pass(100);
    expect(sums(sink)).toEqual({ '0:s0': 111, '3:s0': 111_000 });
  });

  test('a replay that was ended gives nothing more to the one that is being made', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane } = laneOf(clock, sink, { merger: own() });
    void lane.run();
    lane.startCatchUp();
    const ended = AbortSignal.abort();
    const { signal } = new AbortController();
    await lane.replay([one(0)], WINDOW_MS, 1, signal);
    lane.pause();
    lane.resume();
    lane.startCatchUp();
    // The one from before the pause still reads on for a moment.
    await lane.replay([one(1)], 2 * WINDOW_MS, 2, ended);
    expect(lane.offeredTo).toBe(0);
    await lane.replay([one(0), one(1), one(2)], 3 * WINDOW_MS, 3, signal);
    await clock.pass(100);
    expect(sums(sink)).toEqual({ '0:s0': 111 });
  });

  test('what is folded for lack of room is told, with the number of points', async () => {
    const clock = new VirtualClock();
    const folded: number[] = [];
    const fine = Tiling.of({ ...SHAPE, maxSeries: 2, sketchScale: SKETCH_SCALE });
    const merger = new WindowMerger(coarseTiling(fine, 3 * WINDOW_MS), fine);
    const { lane } = laneOf(
      clock,
      new ScriptedSink(),
      { merger },
      { folded: (points) => folded.push(points) },
    );
    void lane.run();
    lane.offer(sizedWindow(0, 2));
    expect(folded).toEqual([]);
    lane.offer(sizedWindow(1, 5));
    lane.offer(sizedWindow(2, 3));
    expect([folded, lane.stats.folded]).toEqual([[3, 1], 4]);
  });

  test('I7: what is being made counts towards the backlog, if something waits', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => RETRY;
    const { lane, told } = laneOf(clock, sink, { merger: own(), backlogBytes: 2000 });
    void lane.run();
    for (const number of [0, 1, 2]) lane.offer(sizedWindow(number, 100));
    expect(told.fellBehind).toBe(0);
    lane.advance(3 * WINDOW_MS, 1);
    lane.offer(sizedWindow(3, 1));
    expect([told.fellBehind, lane.next, lane.offeredTo, lane.backlogBytes]).toEqual([1, 0, 0, 0]);
  });

  test('one that a store takes is not dropped for the next one, however large: it would begin again each time', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => 'hang';
    const { lane, told } = laneOf(clock, sink, { merger: own(), backlogBytes: 1, timeoutMs: 60_000 });
    void lane.run();
    await clock.pass(10);
    const offer = async (number: number) => {
      lane.offer(one(number));
      lane.advance((number + 1) * WINDOW_MS, number);
      await clock.pass(1000);
    };
    for (const number of [0, 1, 2, 3, 4]) await offer(number);
    expect([told.fellBehind, lane.next, sink.batches.length]).toEqual([0, 0, 1]);
    await clock.pass(60_000);
    // It takes nothing.
    await offer(5);
    expect([told.fellBehind, lane.backlogBytes]).toEqual([1, 0]);
  });

  test('in core mode, a stop writes what there is of one', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, end } = await runInCore(clock, sink, { merger: own() });
    for (const number of [0, 1]) lane.offer(one(number));
    lane.advance(2 * WINDOW_MS, 0);
    await end();
    expect(sums(sink)).toEqual({ '0:s0': 11 });
  });

  describe('are merged in turns, so that the thread is never held for long (I7)', () => {
    const SIZE = 5;
    const inTurns = () => new WindowMerger(coarseTiling(FINE, 3 * WINDOW_MS), FINE, 1);
    const large = (number: number) => sizedWindow(number, SIZE, (i) => (i + 1) * 10 ** number);
    const whole = (start: number, sum: number) =>
      Object.fromEntries(Array.from({ length: SIZE }, (_, i) => [`${start}:s${i}`, (i + 1) * sum]));

    test('what comes meanwhile waits', async () => {
      const clock = new VirtualClock();
      const sink = new ScriptedSink();
      const { lane } = laneOf(clock, sink, { merger: inTurns() });
      void lane.run();
      const [waiting] = [large(0).bytes];
      for (const number of [0, 1, 2]) lane.offer(large(number));
      lane.advance(3 * WINDOW_MS, 3);
      // All of it is still there, and is as good as offered.
      expect(lane.backlogBytes).toBeGreaterThan(3 * waiting);
      expect([lane.next, lane.closedThrough, lane.offeredTo]).toEqual([0, undefined, 3 * WINDOW_MS]);
      await clock.nextTurn();
      expect(lane.backlogBytes).toBeGreaterThan(3 * waiting);
      for (let turn = 0; turn < 4 * SIZE; turn++) await clock.nextTurn();
      await clock.pass(100);
      expect(sums(sink)).toEqual(whole(0, 111));
      expect([lane.next, lane.closedThrough]).toEqual([3 * WINDOW_MS, 3]);
    });

    test.each(Array.from({ length: 3 * SIZE + 3 }, (_, turns) => turns))(
      'a pause after %i turns forgets what was begun: it comes again',
      async (turns) => {
        const clock = new VirtualClock();
        const sink = new ScriptedSink();
        const { lane } = laneOf(clock, sink, { merger: inTurns() });
        void lane.run();
        for (const number of [0, 1, 2]) lane.offer(large(number));
        lane.advance(3 * WINDOW_MS, 3);
        for (let turn = 0; turn < turns; turn++) await clock.nextTurn();
        lane.pause();
        expect(lane.backlogBytes).toBe(0);
        expect(lane.offeredTo).toBe(lane.next);
        lane.resume();
        lane.startCatchUp();
        const before = new AbortController();
        const ended = lane.replay([large(0), large(1)], 2 * WINDOW_MS, 2, before.signal);
        for (let turn = 0; turn < turns; turn++) await clock.nextTurn();
        before.abort();
        lane.startCatchUp();
        const { signal } = new AbortController();
        const missing = [0, 1, 2].filter((number) => number * WINDOW_MS >= lane.offeredTo).map(large);
        await lane.replay(missing, 3 * WINDOW_MS, 3, signal);
        await ended;
        lane.join();
        for (const number of [3, 4, 5]) lane.offer(large(number));
        lane.advance(6 * WINDOW_MS, 6);
        for (let turn = 0; turn < 4 * SIZE; turn++) await clock.nextTurn();
        await clock.pass(1000);
        expect(sums(sink)).toEqual({ ...whole(0, 111), ...whole(3, 111_000) });
        expect([lane.next, lane.closedThrough]).toEqual([6 * WINDOW_MS, 6]);
      },
    );

    test('what waits counts towards the backlog', async () => {
      const clock = new VirtualClock();
      const sink = new ScriptedSink();
      const { lane: unlimited } = laneOf(clock, sink, { merger: inTurns() });
      const [, two = 0, three = 0] = [0, 1, 2].map((number) => {
        unlimited.offer(large(number));
        return unlimited.backlogBytes;
      });
      const { lane, told } = laneOf(clock, sink, { merger: inTurns(), backlogBytes: (two + three) / 2 });
      void lane.run();
      lane.offer(large(0));
      lane.offer(large(1));
      expect(told.fellBehind).toBe(0);
      lane.offer(large(2));
      expect([told.fellBehind, lane.offeredTo, lane.backlogBytes]).toEqual([1, 0, 0]);
    });

    test('in core mode, it is merged at once if there is no more room for it, and at the end', async () => {
      const clock = new VirtualClock();
      const sink = new ScriptedSink();
      const backlogBytes = 3.5 * large(0).bytes;
      const { lane, end } = await runInCore(clock, sink, { merger: inTurns(), backlogBytes });
      lane.offer(large(0));
      lane.offer(large(1));
      expect(lane.backlogBytes).toBeGreaterThan(2 * large(0).bytes);
      lane.offer(large(2));
      expect(lane.backlogBytes).toBeLessThan(3 * large(0).bytes);
      lane.advance(3 * WINDOW_MS, 0);
      for (const number of [3, 4]) lane.offer(large(number));
      lane.advance(5 * WINDOW_MS, 0);
      await end();
      expect(sums(sink)).toEqual({ ...whole(0, 111), ...whole(3, 11_000) });
      expect(lane.stats.dropped).toBe(0);
    });
  });
});
