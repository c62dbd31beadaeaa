import { describe, expect, test } from 'vitest';
import { makeSeries } from '../../src/aggregate/series.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';
import { type HoldersIn, WindowScan } from '../../src/probe/window-scan.ts';
import type { Question, WindowRange } from '../../src/sink/contract.ts';

const WINDOW_MS = 10_000;
const MAX_SERIES = 250;

type Row = readonly [name: string, dimensions: Readonly<Record<string, string>>, count: number];

function windowOf(number: number, rows: readonly Row[]): ClosedWindow {
  const records = new SeriesRecords();
  return new ClosedWindow({
    start: number * WINDOW_MS,
    windowMs: WINDOW_MS,
    instance: '',
    records,
    refs: Uint32Array.from(rows, ([name, dimensions]) =>
      records.add(makeSeries(name, 'counter', Object.entries(dimensions))),
    ),
    rows: Uint32Array.from(rows, (_, i) => 2 * i),
    values: Float64Array.from(rows.flatMap(([, , count]) => [count, count])),
  });
}

async function scanned(windows: readonly (readonly Row[])[], holders?: HoldersIn): Promise<WindowScan> {
  const scan = new WindowScan(holders);
  for (const [number, rows] of windows.entries()) {
    scan.take([windowOf(number, rows)]);
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
  return scan;
}

type Sums = Extract<Question, { kind: 'sums' }>;
type Windows = Extract<Question, { kind: 'windows' }>;
const asked = (scan: WindowScan, to: number) => {
  const questions = scan.subject.questions(to * WINDOW_MS)!;
  return { sums: questions.sums as Sums, windows: questions.windows as Windows };
};

const busy = (hosts: number, name = 'busy'): Row[] =>
  Array.from({ length: hosts }, (_, i) => [name, { app: `a${i % 2}`, host: `h${i}` }, 10 + i]);
const quiet: Row = ['quiet', { app: 'a' }, 1];

describe('the subject of the questions', () => {
  test('is the busiest counter, by its dimension with the most values, and its busiest series', async () => {
    const scan = await scanned(Array(3).fill([quiet, ...busy(5)]));
    const { sums, windows } = asked(scan, 3);
    expect(sums).toMatchObject({ name: 'busy', type: 'counter', dimension: 'host' });
    expect(sums.series).toHaveLength(5);
    expect(sums.range).toEqual({ from: 3 * WINDOW_MS - 300_000, to: 3 * WINDOW_MS });
    expect(windows.series.dimensions).toContainEqual(['host', 'h4']);
    expect(windows.range).toEqual({ from: 3 * WINDOW_MS - 3_600_000, to: 3 * WINDOW_MS });
  });

  test('stays the same while it is seen, and changes when it is gone', async () => {
    const other = busy(3, 'other').map(([name, dimensions]): Row => [name, dimensions, 1000]);
    const scan = await scanned([...Array(3).fill(busy(5)), ...Array(20).fill([...other, ...busy(5)])]);
    expect(asked(scan, 23).sums.name).toBe('busy');
    const gone = await scanned([...Array(3).fill(busy(5)), ...Array(40).fill(other)]);
    expect(asked(gone, 43).sums.name).toBe('other');
  });

  test('has few enough series to be asked for one by one, if there is such a name', async () => {
    const scan = await scanned(Array(4).fill([quiet, ...busy(MAX_SERIES + 1)]));
    expect(asked(scan, 4).sums).toMatchObject({ name: 'quiet', series: [{ name: 'quiet' }] });
    const none = await scanned(Array(4).fill(busy(MAX_SERIES + 1)));
    expect(asked(none, 4).sums).toMatchObject({ name: 'busy', dimension: 'host', series: undefined });
  });

  test('has little enough text to go along with each question', async () => {
    const long = busy(100).map(
      ([name, dimensions, count]): Row => [name, { ...dimensions, text: 'x'.repeat(20_000) }, count],
    );
    const scan = await scanned(Array(4).fill([quiet, ...long]));
    expect(asked(scan, 4).sums.name).toBe('quiet');
  });

  test('is a name that as many sinks as possible get, in all windows asked about', async () => {
    const ranges: WindowRange[] = [];
    const holders: HoldersIn = (range) => {
      ranges.push(range);
      return (name) => (name === 'quiet' ? 3 : 2);
    };
    const windows = Array(3).fill([quiet, ...busy(5)]);
    expect(asked(await scanned(windows, holders), 3).sums.name).toBe('quiet');
    expect(ranges.at(-1)).toEqual({ from: 2 * WINDOW_MS - 3_600_000, to: 3 * WINDOW_MS });
    // It comes later than the others, and is not asked about for its series, of which it has too many.
    const late = await scanned([...Array(3).fill(busy(5)), ...windows], holders);
    expect(asked(late, 6).sums.name).toBe('quiet');
    const many: Row[] = busy(MAX_SERIES + 1, 'quiet');
    const wide = asked(await scanned(Array(6).fill([...many, ...busy(5)]), holders), 6);
    expect([wide.sums.name, wide.windows.series.name, wide.sums.series]).toEqual([
      'quiet',
      'quiet',
      undefined,
    ]);
  });

  test('is undefined before there is a counter, or a window', async () => {
    expect(new WindowScan().subject.questions(0)).toBeUndefined();
    expect(
      (await scanned(Array(3).fill(busy(2)))).subject.questions(Number.NEGATIVE_INFINITY),
    ).toBeUndefined();
  });
});
