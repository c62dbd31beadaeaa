import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import {
  firstWanted,
  firstWholeWindow,
  liveFrom,
  readFrom,
  resumeFrom,
  windowsTouched,
} from '../../src/deliver/start-points.ts';
import { expectedWindows } from '../aggregate/oracle.ts';

const SHAPE = { windowMs: 1000, latenessMs: 500, maxAheadMs: 300, maxSeries: 1000 };
const TILING = Tiling.of(SHAPE);
const NOW = 1_700_000_010_250;

describe('where a sink without a checkpoint begins', () => {
  test('earliest, empty stream: no message to come can reach back before it', () => {
    const from = firstWanted({ kind: 'earliest' }, { firstTime: undefined, truncated: false }, TILING, NOW);
    expect(from).toBeLessThanOrEqual(TILING.startOf(NOW - SHAPE.latenessMs));
    expect(from % SHAPE.windowMs).toBe(0);
  });

  test('earliest, stream with its first message: the window that this can reach back to', () => {
    const extent = { firstTime: 1_700_000_000_400, truncated: false };
    expect(firstWanted({ kind: 'earliest' }, extent, TILING, NOW)).toBe(1_699_999_999_000);
  });

  test('earliest, stream that has lost its beginning: only windows that it holds whole', () => {
    const extent = { firstTime: 1_700_000_000_699, truncated: true };
    expect(firstWanted({ kind: 'earliest' }, extent, TILING, NOW)).toBe(1_700_000_001_000);
    expect(firstWanted({ kind: 'earliest' }, { ...extent, firstTime: 1_700_000_000_700 }, TILING, NOW)).toBe(
      1_700_000_002_000,
    );
    expect(firstWanted({ kind: 'earliest' }, { firstTime: undefined, truncated: true }, TILING, NOW)).toBe(
      1_700_000_011_000,
    );
  });

  test('now: the window that is being filled, whole', () => {
    const extent = { firstTime: 1_700_000_000_000, truncated: true };
    expect(firstWanted({ kind: 'now' }, extent, TILING, NOW)).toBe(1_700_000_010_000);
  });

  test('a time: its window, but none that the stream does not hold whole', () => {
    const extent = { firstTime: 1_700_000_005_000, truncated: true };
    expect(firstWanted({ kind: 'at', ms: 1_700_000_007_999 }, extent, TILING, NOW)).toBe(1_700_000_007_000);
    expect(firstWanted({ kind: 'at', ms: 0 }, extent, TILING, NOW)).toBe(1_700_000_006_000);
  });
});

test('whole means: what the stream still holds gives the same windows as what it ever held', () => {
  const message = fc.record({
    gap: fc.integer({ min: 0, max: 400 }),
    offset: fc.integer({ min: -2500, max: 800 }),
  });
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 40 }), fc.nat(), (steps, at) => {
      let time = 1_700_000_000_000;
      const messages = steps.map(({ gap, offset }, i) => {
        time += gap;
        const timestamp = new Date(time + offset).toISOString();
        const payload = JSON.stringify({ name: `m${i % 3}`, type: 'counter', value: i, timestamp });
        return { payload: Buffer.from(payload), streamTime: time };
      });
      const removed = at % messages.length;
      const held = messages.slice(removed);
      const extent = { firstTime: held[0]!.streamTime, truncated: removed > 0 };
      const from = firstWholeWindow(extent, TILING, time);
      const settings = { ...SHAPE, from };
      expect(expectedWindows(held, settings)).toEqual(expectedWindows(messages, settings));
    }),
  );
});

test('I6: reading begins MAX_AHEAD before the window, where its earliest sample may be', () => {
  expect(readFrom(10_000, TILING)).toBe(9700);
});

test('the live path begins at the hindmost of the lanes that are near the foremost', () => {
  const at = (...froms: number[]) => froms.map((from) => ({ from, closedThrough: undefined }));
  expect(liveFrom(at(10_000, 9000, 4000, 3999), TILING, NOW)).toEqual({
    from: 4000,
    closedThrough: undefined,
  });
  expect(liveFrom(at(Number.NEGATIVE_INFINITY), TILING, NOW).from).toBe(Number.NEGATIVE_INFINITY);
  // One that begins in the future drags nobody along.
  expect(liveFrom(at(NOW + 1, 5000), TILING, NOW).from).toBe(5000);
  expect(liveFrom(at(NOW + 2, NOW + 1), TILING, NOW).from).toBe(NOW + 1);
  const [less, more] = [
    { from: 4000, closedThrough: 7 },
    { from: 4000, closedThrough: 9 },
  ];
  expect([liveFrom([less, more], TILING, NOW), liveFrom([more, less], TILING, NOW)]).toEqual([less, less]);
});

describe('where a sink goes on, from the checkpoints of its slices', () => {
  const at = (...entries: [slice: string, next: number][]) =>
    entries.map(([slice, next]) => ({ slice, checkpoint: { next, sequence: next + 1 } }));
  const own = { index: 0, of: 2 };

  test.each([
    ['its own', at(['0/2', 5000]), 5000],
    ['none at all', at(), undefined],
    [
      'another slicing: the lowest, for its windows are ours now',
      at(['0/3', 7000], ['1/3', 4000], ['2/3', 9000]),
      4000,
    ],
    ['another slicing went further than our old one', at(['0/2', 3000], ['0/1', 8000]), 8000],
    ['ours went further', at(['0/2', 9000], ['1/2', 2000], ['0/1', 8000]), 9000],
    [
      'a slicing that is not whole tells nothing of the missing slice',
      at(['0/3', 7000], ['2/3', 4000]),
      undefined,
    ],
    ['a neighbour that began before us: our own windows are not its', at(['1/2', 7000]), undefined],
    ['nor does it where a whole one is there', at(['0/3', 9000], ['0/1', 4000]), 4000],
  ])('%s', (_, stored, expected) => {
    expect(resumeFrom(stored, own)).toEqual(
      expected === undefined ? undefined : { next: expected, sequence: expected + 1 },
    );
  });
});

test('what is confirmed of all slices, and from where on the sink has everything', () => {
  const at = (slice: string, next: number, began?: number) => ({
    slice,
    checkpoint: { next, sequence: next, began },
  });
  expect(resumeFrom([at('0/2', 5000, 1000), at('1/2', 7000, 2000)], undefined)).toEqual({
    next: 5000,
    sequence: 5000,
    began: 2000,
  });
  // One slice has not confirmed anything yet; what was confirmed before there were two still is.
  expect(resumeFrom([at('0/2', 5000, 1000)], undefined)).toBeUndefined();
  expect(resumeFrom([at('0/1', 3000, 1000), at('0/2', 5000, 1000)], undefined)?.next).toBe(3000);
});

test('the windows that lost messages can have belonged to', () => {
  // LATENESS back from the first of them, MAX_AHEAD forth from the last.
  expect(windowsTouched(5400, 6600, TILING)).toEqual({ from: 4000, to: 7000 });
  expect(windowsTouched(5500, 6700, TILING)).toEqual({ from: 5000, to: 8000 });
});
