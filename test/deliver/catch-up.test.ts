/** A lane joins the live path only when its replay has read everything that the live path has read. */
import { expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { newSourceStats, type Reader, type Source } from '../../src/bus/read/source.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import type { Lane } from '../../src/deliver/lane/lane.ts';
import { openPipeline } from '../../src/deliver/pipeline.ts';
import { catchUp } from '../../src/deliver/replay/catch-up.ts';
import { VirtualClock } from './virtual-clock.ts';

const TILING = Tiling.of({ windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 100 });
const SETTINGS = {
  metricsFormat: 'influx',
  metricsCounters: undefined,
  maxMessageBytes: 1_000_000,
  slice: { index: 0, of: 1 },
} as const;

test('messages that wait for their turn do not count as read', async () => {
  const clock = new VirtualClock();
  const reopened: number[] = [];
  const opened: (() => void)[] = [];
  const lane = {
    offeredTo: 0,
    closedThrough: undefined,
    joined: false,
    startCatchUp() {},
    async replay(_windows: unknown, boundary: number) {
      await new Promise<void>((resolve) => opened.push(resolve));
      lane.offeredTo = boundary;
    },
    async untilReplayed() {},
    join() {
      lane.joined = true;
    },
  };
  /** The server's clock was set back after the message that closes the windows. */
  const times = [100, 1100, 2100, 3100, 500, 3200, 3300, 4100];
  const stats = newSourceStats();
  const source: Source = {
    stats,
    async run(reader: Reader, signal: AbortSignal) {
      for (const [i, time] of times.entries())
        reader.message(wholeMessage(Buffer.from('a value=1'), time, i + 1));
      reader.flush?.();
      stats.lastSequence = times.length;
      stats.readThrough = times.length;
      void reader.progress(4100);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  const stop = new AbortController();
  const done = catchUp(
    lane as unknown as Lane,
    {
      open: (from, closedThrough, onWindows) => {
        const { pipeline } = openPipeline(
          SeriesTable.of(TILING),
          SETTINGS,
          { from, closedThrough, instance: '', tiling: TILING },
          {
            nextTurn: () => clock.nextTurn(),
            onWindows,
            onReopened: (starts) => reopened.push(...starts),
          },
        );
        return {
          source,
          reader: pipeline,
          waiting: () => pipeline.waiting,
          release: () => pipeline.release(),
        };
      },
      // The live path waited for the shape of the windows, so it had read more when it closed them.
      live: () => ({ boundary: 3000, sequence: 7 }),
      joined: () => {},
      clock,
      failed: (error) => {
        throw error;
      },
    },
    stop.signal,
  );
  for (let i = 0; i < 100 && !lane.joined; i++) {
    for (const open of opened.splice(0)) open();
    await clock.nextTurn();
  }
  expect(lane.joined).toBe(true);
  for (const open of opened.splice(0)) open();
  await done;
  expect(reopened).toEqual([0]);
});
