import { expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { type Epoch, type InputShape, Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { openPipeline } from '../../src/deliver/pipeline.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { SETTINGS } from '../decode/formats.ts';

const SHAPE = { windowMs: 10_000, latenessMs: 2000, maxAheadMs: 1000, maxSeries: 100 };
const NOW = 1_700_000_000_000;

function epoch(from: number, input?: InputShape): Epoch {
  return { ...SHAPE, from, ...(input && { input }) };
}

/** What becomes of messages: each at its stream time, without a time of its own. */
function rowsOf(
  messages: readonly (readonly [time: number, payload: string])[],
  tiling: Tiling,
  table = SeriesTable.of(tiling),
): string[] {
  const rows: string[] = [];
  const { pipeline } = openPipeline(
    table,
    { ...SETTINGS, slice: { index: 0, of: 1 } },
    { from: Number.NEGATIVE_INFINITY, closedThrough: 0, instance: '', tiling },
    {
      nextTurn: systemClock.nextTurn,
      onWindows: (windows) => {
        for (const point of windows.flatMap((window) => [...pointsOf(window)]))
          rows.push(
            `${(point.windowStart - NOW) / 1000} ${point.series.type} ${point.series.name} ${point.sum}`,
          );
      },
    },
  );
  messages.forEach(([time, payload], i) => {
    pipeline.message(wholeMessage(Buffer.from(payload), time, i + 1));
  });
  pipeline.progress(NOW + 1e9);
  for (const [reason, count] of pipeline.stats.rejectedMessages) rows.push(`${reason} ${count}`);
  pipeline.release();
  return rows;
}

test('a message is read as the epoch of its stream time wants it, also when stream time goes back', () => {
  const tiling = new Tiling([
    epoch(Number.NEGATIVE_INFINITY, { format: 'influx' }),
    epoch(NOW + 10_000, { format: 'statsd' }),
    epoch(NOW + 20_000, { format: 'influx', counters: ['n'] }),
  ]);
  const messages = [
    [NOW, 'n value=1'],
    [NOW + 9_999, 'a:1|c'],
    [NOW + 10_000, 'a:2|c'],
    [NOW + 9_999, 'n value=2'],
    [NOW + 19_999, 'n value=4'],
    [NOW + 20_000, 'n value=8'],
    [NOW + 21_000, 'n value=16'],
    [NOW + 19_998, 'a:32|c'],
  ] as const;
  const expected = [
    '0 gauge n 3',
    '10 counter a 34',
    '20 counter n 24',
    'not_line_protocol 1',
    'not_statsd 1',
  ];
  expect(rowsOf(messages, tiling)).toEqual(expected);
  // Whoever begins in the middle has the same rows, and so has who finds every spelling known already.
  const table = SeriesTable.of(tiling);
  expect(rowsOf(messages.slice(4), tiling, table)).toEqual([
    '10 counter a 32',
    '20 counter n 24',
    'not_statsd 1',
  ]);
  expect(rowsOf(messages, tiling, table)).toEqual(expected);
});

test('of epochs that do not say how messages are read, the settings do', () => {
  const [json, both] = [epoch(Number.NEGATIVE_INFINITY), epoch(NOW + 10_000, { format: 'statsd' })];
  const counter = '{"name":"a","type":"counter","value":1}';
  expect(rowsOf([[NOW, counter]], new Tiling([json]))).toEqual(['0 counter a 1']);
  expect(rowsOf([[NOW + 10_000, counter]], new Tiling([json, both]))).toEqual(['not_statsd 1']);
});

test('messages that wait their turn keep their subjects and types, whatever becomes of the envelope', async () => {
  const tiling = Tiling.of({ ...SHAPE, input: { format: 'number' } });
  const rows: string[] = [];
  const table = SeriesTable.of(tiling);
  const { pipeline } = openPipeline(
    table,
    { ...SETTINGS, slice: { index: 0, of: 1 }, pace: { stepsPerTurn: 1, maxWaitingBytes: 1_000_000 } },
    { from: Number.NEGATIVE_INFINITY, closedThrough: 0, instance: '', tiling },
    {
      nextTurn: systemClock.nextTurn,
      onWindows: (windows) => {
        for (const { series, sum } of windows.flatMap((window) => [...pointsOf(window)]))
          rows.push(`${series.name} ${sum}`);
      },
    },
  );
  const envelope = { subject: '' };
  for (let i = 1; i <= 5; i++) {
    envelope.subject = `s${i}`;
    pipeline.message(wholeMessage(Buffer.from(`${i}`), NOW, i), envelope);
  }
  envelope.subject = 'another';
  expect(pipeline.waiting).toBeGreaterThan(0);
  await pipeline.progress(NOW + 1e9);
  expect(rows).toEqual(['s1 1', 's2 2', 's3 3', 's4 4', 's5 5']);
  pipeline.release();
});
