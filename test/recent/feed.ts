/** Samples to recent windows, and the obvious answer to every question. */
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { matchesGlob } from '../../src/aggregate/glob.ts';
import type { MetricType } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { QUANTILES, Sketch } from '../../src/aggregate/sketch.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { systemClock } from '../../src/base/clock.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import type { RecentQuestion } from '../../src/recent/question.ts';
import { RecentQuestions } from '../../src/recent/recent-questions.ts';
import { RecentWindows } from '../../src/recent/recent-windows.ts';
import { decodeMessage } from '../decode/decoded.ts';

export const START = 1_795_000_000_000;
export const WINDOW_MS = 1000;
export const TILING = Tiling.of({
  windowMs: WINDOW_MS,
  latenessMs: 0,
  maxAheadMs: 1000,
  maxSeries: 1e6,
  sketchScale: SKETCH_SCALE,
});

export interface Sent {
  readonly window: number;
  readonly name: string;
  readonly type: MetricType;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Samples in, closed windows out, as on the live path. */
export class Feed {
  readonly #table: SeriesTable;
  readonly #decoder: JsonDecoder;
  readonly #aggregator: Aggregator;

  constructor(slice = { index: 0, of: 1 }, keep = 1000, tiling = TILING) {
    this.#table = new SeriesTable(keep);
    this.#decoder = new JsonDecoder(this.#table);
    this.#aggregator = new Aggregator(this.#table, {
      tiling,
      from: START,
      slice,
      keepsSketches: true,
    });
  }

  /** Takes the samples of a window, and closes it. */
  window(number: number, samples: readonly Sent[]): ClosedWindow[] {
    const time = START + number * WINDOW_MS;
    for (const { name, type, dimensions, value } of samples) {
      const message = Buffer.from(JSON.stringify({ name, type, dimensions, value }));
      decodeMessage(this.#decoder, message, {
        sample: (sample) => this.#aggregator.add(sample, time),
        rejected: (reason) => {
          throw new Error(reason);
        },
      });
    }
    return this.#aggregator.close(time + WINDOW_MS);
  }
}

export const boundaryAfter = (number: number) => START + (number + 1) * WINDOW_MS;

export function recentWindows(limitBytes = 64e6) {
  const clock = { ...systemClock, now: () => START };
  const windows = new RecentWindows({ limitBytes, clock });
  const questionsOf = (slice: string) => new RecentQuestions({ windows, clock, slice, parts: false });
  return { windows, questions: questionsOf('0/1'), questionsOf };
}

/** The groups of an answer as the samples give them, by a key of name, type and values. */
export function expectedGroups(sent: readonly Sent[], { name, where, by }: RecentQuestion) {
  const groups = new Map<string, { count: number; sum: number; min: number; max: number; sketch: Sketch }>();
  for (const sample of sent) {
    if (name !== undefined && !matchesGlob(name, sample.name)) continue;
    if (!where.every(({ key, glob }) => matchesGlob(glob, sample.dimensions[key] ?? ''))) continue;
    const key = JSON.stringify([sample.name, sample.type, by.map((each) => sample.dimensions[each] ?? '')]);
    const group = groups.get(key) ?? {
      count: 0,
      sum: 0,
      min: Number.POSITIVE_INFINITY,
      max: Number.NEGATIVE_INFINITY,
      sketch: new Sketch(),
    };
    group.count += 1;
    group.sum += sample.value;
    group.min = Math.min(group.min, sample.value);
    group.max = Math.max(group.max, sample.value);
    group.sketch.add(sample.value);
    groups.set(key, group);
  }
  return new Map(
    [...groups].map(([key, { count, sum, min, max, sketch }]) => {
      const type = JSON.parse(key)[1] as MetricType;
      const quantiles = sketch.quantiles(count, min, max, new Float64Array(QUANTILES.length), 0);
      const hasLimits = type !== 'counter';
      return [
        key,
        {
          count,
          sum,
          min: hasLimits ? min : null,
          max: hasLimits ? max : null,
          percentiles: type === 'timer' ? [...quantiles] : [null, null, null, null],
        },
      ];
    }),
  );
}

export const keyOfGroup = (
  { name, type, dimensions }: { name: string; type: string; dimensions: Readonly<Record<string, string>> },
  by: readonly string[],
) => JSON.stringify([name, type, by.map((key) => dimensions[key])]);
