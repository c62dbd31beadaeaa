import { describe, expect, test } from 'vitest';
import { CheckpointKeeper } from '../../src/deliver/lane/checkpoint-saver.ts';
import { laneOf, ScriptedSink, sizedWindow, WINDOW_MS } from './fixtures.ts';
import { VirtualClock } from './virtual-clock.ts';

describe('stopping and checkpoints', () => {
  function keeperOf(clock: VirtualClock, save: (next: number) => Promise<void>) {
    return new CheckpointKeeper({
      sink: 'test',
      clock,
      describe: () => ({ savedAt: '', shape: {} as never }),
      failed: () => {},
      store: {
        load: async () => undefined,
        list: async () => [],
        save: async (_, { next }) => {
          await save(next);
          return 'saved';
        },
      },
    });
  }

  test('a stop writes what is queued, saves the checkpoint, and closes the sink', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const saved: number[] = [];
    const keeper = keeperOf(clock, async (next) => void saved.push(next));
    const { lane } = laneOf(clock, sink, { keeper });
    const run = lane.run();
    for (const number of [0, 1, 2]) lane.offer(sizedWindow(number, 30));
    await lane.stop(new AbortController().signal);
    await run;
    expect(sink.rows.size).toBe(90);
    expect(saved.at(-1)).toBe(3 * WINDOW_MS);
    expect(sink.closes).toBe(1);
  });

  test('a sink that begins is written to only when its beginning is stored: a restart could not know of the rows', async () => {
    for (const begins of [false, true]) {
      const clock = new VirtualClock();
      const sink = new ScriptedSink();
      let isUp = false;
      const keeper = keeperOf(clock, async () => {
        if (!isUp) throw new Error('no answer');
      });
      const { lane } = laneOf(clock, sink, { keeper, begins });
      const run = lane.run();
      lane.offer(sizedWindow(0, 3));
      await clock.pass(60_000);
      expect(sink.rows.size).toBe(begins ? 0 : 3);
      isUp = true;
      await clock.pass(60_000);
      expect(sink.rows.size).toBe(3);
      await lane.stop(AbortSignal.abort());
      await run;
    }
  });

  test('at the deadline, a stop gives up what the store has not accepted, and the checkpoint stays before it', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    sink.answer = ({ points }) => (points[0]!.windowStart === 0 ? undefined : 'hang');
    const saved: number[] = [];
    const keeper = keeperOf(clock, async (next) => void saved.push(next));
    const { lane } = laneOf(clock, sink, { keeper });
    const run = lane.run();
    for (const number of [0, 1]) lane.offer(sizedWindow(number, 5));
    await clock.pass(10);
    const deadline = new AbortController();
    const stopped = lane.stop(deadline.signal);
    await clock.pass(10);
    deadline.abort();
    await stopped;
    await clock.pass(5000);
    await run;
    expect(saved.at(-1)).toBe(WINDOW_MS);
  });

  test('the start of a sink without a checkpoint is saved before its first window is written', async () => {
    const clock = new VirtualClock();
    const saved: number[] = [];
    const keeper = keeperOf(clock, async (next) => void saved.push(next));
    const { lane } = laneOf(clock, new ScriptedSink(), { keeper, from: 7 * WINDOW_MS });
    const run = lane.run();
    await lane.stop(new AbortController().signal);
    await clock.pass(100);
    await run;
    expect(saved).toEqual([7 * WINDOW_MS]);
  });

  test('a checkpoint store that is down blocks nothing, is retried, and gets the latest checkpoint', async () => {
    const clock = new VirtualClock();
    const sink = new ScriptedSink();
    const saved: number[] = [];
    let down = true;
    const keeper = keeperOf(clock, async (next) => {
      if (down) throw new Error('down');
      saved.push(next);
    });
    const { lane } = laneOf(clock, sink, { keeper });
    void lane.run();
    for (let number = 0; number < 5; number++) {
      lane.offer(sizedWindow(number, 5));
      await clock.pass(1000);
    }
    expect(lane.next).toBe(5 * WINDOW_MS);
    expect(keeper.failures).toBeGreaterThan(1);
    down = false;
    await clock.pass(60_000);
    expect(saved.at(-1)).toBe(5 * WINDOW_MS);
  });
});
