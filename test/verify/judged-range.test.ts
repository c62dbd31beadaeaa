import { expect, test } from 'vitest';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { coarseTiling } from '../../src/aggregate/coarse-tiling.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { judgedRange } from '../../src/verify/judged-range.ts';

const S = 1000;
const SHAPE = { windowMs: 10 * S, latenessMs: 0, maxAheadMs: 0, maxSeries: 100, sketchScale: SKETCH_SCALE };
const FINE = Tiling.of(SHAPE);
const LONG = coarseTiling(FINE, 120 * S);

/** The stream holds the windows of the pipeline from 160 s to 390 s. Those of the sink begin at 120, 240 and 360 s. */
const judged = (
  {
    asked,
    from = 160,
    to = 390,
    lost = 0,
    isTruncated = false,
    began,
    next = 360,
  }: Partial<{
    asked: number;
    from: number;
    to: number;
    lost: number;
    isTruncated: boolean;
    began: number;
    next: number;
  }>,
  windows = LONG,
) => {
  const ms = (seconds?: number) => (seconds === undefined ? undefined : seconds * S);
  const whole = { from: from * S, to: to * S, lost, isTruncated };
  return judgedRange({ asked: ms(asked), whole, windows, began: ms(began), next: ms(next) });
};
const range = (from: number, to: number) => ({ from: from * S, to: to * S });

test('the first longer window is judged if the stream has lost nothing, whatever start is asked for', () => {
  const all = { range: range(120, 360), lost: 0, unconfirmed: 0, without: undefined, cut: undefined };
  expect(judged({ began: 120 })).toEqual(all);
  for (const asked of [0, 50, 120]) expect(judged({ asked })).toEqual(all);
  expect(judged({ began: 240 }).range).toEqual(range(240, 360));
  expect(judged({ next: 120 })).toMatchObject({ range: range(120, 120), unconfirmed: 2 });
});

test('of a window of which only a part is asked for, nothing is judged, and that is told', () => {
  expect(judged({ asked: 170, from: 170 })).toMatchObject({ range: range(240, 360), cut: 120 * S });
  expect(judged({ asked: 130 })).toMatchObject({ range: range(240, 360), cut: 120 * S });
  const none = { range: range(240, 240), lost: 0, without: range(200, 230) };
  expect(judged({ asked: 200, from: 200, to: 230 })).toMatchObject(none);
  expect(judged({ to: 230 })).toMatchObject({ range: range(120, 120), without: range(120, 230) });
});

test('a window of which the stream no longer holds all is lost if it was asked for, and else not in the range', () => {
  expect(judged({ isTruncated: true, began: 0 })).toMatchObject({ range: range(240, 360), lost: 0 });
  expect(judged({ asked: 120, lost: 4 })).toMatchObject({ range: range(240, 360), lost: 1 });
  expect(judged({ asked: 0, lost: 16 })).toMatchObject({ range: range(240, 360), lost: 2 });
  expect(judged({ asked: 120, lost: 4, to: 240 })).toMatchObject({ lost: 1, without: undefined });
  expect(judged({ asked: 130, lost: 3 })).toMatchObject({ range: range(240, 360), lost: 0, cut: 120 * S });
});

test('of a sink with the windows of the pipeline, these are judged', () => {
  expect(judged({ asked: 0, lost: 16 }, FINE)).toMatchObject({ range: range(160, 360), lost: 16 });
  expect(judged({ began: 200 }, FINE)).toMatchObject({ range: range(200, 360), lost: 0, unconfirmed: 3 });
});
