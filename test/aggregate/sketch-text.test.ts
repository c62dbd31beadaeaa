import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { Sketches } from '../../src/aggregate/sketch.ts';
import { readSketchText, sketchText } from '../../src/aggregate/sketch-text.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';
import { closedWindow, type Decoded } from './closed-window.ts';
import { exactBucket } from './exact-bucket.ts';

const SHAPE = { windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 1000 };
const TILING = Tiling.of({ ...SHAPE, sketchScale: SKETCH_SCALE });

function textOf(values: readonly (readonly [value: number, weight: number])[]): string {
  const sketches = new Sketches(SKETCH_SCALE);
  sketches.begin();
  for (const [value, weight] of values) sketches.add(0, value, weight, { grow: () => true });
  return sketchText(sketches, 0);
}

describe('a sketch as text', () => {
  test('is what docs/stores.md says', () => {
    expect(
      textOf([
        [1000, 1],
        [1000, 2],
        [1023, 1],
        [0, 2],
        [-1.5, 1],
      ]),
    ).toBe('{"scale":6,"zero":2,"positive":[[637,3],[639,1]],"negative":[[37,1]]}');
    expect(textOf([[1, 0.5]])).toBe('{"scale":6,"positive":[[-1,0.5]]}');
    expect(
      textOf([
        [1e-30, 1],
        [1e30, 1],
      ]),
    ).toMatch(/^\{"scale":3,/);
  });

  test('has all that the sketch has', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { maxLength: 50 }), (values) => {
        const { scale, zero, positive, negative } = readSketchText(textOf(values.map((value) => [value, 1])));
        const expected = new Map<string, number>();
        const add = (key: string, count = 1) => expected.set(key, (expected.get(key) ?? 0) + count);
        for (const value of values) {
          if (Math.abs(value) <= 2 ** -128) add('0');
          else add(`${Math.sign(value)} ${exactBucket(Math.abs(value)) >> (SKETCH_SCALE - scale)}`);
        }
        const found = [
          ...(zero > 0 ? [['0', zero]] : []),
          ...positive.map(([bucket, count]) => [`1 ${bucket}`, count]),
          ...negative.map(([bucket, count]) => [`-1 ${bucket}`, count]),
        ];
        expect(new Map(found as [string, number][])).toEqual(expected);
      }),
    );
  });

  test('is never longer than the longest text of Redshift, and loses no count then', () => {
    const values = Array.from({ length: 4000 }, (_, i) => {
      const value = (i % 2 === 0 ? 1 : -1) * 2 ** ((i >> 1) / 64 + 0.001);
      return [value, 1 / 3] as const;
    });
    const text = textOf(values);
    expect(text.length).toBeLessThanOrEqual(60_000);
    const { scale, positive, negative } = readSketchText(text);
    expect(scale).toBe(5);
    const count = [...positive, ...negative].reduce((sum, [, each]) => sum + each, 0);
    expect(count).toBeCloseTo(4000 / 3, 6);
  });
});

describe('points', () => {
  const samples: Decoded[] = [
    ...[3, 5, 5].map((value) => ({ name: 't', type: 'timer' as const, value })),
    { name: 'c', type: 'counter', value: 1 },
    { name: 'u', type: 'timer', value: 7 },
  ];

  test('of timers have their sketches, also in another thread, and others have none', () => {
    const window = closedWindow(samples, TILING, { hasSketches: true });
    const { start, windowMs, instance, refs, rows, values, records } = window;
    const sketches = structuredClone(window.sketches!);
    const other = new ClosedWindow({ start, windowMs, instance, refs, rows, values, records, sketches });
    for (const each of [window, other]) {
      const points = [0, 1, 2].map((index) => each.point(index));
      expect(points.map(({ sketch }) => sketch)).toEqual([
        textOf([
          [3, 1],
          [5, 2],
        ]),
        null,
        textOf([[7, 1]]),
      ]);
      points.forEach(({ sketch }, i) => {
        expect(each.sketchSizeOf(i)).toBeGreaterThanOrEqual(sketch?.length ?? 0);
        expect(each.sketchSizeOf(i) > 0).toBe(sketch !== null);
      });
      expect(each.sketchBytes).toBeGreaterThan(500);
    }
    expect(window.takeSketches()).toBeUndefined();
  });

  test('have none if nobody wants them, or in windows of an earlier version', () => {
    for (const window of [
      closedWindow(samples, TILING),
      closedWindow(samples, Tiling.of(SHAPE), { hasSketches: true }),
    ]) {
      expect(window.point(0)).not.toHaveProperty('sketch');
      expect(window.sketchBytes + window.sketchSizeOf(0)).toBe(0);
    }
  });
});
