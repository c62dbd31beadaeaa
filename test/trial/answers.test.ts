import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MetricType } from '../../src/aggregate/point.ts';
import type { Query, QueryRow } from '../../src/sink/contract.ts';
import { differenceFrom, trueAnswer } from '../../src/trial/answers.ts';
import { chooseQuestions } from '../../src/trial/questions.ts';
import { makePoint, START, WINDOW_MS } from '../conformance/points.ts';
import { effort } from '../effort.ts';
import { windowsOf } from './windows.ts';

const HOUR_MS = 3_600_000;

const anyPoint = fc
  .record({
    name: fc.constantFrom('requests', 'latency'),
    type: fc.constantFrom<MetricType>('counter', 'timer', 'gauge'),
    app: fc.constantFrom('', 'api', 'web', 'db'),
    status: fc.constantFrom('', '200', '500'),
    window: fc.integer({ min: 0, max: 20 }),
    value: fc.integer({ min: 0, max: 1000 }),
  })
  .map(({ name, type, app, status, window, value }) => {
    const dimensions = Object.entries({ app, status }).filter(([, text]) => text !== '');
    return makePoint({
      name,
      type,
      dimensions,
      windowStart: START + window * WINDOW_MS,
      values: { count: value + 1, sum: value, p99: value },
    });
  });
/** A key is there once, as in a window. */
const anyPoints = fc
  .array(anyPoint, { maxLength: 60 })
  .map((points) => [
    ...new Map(points.map((point) => [`${point.windowStart} ${point.series.id}`, point])).values(),
  ]);

type Points = readonly ReturnType<typeof makePoint>[];

/** The answer again, from lists. */
function expected(query: Query, points: Points): QueryRow[] {
  const { from, to } = query.range;
  const within = points.filter(({ windowStart }) => windowStart >= from && windowStart < to);
  const dimension = ({ series }: Points[number], key: string) =>
    Object.fromEntries(series.dimensions)[key] ?? '';
  const summed = (some: Points, keyOf: (point: Points[number]) => string[]) =>
    [...Map.groupBy(some, (point) => JSON.stringify(keyOf(point)))].map(([key, of]) => ({
      key: JSON.parse(key) as string[],
      value: of.reduce((sum, point) => sum + point.sum, 0),
    }));
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs } = query;
      const meant = within.filter(
        (point) =>
          point.series.name === name &&
          point.series.type === type &&
          where.every(([key, value]) => dimension(point, key) === value),
      );
      return summed(meant, (point) => [
        ...(stepMs === undefined ? [] : [String(point.windowStart - (point.windowStart % stepMs))]),
        ...by.map((key) => dimension(point, key)),
      ]);
    }
    case 'windows':
      return summed(
        within.filter(({ series }) => series.id === query.series.id),
        ({ windowStart }) => [String(windowStart)],
      );
    case 'highest_p99': {
      const all = within.filter(({ series }) => series.name === query.name && series.type === 'timer');
      return all.length === 0 ? [] : [{ key: [], value: Math.max(...all.map(({ p99 }) => p99!)) }];
    }
    case 'live_series':
      return [{ key: [], value: new Set(within.map(({ series }) => series.id)).size }];
  }
}

const sorted = (rows: readonly QueryRow[]) =>
  [...rows].sort((a, b) => (JSON.stringify(a.key) < JSON.stringify(b.key) ? -1 : 1));

test('the truth of every question is what the points say', () => {
  fc.assert(
    fc.property(anyPoints, (points) => {
      if (points.length === 0) return;
      const windows = windowsOf(points);
      const last = windows.at(-1)!;
      const range = { from: windows[0]!.start, to: last.start + last.windowMs };
      const questions = chooseQuestions(windows, range);
      expect(questions.length).toBeGreaterThan(0);
      for (const { id, query } of questions)
        expect(sorted(trueAnswer(query, windows)), id).toEqual(sorted(expected(query, points)));
    }),
    { numRuns: effort(100) },
  );
});

test('the questions are about the busiest counter, and are ten for an hour and eleven beyond it', () => {
  const busy = (hours: number) =>
    Array.from({ length: 12 }, (_, index) =>
      makePoint({
        name: index % 3 === 0 ? 'rare' : 'busy',
        dimensions: [
          ['app', `app-${index % 4}`],
          ['host', `host-${index}`],
        ],
        windowStart: START + Math.floor((index * hours * HOUR_MS) / 11 / WINDOW_MS) * WINDOW_MS,
        values: { count: index % 3 === 0 ? 1 : 100 },
      }),
    );
  const asked = (hours: number) => {
    const points = [...busy(hours), makePoint({ name: 'time', type: 'timer' })];
    const windows = windowsOf(points);
    return chooseQuestions(windows, { from: START, to: windows.at(-1)!.start + WINDOW_MS });
  };
  const ids = asked(0.5).map(({ id }) => id);
  expect(ids).toEqual([
    'sum-5m',
    'sum-1h',
    'by-one',
    'by-two',
    'top-10',
    'filter',
    'rate',
    'one-series',
    'highest-p99',
    'live-series',
  ]);
  expect(asked(3).map(({ id }) => id)).toEqual([...ids.slice(0, 2), 'sum-all', ...ids.slice(2)]);
  for (const { id, text } of asked(3))
    if (id !== 'highest-p99' && id !== 'live-series') expect(text).toContain('busy');
  // The dimension with the most values comes first.
  expect(asked(1).find(({ id }) => id === 'by-two')?.query).toMatchObject({ by: ['host', 'app'] });
});

test('a name whose dimensions nobody can ask about is asked about without them', () => {
  const windows = windowsOf([makePoint({ dimensions: [['a\0b', 'x']] })]);
  for (const { query } of chooseQuestions(windows, { from: START, to: START + WINDOW_MS }))
    if (query.kind === 'sums') expect(query.by).not.toContain('a\0b');
});

describe('differenceFrom', () => {
  const truth: QueryRow[] = [
    { key: ['a'], value: 30 },
    { key: ['b'], value: 20 },
    { key: ['c'], value: 20 },
    { key: ['d'], value: 0.1 + 0.2 },
  ];

  test('accepts any order, and the last digits of sums', () => {
    const answer = [{ key: ['d'], value: 0.3 }, ...truth.slice(0, 3).reverse()];
    expect(differenceFrom(truth, answer)).toBeUndefined();
    expect(differenceFrom([], [])).toBeUndefined();
  });

  test('accepts either of equal values at the end of a top list, but no smaller one', () => {
    expect(differenceFrom(truth, [truth[0]!, truth[1]!], { top: 2 })).toBeUndefined();
    expect(differenceFrom(truth, [truth[0]!, truth[2]!], { top: 2 })).toBeUndefined();
    expect(differenceFrom(truth, [truth[0]!, truth[3]!], { top: 2 })).toContain('not among the 2 largest');
    expect(differenceFrom(truth, [truth[0]!], { top: 2 })).toContain(
      '1 row, 0 of them wrong, and there should be 2',
    );
  });

  test.each<[string, QueryRow[], string]>([
    ['a wrong value', [{ key: ['a'], value: 31 }, ...truth.slice(1)], '"a" is 31, not 30'],
    ['a row too many', [...truth, { key: ['e'], value: 1 }], '"e" is 1, and should not be there'],
    ['a row twice', [...truth, truth[1]!], '"b" is there twice'],
    ['a missing row', truth.slice(1), '"a" is missing'],
    ['no rows', [], '"a" is missing'],
  ])('names %s', (_, answer, text) => {
    expect(differenceFrom(truth, answer)).toContain(text);
  });

  test('names a time as a time, in UTC', () => {
    const at = (value: number) => [{ key: ['1796080680000', '/users'], value }];
    expect(differenceFrom(at(2), at(1), { isOverTime: true })).toMatch(
      /^2026-11-30T23:18:00\.000Z, "\/users" is 1/,
    );
    expect(differenceFrom(at(2), at(1))).toMatch(/^"1796080680000", "\/users" is 1/);
    const odd = [{ key: ['no time'], value: 1 }];
    expect(differenceFrom(at(2), odd, { isOverTime: true })).toMatch(/^"no time" is 1, and should not/);
  });

  test('finds any change of one value by more than rounding', () => {
    fc.assert(
      fc.property(fc.nat(3), fc.double({ min: 1e-6, max: 10, noNaN: true }), (index, change) => {
        const answer = truth.map((row, at) =>
          at === index ? { ...row, value: row.value * (1 + change) } : row,
        );
        expect(differenceFrom(truth, answer)).toContain(JSON.stringify(truth[index]!.key[0]));
      }),
    );
  });
});
