/** What a store answers, by its own query, must be what was written. */

import { describe, expect, it } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import type { AnswerRow, Question, WindowRange } from '../../src/sink/contract.ts';
import { settlesPromptly } from './lifecycle.ts';
import { HOSTILE_TEXTS, makePoint, START, WINDOW_MS } from './points.ts';
import { type Bench, PROMPT_MS, type Subject, sinkError } from './subject.ts';

const RANGE: WindowRange = { from: START, to: START + 10 * WINDOW_MS };
const NAME = 'asked.for';
const NEVER = new AbortController().signal;

/** Whole numbers: a store may add them up in any order. */
function counter(
  dimensions: readonly (readonly [string, string])[],
  number: number,
  more: object = {},
): Point {
  const values = { count: number + 1, sum: 10 * number + 7 };
  return makePoint({
    name: NAME,
    dimensions,
    windowStart: START + (number % 12) * WINDOW_MS,
    values,
    ...more,
  });
}

const within = ({ windowStart }: Point) => windowStart >= RANGE.from && windowStart < RANGE.to;

/** What the points say, by key. */
function expected(points: readonly Point[], keyOf: (point: Point) => string): AnswerRow[] {
  const rows = new Map<string, { key: string; count: number; sum: number }>();
  for (const point of points.filter(within)) {
    const row = rows.get(keyOf(point)) ?? { key: keyOf(point), count: 0, sum: 0 };
    row.count += point.count;
    row.sum += point.sum;
    rows.set(row.key, row);
  }
  return sorted([...rows.values()]);
}

function sorted(rows: readonly AnswerRow[]): AnswerRow[] {
  return [...rows].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function sums(points: readonly Point[], dimension: string): Question {
  const series = [...new Map(points.map((point) => [point.series.id, point.series])).values()];
  return { kind: 'sums', name: NAME, type: 'counter', dimension, series, range: RANGE };
}

const dimensionValue = (dimension: string) => (point: Point) =>
  point.series.dimensions.find(([key]) => key === dimension)?.[1] ?? '';

export function describeQuestions(bench: Bench): void {
  async function holding(points: readonly Point[], proxied = false): Promise<Subject> {
    const subject = await bench.subject({ proxied });
    await subject.open();
    await subject.deliver(points);
    return subject;
  }
  const ask = async (subject: Subject, question: Question) =>
    sorted(await subject.sink.ask!(question, NEVER));

  describe('questions', () => {
    const instances = ['', 'boot-1'];
    const asked = Array.from({ length: 60 }, (_, number) => {
      const app: [string, string][] = number % 5 === 0 ? [] : [['app', `app-${number % 3}`]];
      return counter([...app, ['host', `h${number}`]], number, { instance: instances[number % 2] });
    });
    const others = [
      makePoint({ name: 'another', values: { count: 1000 } }),
      makePoint({ name: NAME, type: 'gauge', values: { count: 1000 } }),
    ];

    it('sums a name by a dimension, over the windows of the range', async () => {
      const subject = await holding([...asked, ...others]);
      const rows = expected(asked, dimensionValue('app'));
      expect(rows.map(({ key }) => key)).toEqual(['', 'app-0', 'app-1', 'app-2']);
      expect(await ask(subject, sums(asked, 'app'))).toEqual(rows);
    });

    it('sums by a dimension with any key', async () => {
      const points = HOSTILE_TEXTS.map((key, number) => counter([[key, `${key}!`]], number % 10));
      const subject = await holding(points);
      for (const key of HOSTILE_TEXTS) {
        const rows = expected(points, dimensionValue(key));
        expect(rows).toHaveLength(2);
        expect(await ask(subject, sums(points, key)), JSON.stringify(key)).toEqual(rows);
      }
    });

    it('counts whatever it holds with a NUL or half of a surrogate pair, and takes it for nothing else', async () => {
      const keys = ['a\0b', 'a', '\0', 'half\ud800', 'half\udfff', 'half\ufffd', '\\u0000', '\\ud800'];
      const values = ['plain', 'x\0y', 'x', '\udc00', '\ufffd', '\\u0000', '\\\0'];
      const named = (name: string) => counter([['app', 'api']], 1, { name });
      const points = [
        ...keys.map((key, number) =>
          counter(
            [
              [key, 'v'],
              ['app', 'api'],
            ],
            number,
          ),
        ),
        ...values.map((value, number) =>
          counter(
            [
              ['app', value],
              ['n', String(number)],
            ],
            number,
          ),
        ),
        ...[`${NAME}\0`, `${NAME}\ud800`, `${NAME}\ufffd`].map(named),
      ];
      const subject = await bench.subject();
      await subject.open();
      const rejected = new Set((await subject.deliver(points)).map(({ point }) => point));
      for (const name of new Set(points.map(({ series }) => series.name))) {
        const own = points.filter(({ series }) => series.name === name);
        const held = own.filter((point) => !rejected.has(point));
        for (const key of [...keys, 'app']) {
          const rows = expected(held, dimensionValue(key));
          const question = { ...sums(own, key), name } as Question;
          expect(await ask(subject, question), JSON.stringify([name, key])).toEqual(rows);
        }
        for (const { series } of own) {
          const same = held.filter((point) => point.series.id === series.id);
          const rows = expected(same, ({ windowStart }) => String(windowStart));
          const question: Question = { kind: 'windows', series, range: RANGE };
          expect(await ask(subject, question), series.dimensionsJson).toEqual(rows);
        }
      }
    });

    it('lists the windows of one series, but not of those with more dimensions or another type', async () => {
      const own = Array.from({ length: 12 }, (_, number) => counter([['app', 'a']], number));
      const parts = own.map((point) => ({ ...point, instance: 'boot-2' }));
      const alike = [
        makePoint({ name: NAME, type: 'timer', dimensions: [['app', 'a']] }),
        ...Array.from({ length: 12 }, (_, number) =>
          counter(
            [
              ['app', 'a'],
              ['host', 'h'],
            ],
            number,
          ),
        ),
      ];
      const subject = await holding([...own, ...parts, ...alike]);
      const rows = expected([...own, ...parts], ({ windowStart }) => String(windowStart));
      expect(rows).toHaveLength(10);
      const question: Question = { kind: 'windows', series: own[0]!.series, range: RANGE };
      expect(await ask(subject, question)).toEqual(rows);
    });

    it('answers with no rows if nothing was written', async () => {
      const subject = await holding([]);
      expect(await ask(subject, sums(asked, 'app'))).toEqual([]);
      expect(await ask(subject, { kind: 'windows', series: asked[0]!.series, range: RANGE })).toEqual([]);
    });

    it('gives up a question when its signal is aborted, and answers the next', async () => {
      const subject = await holding(asked);
      await expect(subject.sink.ask!(sums(asked, 'app'), AbortSignal.abort())).rejects.toThrow();
      expect(await ask(subject, sums(asked, 'app'))).toEqual(expected(asked, dimensionValue('app')));
    });

    it.skipIf(bench.harness.differs?.embedded)('says promptly that the store is gone', async () => {
      const subject = await holding(asked, true);
      await bench.proxy().refuse();
      const asking = sinkError(subject.sink.ask!(sums(asked, 'app'), NEVER));
      await settlesPromptly(asking);
      expect((await asking).reason).toBe('connection');
    });

    it('says how much is stored, or that it does not know', async () => {
      const subject = await holding(asked);
      const size = () => subject.sink.storage!(NEVER);
      if (bench.harness.differs?.saysNoSize) expect(await size()).toBeUndefined();
      // Some look at what they hold only now and then.
      else await expect.poll(size, { timeout: PROMPT_MS }).toBeGreaterThan(0);
    });
  });
}
