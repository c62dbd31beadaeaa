import { expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { openPipeline, type PipelineOptions } from '../../src/deliver/pipeline.ts';

const TILING = Tiling.of({ windowMs: 1000, latenessMs: 100, maxAheadMs: 0, maxSeries: 100 });
const SETTINGS = {
  metricsFormat: 'influx',
  metricsCounters: undefined,
  maxMessageBytes: 1_000_000,
  slice: { index: 0, of: 1 },
} as const;
const START = { from: 0, instance: '', tiling: TILING, closedThrough: undefined };

/** A pipeline that gets a message every 100 ms of stream time, all in one batch. */
function setUp(options: Pick<PipelineOptions, 'onWindows' | 'onLook' | 'untilShaped'>) {
  const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const { pipeline, aggregator } = openPipeline(SeriesTable.of(TILING), SETTINGS, START, {
    ...options,
    nextTurn,
  });
  let sequence = 0;
  let mostOpen = 0;
  const send = (messages: number) => {
    for (let i = 0; i < messages; i++, sequence++) {
      const bytes = Buffer.from(`a value=${sequence}`);
      pipeline.message(wholeMessage(bytes, sequence * 100, sequence + 1));
      bytes.fill(0);
      mostOpen = Math.max(mostOpen, aggregator.openWindows);
    }
  };
  return { pipeline, aggregator, send, mostOpen: () => mostOpen };
}

test('in a batch that spans many windows, only as many are open as its times require', () => {
  const starts: number[] = [];
  const { pipeline, send, mostOpen } = setUp({
    onWindows: (windows) => {
      starts.push(...windows.map(({ start }) => start));
    },
  });
  send(1000);
  expect(starts).toEqual(Array.from({ length: 99 }, (_, i) => 1000 * i));
  expect(pipeline.progress(99_900)).toBeUndefined();
  expect(starts).toHaveLength(99);
  expect(mostOpen()).toBeLessThanOrEqual(3);
});

test('onLook gets the last message before windows are handed out', () => {
  const looked: number[] = [];
  const handed: number[] = [];
  const { send } = setUp({
    onLook: (sequence, streamTime) => {
      expect(streamTime).toBe(100 * (sequence - 1));
      looked.push(sequence);
    },
    onWindows: (_windows, _boundary, sequence) => {
      expect(looked.at(-1)).toBe(sequence);
      handed.push(sequence);
    },
  });
  send(1000);
  expect(handed).toHaveLength(99);
});

test('while windows cannot be handed on, later messages wait; all are counted, in order', async () => {
  const taken: { readonly start: number; readonly sum: number; readonly sequence: number }[] = [];
  const open: (() => void)[] = [];
  const { pipeline, send, mostOpen } = setUp({
    onWindows: async (windows, _, sequence) => {
      for (const window of windows) taken.push({ start: window.start, sum: window.sumOf(0), sequence });
      await new Promise<void>((resolve) => open.push(resolve));
    },
  });
  send(1000);
  const progress = pipeline.progress(99_900);
  expect(progress).toBeInstanceOf(Promise);
  expect(pipeline.stats.received).toBe(1000);
  let isOver = false;
  void Promise.resolve(progress).then(() => {
    isOver = true;
  });
  while (!isOver) {
    for (const resolve of open.splice(0)) resolve();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  expect(mostOpen()).toBeLessThanOrEqual(3);
  expect(taken.map(({ start, sum }) => [start, sum])).toEqual(
    Array.from({ length: 99 }, (_, i) => [1000 * i, 100 * i + 45]),
  );
  for (const { start, sequence } of taken) expect(sequence).toBeGreaterThanOrEqual(start / 100 + 10);
});

test('a window that must not be complete before a given message is not, whatever the times are', () => {
  const starts: number[] = [];
  const { pipeline, send } = setUp({
    onWindows: (windows) => {
      starts.push(...windows.map(({ start }) => start));
    },
  });
  pipeline.completeAfter(500);
  send(499);
  expect(starts).toEqual([]);
  send(1);
  expect(starts).toHaveLength(49);
});
