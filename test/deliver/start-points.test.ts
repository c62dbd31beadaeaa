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
  test('earliest, empty stream: no future message can reach back before it', () => {
    const from = firstWanted({ kind: 'earliest' }, { firstTime: undefined, truncated: false }, TILING, NOW);
    expect(from).toBeLessThanOrEqual(TILING.startOf(NOW - SHAPE.latenessMs));
    expect(from % SHAPE.windowMs).toBe(0);
  });

  test('earliest, stream with its first message: the earliest window that this message can reach back to', () => {
    const extent = { firstTime: 1_700_000_000_400, truncated: false };
    expect(firstWanted({ kind: 'earliest' }, extent, TILING, NOW)).toBe(1_699_999_999_000);
  });

  test('earliest, stream that has lost its beginning: only windows that it holds in full', () => {
    const extent = { firstTime: 1_700_000_000_699, truncated: true };
    expect(firstWanted({ kind: 'earliest' }, extent, TILING, NOW)).toBe(1_700_000_001_000);
    expect(firstWanted({ kind: 'earliest' }, { ...extent, firstTime: 1_700_000_000_700 }, TILING, NOW)).toBe(
      1_700_000_002_000,
    );
    expect(firstWanted({ kind: 'earliest' }, { firstTime: undefined, truncated: true }, TILING, NOW)).toBe(
      1_700_000_011_000,
    );
  });

  test('now: the current window, in full', () => {
    const extent = { firstTime: 1_700_000_000_000, truncated: true };
    expect(firstWanted({ kind: 'now' }, extent, TILING, NOW)).toBe(1_700_000_010_000);
  });

  test('a time: its window, or the first one that the stream holds in full', () => {
    const extent = { firstTime: 1_700_000_005_000, truncated: true };
    expect(firstWanted({ kind: 'at', ms: 1_700_000_007_999 }, extent, TILING, NOW)).toBe(1_700_000_007_000);
    expect(firstWanted({ kind: 'at', ms: 0 }, extent, TILING, NOW)).toBe(1_700_000_006_000);
  });
});

test('in full means: the rest of the stream gives the same windows as the whole stream', () => {
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

test('the live path starts at the last of the lanes that are close to the first', () => {
  const at = (...froms: number[]) => froms.map((from) => ({ from, closedThrough: undefined }));
  expect(liveFrom(at(10_000, 9000, 4000, 3999), TILING, NOW)).toEqual({
    from: 4000,
    closedThrough: undefined,
  });
  expect(liveFrom(at(Number.NEGATIVE_INFINITY), TILING, NOW).from).toBe(Number.NEGATIVE_INFINITY);
  // A lane that starts in the future does not move the start of the others.
  expect(liveFrom(at(NOW + 1, 5000), TILING, NOW).from).toBe(5000);
  expect(liveFrom(at(NOW + 2, NOW + 1), TILING, NOW).from).toBe(NOW + 1);
  const [less, more] = [
    { from: 4000, closedThrough: 7 },
    { from: 4000, closedThrough: 9 },
  ];
  expect([liveFrom([less, more], TILING, NOW), liveFrom([more, less], TILING, NOW)]).toEqual([less, less]);
});

describe('where a sink resumes, by the checkpoints of its slices', () => {
  const at = (...entries: [slice: string, next: number][]) =>
    entries.map(([slice, next]) => ({ slice, checkpoint: { next, sequence: next + 1 } }));
  const own = { index: 0, of: 2 };

  test.each([
    ['its own', at(['0/2', 5000]), 5000],
    ['none at all', at(), undefined],
    [
      'another slicing: its lowest checkpoint, as its windows are ours now',
      at(['0/3', 7000], ['1/3', 4000], ['2/3', 9000]),
      4000,
    ],
    ['another slicing that got further than our old checkpoint', at(['0/2', 3000], ['0/1', 8000]), 8000],
    ['our own checkpoint, which is further', at(['0/2', 9000], ['1/2', 2000], ['0/1', 8000]), 9000],
    [
      'an incomplete slicing: says nothing about the missing slice',
      at(['0/3', 7000], ['2/3', 4000]),
      undefined,
    ],
    ['only a neighbour, which started before us: its windows are not ours', at(['1/2', 7000]), undefined],
    [
      'an incomplete slicing next to a complete one: only the complete one counts',
      at(['0/3', 9000], ['0/1', 4000]),
      4000,
    ],
  ])('%s', (_, stored, expected) => {
    expect(resumeFrom(stored, own)).toEqual(
      expected === undefined ? undefined : { next: expected, sequence: expected + 1 },
    );
  });
});

test('up to where all slices are confirmed, and from where on the sink has everything', () => {
  const at = (slice: string, next: number, began?: number) => ({
    slice,
    checkpoint: { next, sequence: next, began },
  });
  expect(resumeFrom([at('0/2', 5000, 1000), at('1/2', 7000, 2000)], undefined)).toEqual({
    next: 5000,
    sequence: 5000,
    began: 2000,
  });
  // One slice has not confirmed anything yet. What was confirmed before the split into two still counts.
  expect(resumeFrom([at('0/2', 5000, 1000)], undefined)).toBeUndefined();
  expect(resumeFrom([at('0/1', 3000, 1000), at('0/2', 5000, 1000)], undefined)?.next).toBe(3000);
});

test('the windows that lost messages may have belonged to', () => {
  // From LATENESS before the first of them to MAX_AHEAD after the last.
  expect(windowsTouched(5400, 6600, TILING)).toEqual({ from: 4000, to: 7000 });
  expect(windowsTouched(5500, 6700, TILING)).toEqual({ from: 5000, to: 8000 });
});
