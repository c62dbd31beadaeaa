/** What `trial` needs of a sink, where it has it: a table of its own, which goes again, and right answers. */

import { describe, expect, it } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import type { Query, QueryRow, WindowRange } from '../../src/sink/contract.ts';
import { EVERYTHING, HOSTILE_TEXTS, makePoint, manyPoints, START, WINDOW_MS } from './points.ts';
import { type Bench, type Subject, sinkError } from './subject.ts';

const NEVER = new AbortController().signal;
const RANGE: WindowRange = { from: START, to: START + 10 * WINDOW_MS };
const STEP_MS = 2 * WINDOW_MS;
const NAME = 'tried';

/** Whole numbers, which any order of adding up leaves as they are. */
const points: readonly Point[] = [
  ...Array.from({ length: 60 }, (_, number) => {
    const dimensions: [string, string][] = [['host', `h${number % 6}`]];
    if (number % 5 > 0) dimensions.push(['app', `app-${number % 3}`]);
    return makePoint({
      name: NAME,
      dimensions,
      windowStart: START + Math.floor(number / 5) * WINDOW_MS,
      values: { count: number + 1, sum: 10 * number + 7 },
    });
  }),
  ...Array.from({ length: 12 }, (_, number) =>
    makePoint({
      name: 'took',
      type: 'timer',
      dimensions: [['app', `app-${number % 3}`]],
      windowStart: START + number * WINDOW_MS,
      values: { count: 1, sum: 5, p99: number % 7 },
    }),
  ),
  makePoint({ name: NAME, type: 'gauge', dimensions: [['app', 'app-1']], values: { sum: 1_000_000 } }),
  makePoint({ name: `${NAME}.else`, dimensions: [['app', 'app-1']], values: { sum: 1_000_000 } }),
];

const dimensionOf = ({ series }: Point, key: string) =>
  series.dimensions.find(([own]) => own === key)?.[1] ?? '';

/** Sums of what the query is about, by key. */
function summed(all: readonly Point[], query: Extract<Query, { kind: 'sums' }>): QueryRow[] {
  const { name, type, where, by, stepMs, range } = query;
  const meant = all.filter(
    (point) =>
      point.series.name === name &&
      point.series.type === type &&
      point.windowStart >= range.from &&
      point.windowStart < range.to &&
      where.every(([key, value]) => dimensionOf(point, key) === value),
  );
  const groups = Map.groupBy(meant, (point) =>
    JSON.stringify([
      ...(stepMs === undefined ? [] : [String(Math.floor(point.windowStart / stepMs) * stepMs)]),
      ...by.map((key) => dimensionOf(point, key)),
    ]),
  );
  return [...groups].map(([key, some]) => ({
    key: JSON.parse(key),
    value: some.reduce((sum, point) => sum + point.sum, 0),
  }));
}

const sorted = (rows: readonly QueryRow[]) =>
  [...rows].sort((a, b) => (JSON.stringify(a.key) < JSON.stringify(b.key) ? -1 : 1));

function sums(all: readonly Point[], more: Partial<Extract<Query, { kind: 'sums' }>> = {}) {
  const series = [...new Map(all.map((point) => [point.series.id, point.series])).values()].filter(
    ({ name, type }) => name === NAME && type === 'counter',
  );
  const about = { kind: 'sums', name: NAME, type: 'counter', where: [], by: [] } as const;
  return { ...about, series, range: RANGE, ...more } satisfies Query;
}

export function describeTrial(bench: Bench): void {
  describe('a trial', () => {
    /** Sinks of a trial and of the service. */
    async function tried(): Promise<{ live: Subject; trial: Subject; name: string }> {
      const namespace = bench.namespace();
      const name = `trial_${namespace}`;
      const live = await bench.subject({ namespace });
      await live.open();
      const trial = await bench.subject({ namespace, trial: name });
      await (trial.sink.claim?.(NEVER) ?? trial.open());
      return { live, trial, name };
    }

    it('has rows of its own', async (context) => {
      if (!bench.isTried()) return context.skip();
      const { live, trial } = await tried();
      await live.deliver(manyPoints(4));
      await trial.deliver(manyPoints(6, 100));
      expect(live.differences(await live.read(EVERYTHING), manyPoints(4))).toEqual([]);
      expect(trial.differences(await trial.read(EVERYTHING), manyPoints(6, 100))).toEqual([]);
      await trial.sink.compact?.(NEVER);
      expect(trial.differences(await trial.read(EVERYTHING), manyPoints(6, 100))).toEqual([]);
    });

    it('deletes its table, and no other', async (context) => {
      if (!bench.isTried()) return context.skip();
      const { live, trial, name } = await tried();
      if (trial.sink.drop === undefined || bench.harness.differs?.hasNoMark) return context.skip();
      await live.deliver(manyPoints(4));
      await trial.deliver(manyPoints(6));
      // The live one has another name, and what only has the name of a trial has no mark.
      expect((await sinkError(live.sink.drop!(NEVER))).message).toContain('is not a table of a trial');
      const again = await bench.subject({ namespace: name.replace('trial_', ''), trial: name });
      expect((await sinkError(again.sink.claim!(NEVER))).message).toContain('exists already');
      const unmarked = await bench.subject({ namespace: name.replace('trial_', ''), trial: `${name}x` });
      if (await opens(unmarked)) {
        await unmarked.deliver(manyPoints(3));
        expect((await sinkError(unmarked.sink.drop!(NEVER))).message).toContain('has no mark of a trial');
        expect(unmarked.differences(await unmarked.read(EVERYTHING), manyPoints(3))).toEqual([]);
      }
      // `trial clean` finds it from the live settings, and leaves what has no mark.
      expect(await live.sink.trials!(NEVER)).toContain(name);
      await trial.sink.drop(NEVER);
      expect(await live.sink.trials!(NEVER)).not.toContain(name);
      expect(live.differences(await live.read(EVERYTHING), manyPoints(4))).toEqual([]);
      // It is gone: the name is free again.
      await again.sink.claim!(NEVER);
      expect(await again.read(EVERYTHING)).toEqual([]);
      await again.sink.drop!(NEVER);
    });

    /** A store whose sink does not create what a trial needs has nothing without a mark. */
    async function opens(subject: Subject): Promise<boolean> {
      return await subject.open().then(
        () => true,
        () => false,
      );
    }

    it('says what it is', async (context) => {
      if (!bench.isTried()) return context.skip();
      const { trial } = await tried();
      if (trial.sink.version === undefined) return context.skip();
      const version = await trial.sink.version(NEVER);
      if (version !== undefined) expect(version).toMatch(/^\S.* v?\d+\.\d/);
    });

    it('answers the questions of a trial', async (context) => {
      const subject = await bench.subject();
      await subject.open();
      if (subject.sink.query === undefined) return context.skip();
      await subject.deliver(points);
      await subject.visible();
      const ask = async (query: Query) => sorted(await subject.sink.query!(query, NEVER));
      for (const more of [
        {},
        { range: { from: START + 3 * WINDOW_MS, to: START + 4 * WINDOW_MS } },
        { by: ['app'] },
        { by: ['host', 'app'] },
        { by: ['app'], where: [['host', 'h2']] as const },
        {
          where: [
            ['app', 'app-2'],
            ['host', 'h2'],
          ] as const,
        },
        { where: [['app', '']] as const, by: ['host'] },
        { by: ['app'], stepMs: STEP_MS },
        { by: ['absent'] },
      ]) {
        const query = sums(points, more);
        const rows = sorted(summed(points, query));
        expect(rows.length, JSON.stringify(more)).toBeGreaterThan(0);
        expect(await ask(query), JSON.stringify(more)).toEqual(rows);
      }
      const top = sums(points, { by: ['host'], top: 2 });
      const largest = summed(points, top).sort((a, b) => b.value - a.value);
      expect(await ask(top)).toEqual(sorted(largest.slice(0, 2)));
      const { series } = points[1]!;
      const own = points.filter((point) => point.series.id === series.id && point.windowStart < RANGE.to);
      expect(await ask({ kind: 'windows', series, range: RANGE })).toEqual(
        sorted(own.map(({ windowStart, sum }) => ({ key: [String(windowStart)], value: sum }))),
      );
      const timers = [...new Map(points.map((point) => [point.series.id, point.series])).values()].filter(
        ({ type }) => type === 'timer',
      );
      expect(await ask({ kind: 'highest_p99', name: 'took', series: timers, range: RANGE })).toEqual([
        { key: [], value: 6 },
      ]);
      const live = { kind: 'live_series', range: RANGE } as const;
      const count = new Set(
        points.filter(({ windowStart }) => windowStart < RANGE.to).map((point) => point.series.id),
      ).size;
      const counted = await ask(live).catch((error: Error) => error.message);
      if (counted !== 'this asks for all series, which takes a read of the whole table')
        expect(counted).toEqual([{ key: [], value: count }]);
    });

    it('answers with no rows about what it does not have, and of any dimension', async (context) => {
      const subject = await bench.subject();
      await subject.open();
      if (subject.sink.query === undefined) return context.skip();
      // No trial asks about others, nor about what PromQL takes for numbers.
      const texts = HOSTILE_TEXTS.filter(
        (text) => text.isWellFormed() && !text.includes('\0') && !/^(nan|inf)$/i.test(text),
      );
      const hostile = texts.map((text, index) =>
        makePoint({ name: NAME, dimensions: [[text, `${text}!`]], values: { sum: index + 1 } }),
      );
      await subject.deliver(hostile);
      await subject.visible();
      for (const text of texts) {
        const query = sums(hostile, { by: [text], where: [[text, `${text}!`]] });
        expect(sorted(await subject.sink.query(query, NEVER)), JSON.stringify(text)).toEqual(
          sorted(summed(hostile, query)),
        );
      }
      const nothing = { from: START - 10 * WINDOW_MS, to: START };
      for (const query of [
        sums(hostile, { range: nothing }),
        sums(hostile, { range: nothing, by: ['app'] }),
        { kind: 'windows', series: hostile[0]!.series, range: nothing },
        { kind: 'highest_p99', name: 'took', series: [], range: nothing },
      ] satisfies Query[])
        expect(await subject.sink.query(query, NEVER), query.kind).toEqual([]);
    });
  });
}
