/** What becomes of a sink if its checkpoints are removed or moved. */
import { describe, expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { UnreadableCheckpoint } from '../../src/bus/bus-error.ts';
import type { KeptCheckpoint } from '../../src/bus/kv/checkpoint-keys.ts';
import type { Checkpoint } from '../../src/bus/kv/checkpoints.ts';
import type { Held } from '../../src/bus/read/parting.ts';
import {
  type ChangeFrame,
  type CheckpointChange,
  planReset,
  planSet,
  windowToSet,
} from '../../src/deliver/checkpoint-change.ts';
import { resume } from '../../src/deliver/rollback.ts';

const SHAPE = { windowMs: 1000, latenessMs: 500, maxAheadMs: 300, maxSeries: 1000 };
const TILING = Tiling.of(SHAPE);
const CREATED = 'once';
const FRAME: ChangeFrame = {
  tiling: TILING,
  extent: { firstTime: 5_000, truncated: false },
  now: 100_400,
  slices: 1,
  start: { kind: 'earliest' },
};
const ENDS = { before: 39, last: 99 };
const MARKS = [10, 20, 30, 40, 50].map((sequence) => [sequence, 1000 * sequence] as const);

function kept(next: number, more: Partial<Checkpoint> = {}, slice = '0/1', sink = 'a'): KeptCheckpoint {
  const checkpoint: Checkpoint = {
    next,
    began: 8_000,
    sequence: next / 1000,
    trail: { created: CREATED, marks: MARKS },
    store: 'the store',
    shape: { ...SHAPE, slice },
    savedAt: '2026-11-23T01:30:00.000Z',
    ...more,
  };
  return { key: keyOf(slice, sink), sink, slice, revision: 7, content: { checkpoint } };
}

function spoiled(slice = '0/1', sink = 'a'): KeptCheckpoint {
  const unreadable = new UnreadableCheckpoint('not valid', 'Remove it.');
  return { key: keyOf(slice, sink), sink, slice, revision: 7, content: { unreadable } };
}

const keyOf = (slice: string, sink: string) => `p.${sink}.${slice.replace('/', '-')}`;
const ALL = { sink: 'a', slice: undefined };
const keys = ({ edits }: CheckpointChange) => edits.map((edit) => edit.kept.key);

describe('which names a sink got', () => {
  const choices = [
    { from: 8_000, names: ['a'] },
    { from: 40_000, names: ['b'] },
  ];
  const moved = (target: number) =>
    planSet([kept(60_000, { choices })], ALL, target, ENDS, FRAME).edits[0]!.checkpoint!.choices;

  test('is forgotten for windows that are written again, and no others', () => {
    expect(moved(30_000)).toEqual(choices.slice(0, 1));
    expect(moved(40_000)).toEqual(choices.slice(0, 1));
    expect(moved(50_000)).toEqual(choices);
    expect(moved(70_000)).toEqual(choices);
    expect(moved(8_000)).toBeUndefined();
  });

  test('is unknown before the window to which it is moved, if it was before', () => {
    const later = kept(60_000, { began: 1_000, choices: choices.slice(1) });
    const { checkpoint } = planSet([later], ALL, 30_000, ENDS, FRAME).edits[0]!;
    expect(checkpoint!.choices).toEqual([{ from: 30_000, names: ['b'] }]);
  });
});

describe('a reset', () => {
  test('removes the checkpoints of all slices of that sink, also of slicings that are no longer in use', () => {
    const all = [kept(60_000), kept(50_000, {}, '0/2'), kept(50_000, {}, '1/2'), kept(1_000, {}, '0/1', 'b')];
    const change = planReset(all, ALL, { ...FRAME, slices: 2 });
    expect(keys(change)).toEqual(['p.a.0-1', 'p.a.0-2', 'p.a.1-2']);
    expect(change.edits.every(({ checkpoint }) => checkpoint === undefined)).toBe(true);
    expect(change.effects.map(({ slice, after }) => [slice, after.by])).toEqual([
      ['0/2', 'start'],
      ['1/2', 'start'],
    ]);
  });

  test('from the earliest window on, it is written again; before that, the store keeps what it has', () => {
    const extent = { firstTime: 20_300, truncated: true };
    const { effects } = planReset([kept(60_000)], ALL, { ...FRAME, extent });
    expect(effects).toEqual([
      {
        slice: '0/1',
        before: { by: 'checkpoint', next: 60_000, began: 8_000 },
        after: { by: 'start', next: 21_000 },
        again: { from: 21_000, to: 60_000 },
        skipped: undefined,
        kept: { from: 8_000, to: 21_000 },
      },
    ]);
  });

  test('with START=now, the windows until now are skipped', () => {
    const [effect] = planReset([kept(60_000)], ALL, { ...FRAME, start: { kind: 'now' } }).effects;
    expect(effect).toMatchObject({ again: undefined, skipped: { from: 60_000, to: 100_000 } });
  });

  test('of a sink that is not enabled, nobody knows where it begins', () => {
    const [effect] = planReset([kept(60_000)], ALL, { ...FRAME, start: undefined }).effects;
    expect(effect).toMatchObject({ after: { by: 'start', next: undefined }, again: undefined });
  });

  test('of one slice: the others stay, and a complete slicing from before decides where it goes on', () => {
    const all = [kept(30_000), kept(50_000, {}, '0/2'), kept(60_000, {}, '1/2')];
    const change = planReset(all, { sink: 'a', slice: '1/2' }, { ...FRAME, slices: 2 });
    expect(keys(change)).toEqual(['p.a.1-2']);
    expect(change.effects.map(({ after, again }) => [after, again])).toEqual([
      [{ by: 'checkpoint', next: 50_000, began: 8_000 }, undefined],
      [
        { by: 'checkpoint', next: 30_000, began: 8_000 },
        { from: 30_000, to: 60_000 },
      ],
    ]);
  });

  test('takes a checkpoint that cannot be read; another one that cannot keeps the sink stopped', () => {
    const frame = { ...FRAME, slices: 2 };
    const places = (slice: string | undefined) =>
      planReset([spoiled('0/2'), spoiled('1/2')], { sink: 'a', slice }, frame).effects.map(
        ({ before, after }) => [before.by, after.by],
      );
    expect(places(undefined)).toEqual([
      ['stopped', 'start'],
      ['stopped', 'start'],
    ]);
    expect(places('0/2')).toEqual([
      ['stopped', 'stopped'],
      ['stopped', 'stopped'],
    ]);
  });

  test('of a sink without a checkpoint is an error that names those that have one', () => {
    expect(() => planReset([kept(1_000, {}, '0/1', 'b')], ALL, FRAME)).toThrow(
      'the sink a has no checkpoint',
    );
    expect(() => planReset([kept(1_000)], { sink: 'a', slice: '1/2' }, FRAME)).toThrow('of the slice 1/2');
  });
});

describe('the window to set', () => {
  const extent = { firstTime: 20_300, truncated: true };

  test('is the one that holds the time', () => {
    expect(windowToSet(40_999, FRAME)).toBe(40_000);
    expect(windowToSet(100_400, FRAME)).toBe(100_000);
  });

  test('is one that the stream holds whole, and that has begun', () => {
    expect(windowToSet(21_000, { ...FRAME, extent })).toBe(21_000);
    expect(() => windowToSet(20_999, { ...FRAME, extent })).toThrow('no longer holds the window');
    expect(() => windowToSet(3_999, FRAME)).toThrow('no longer holds the window');
    expect(() => windowToSet(101_000, FRAME)).toThrow('has not begun yet');
  });
});

describe('a move', () => {
  test('back: it is written again from there, with what comes after it as news', () => {
    const { edits, effects } = planSet([kept(60_000)], ALL, 40_000, ENDS, FRAME);
    const { checkpoint } = kept(60_000).content;
    const savedAt = new Date(FRAME.now).toISOString();
    expect(edits.map((edit) => edit.checkpoint)).toEqual([
      { ...checkpoint, next: 40_000, sequence: 39, savedAt },
    ]);
    expect(effects[0]).toMatchObject({
      after: { by: 'checkpoint', next: 40_000 },
      again: { from: 40_000, to: 60_000 },
      skipped: undefined,
      kept: { from: 8_000, to: 40_000 },
    });
  });

  test('before where the sink began: it begins there', () => {
    const { edits } = planSet([kept(60_000)], ALL, 6_000, ENDS, FRAME);
    expect(edits[0]!.checkpoint).toMatchObject({ next: 6_000, began: 6_000 });
    const unknown = planSet([kept(60_000, { began: undefined })], ALL, 6_000, ENDS, FRAME);
    expect(unknown.edits[0]!.checkpoint!.began).toBeUndefined();
  });

  test('ahead: the windows between are skipped, and nothing in the stream reopens them', () => {
    const { edits, effects } = planSet([kept(60_000)], ALL, 90_000, { before: 88, last: 99 }, FRAME);
    expect(edits[0]!.checkpoint).toMatchObject({ next: 90_000, began: 8_000, sequence: 99 });
    expect(effects[0]).toMatchObject({ again: undefined, skipped: { from: 60_000, to: 90_000 } });
  });

  test('to where it is: nothing', () => {
    expect(planSet([kept(60_000)], ALL, 60_000, ENDS, FRAME).edits).toEqual([]);
  });

  test('takes the checkpoints of all slicings, or an old one would say that more is written', () => {
    const all = [kept(60_000), kept(70_000, {}, '0/2'), kept(80_000, {}, '1/2')];
    const frame = { ...FRAME, slices: 2 };
    const change = planSet(all, ALL, 40_000, ENDS, frame);
    expect(keys(change)).toEqual(['p.a.0-1', 'p.a.0-2', 'p.a.1-2']);
    expect(change.effects.map(({ after }) => after)).toMatchObject([{ next: 40_000 }, { next: 40_000 }]);
    expect(() => planSet(all, { sink: 'a', slice: '0/2' }, 40_000, ENDS, frame)).toThrow(
      'another number of slices',
    );
  });

  test('has the shape of the window that is next', () => {
    const tiling = new Tiling([
      { from: Number.NEGATIVE_INFINITY, ...SHAPE },
      { from: 50_000, ...SHAPE, windowMs: 2000 },
    ]);
    const { edits } = planSet([kept(60_000)], ALL, 40_000, ENDS, { ...FRAME, tiling });
    expect(edits[0]!.checkpoint!.shape).toEqual({ ...SHAPE, slice: '0/1' });
    const ahead = planSet([kept(40_000)], ALL, 60_000, ENDS, { ...FRAME, tiling });
    expect(ahead.edits[0]!.checkpoint!.shape).toMatchObject({ windowMs: 2000 });
  });

  test('is refused if a checkpoint cannot be read, or the stream never had a message', () => {
    expect(() => planSet([spoiled()], ALL, 40_000, ENDS, FRAME)).toThrow('cannot be read');
    expect(() => planSet([kept(60_000)], ALL, 40_000, { before: 0, last: 0 }, FRAME)).toThrow(
      'has not had a message',
    );
  });
});

describe('an instance changes the checkpoint of its own slice, while the others go on', () => {
  const frame = { ...FRAME, slices: 2 };
  const own = { sink: 'a', slice: '0/2', withOthers: true };
  const both = [kept(60_000, {}, '0/2'), kept(62_000, {}, '1/2')];
  const placeOf = ({ effects }: CheckpointChange) => effects.map(({ after }) => after);

  test('those of another number of slices go back with it, if they would keep it ahead, and never forward', () => {
    const stored = [...both, kept(50_000), kept(30_000, {}, '2/3'), kept(30_000, {}, '0/2', 'b')];
    expect(keys(planSet(stored, own, 40_000, ENDS, frame))).toEqual([keyOf('0/2', 'a'), keyOf('0/1', 'a')]);
    expect(placeOf(planSet(stored, own, 40_000, ENDS, frame))).toMatchObject([
      { next: 40_000 },
      { next: 62_000 },
    ]);
    expect(keys(planSet(stored, own, 70_000, ENDS, frame))).toEqual([keyOf('0/2', 'a')]);
  });

  test('a reset takes them as well, or one of them would decide where it begins', () => {
    const change = planReset([...both, kept(50_000), spoiled('1/3')], own, frame);
    expect(keys(change)).toEqual([keyOf('0/2', 'a'), keyOf('0/1', 'a'), keyOf('1/3', 'a')]);
    expect(placeOf(change)).toMatchObject([{ by: 'start', next: 4_000 }, { next: 62_000 }]);
  });

  test('without a checkpoint of its own, there is nothing to reset, and a move is refused', () => {
    expect(planReset([both[1]!], own, frame).edits).toEqual([]);
    expect(() => planSet([both[1]!], own, 40_000, ENDS, frame)).toThrow('has no checkpoint of the slice 0/2');
  });
});

describe('where the service resumes after a move back: marks of the trail are later than the sequence', () => {
  const resumed = (heldOf: (sequence: number) => Held) => {
    const [edit] = planSet([kept(60_000)], ALL, 40_000, ENDS, FRAME).edits;
    const held = new Map(MARKS.map(([sequence, time]) => [`${sequence} ${time}`, heldOf(sequence)] as const));
    const stream = { ...FRAME.extent, created: CREATED, firstSequence: 1, held };
    const stored = [{ slice: '0/1', checkpoint: edit!.checkpoint! }];
    return resume(stored, { index: 0, of: 1 }, { marks: [] }, stream, FRAME);
  };

  test('the stream is as it was: there', () => {
    expect(resumed(() => 'same')).toMatchObject({
      position: { next: 40_000, sequence: 39, began: 8_000, store: 'the store' },
      rollback: undefined,
      lost: undefined,
    });
  });

  test('it was rolled back just after the target: where the last common message reaches, and no later news is missed', () => {
    const { position } = resumed((sequence) => (sequence > 40 ? 'other' : 'same'));
    expect(position).toMatchObject({ next: 39_000, sequence: 39 });
  });

  test('it was rolled back before the target: from there on', () => {
    const { position, rollback } = resumed((sequence) => (sequence > 20 ? 'other' : 'same'));
    expect(position).toMatchObject({ next: 19_000, sequence: 20 });
    expect(rollback).toMatchObject({ after: 20, through: 50 });
  });
});
