import { describe, expect, test } from 'vitest';
import type { WriteOutcome } from '../../src/sink/contract.ts';
import { laneOf, ScriptedSink, sizedWindow, WINDOW_MS } from './fixtures.ts';
import { VirtualClock } from './virtual-clock.ts';

const DOWN: WriteOutcome = { kind: 'retry', reason: 'server_error', message: 'no' };

describe('a paused lane', () => {
  test('writes nothing, holds nothing, and asks for a replay from its checkpoint when it is resumed', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    lane.advance(WINDOW_MS, 1);
    await clock.pass(100);
    lane.pause();
    expect(lane.state).toBe('paused');
    for (const number of [1, 2, 3]) lane.offer(sizedWindow(number, 5));
    lane.advance(4 * WINDOW_MS, 4);
    await clock.pass(60_000);
    expect([sink.batches.length, lane.backlogPoints, lane.backlogBytes]).toEqual([1, 0, 0]);
    expect([lane.next, told.fellBehind]).toEqual([WINDOW_MS, 0]);
    lane.resume();
    expect([lane.state, told.fellBehind, lane.offeredTo]).toEqual(['catching_up', 1, WINDOW_MS]);
    lane.resume();
    expect(told.fellBehind).toBe(1);
  });

  test('lets a write in flight end, ignores its outcome, and makes no further attempt', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => 'hang';
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    lane.advance(WINDOW_MS, 1);
    await clock.pass(1000);
    expect(lane.backlogBytes).toBeGreaterThan(0);
    lane.pause();
    expect([lane.backlogBytes, lane.backlogPoints]).toEqual([0, 0]);
    await clock.pass(300_000);
    expect([sink.batches.length, lane.next]).toEqual([1, 0]);
  });

  test.each([
    ['that is down', () => DOWN],
    ['that refuses the sink', () => ({ kind: 'refused', reason: 'unauthorized', message: 'no' }) as const],
  ])('does not call a store %s any more, not even to open it', async (_, answer) => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = answer;
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 5));
    lane.advance(WINDOW_MS, 1);
    await clock.pass(20_000);
    lane.pause();
    await clock.pass(5000);
    const [batches, opens] = [sink.batches.length, sink.opens];
    await clock.pass(600_000);
    expect([sink.batches.length, sink.opens]).toEqual([batches, opens]);
  });

  test('tries a store that does not open again only after the resume', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.openError = new Error('no');
    const { lane } = laneOf(clock, sink);
    void lane.run();
    await clock.pass(20_000);
    lane.pause();
    await clock.pass(60_000);
    const { opens } = sink;
    expect(opens).toBeGreaterThan(3);
    await clock.pass(600_000);
    expect(sink.opens).toBe(opens);
    lane.resume();
    await clock.pass(0);
    expect(sink.opens).toBe(opens + 1);
  });

  test('rewrites windows only after the pause', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane } = laneOf(clock, sink);
    void lane.run();
    lane.offer(sizedWindow(0, 3, () => 1));
    lane.advance(WINDOW_MS, 1);
    await clock.pass(100);
    lane.pause();
    const rewritten = lane.rewrite([sizedWindow(0, 3, () => 2)], new AbortController().signal);
    await clock.pass(60_000);
    expect([...sink.rows.values()]).toEqual([1, 1, 1]);
    lane.resume();
    await clock.pass(1000);
    await rewritten;
    expect([...sink.rows.values()]).toEqual([2, 2, 2]);
  });

  test('is not advanced by a replay that was aborted', async () => {
    const clock = new VirtualClock();
    const { lane } = laneOf(clock, new ScriptedSink());
    void lane.run();
    lane.startCatchUp();
    const ended = AbortSignal.abort();
    lane.pause();
    await lane.replay([], 9 * WINDOW_MS, 9, ended);
    await lane.replay([sizedWindow(3, 1)], 9 * WINDOW_MS, 9, ended);
    expect([lane.offeredTo, lane.next]).toEqual([0, 0]);
  });

  test('does not delay a stop', async () => {
    const clock = new VirtualClock();
    const { lane } = laneOf(clock, new ScriptedSink());
    const running = lane.run();
    lane.pause();
    await lane.stop(new AbortController().signal);
    await clock.pass(0);
    await running;
    expect(lane.state).toBe('stopped');
  });

  test('core mode: keeps the windows for a store that is down, and writes them after the resume', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = () => DOWN;
    const { lane } = laneOf(clock, sink, { replayable: false });
    void lane.run();
    for (let number = 0; number < 4; number++) lane.offer(sizedWindow(number, 5));
    await clock.pass(20_000);
    lane.pause();
    const batches = sink.batches.length;
    sink.answer = () => undefined;
    await clock.pass(600_000);
    expect(sink.batches.length).toBe(batches);
    lane.resume();
    await clock.pass(60_000);
    expect(lane.stats.written).toBe(20);
  });

  test('core mode: keeps its backlog, and a stop writes it, as nothing can be read again', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink, { replayable: false, backlogBytes: 2000 });
    const running = lane.run();
    await clock.pass(100);
    lane.pause();
    for (let number = 0; number < 20; number++) lane.offer(sizedWindow(number, 5));
    await clock.pass(60_000);
    expect(sink.batches).toEqual([]);
    const { backlogPoints, stats } = lane;
    expect(backlogPoints).toBeGreaterThan(0);
    expect(backlogPoints + stats.dropped).toBe(100);
    const stopped = lane.stop(new AbortController().signal);
    await clock.pass(60_000);
    await Promise.all([stopped, running]);
    expect(lane.stats.written).toBe(backlogPoints);
    expect(told.fellBehind).toBe(0);
  });
});
