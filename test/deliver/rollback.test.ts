/** Where the histories of a stream part, and where sinks resume. */
import { describe, expect, test } from 'vitest';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { Held } from '../../src/bus/read/parting.ts';
import { keyOfMark, type Mark } from '../../src/bus/read/trail.ts';
import { marksHeld, partingOf, resume, rollbackOf } from '../../src/deliver/rollback.ts';

const SHAPE = { windowMs: 1000, latenessMs: 500, maxAheadMs: 300, maxSeries: 1000 };
const TILING = Tiling.of(SHAPE);
const CREATED = 'once';
const FRAME = { tiling: TILING, now: 100_000 };

type Case = readonly [sequence: number, time: number, held: Held, least?: number];

function marksAndHeld(cases: readonly Case[]) {
  const marks = cases.map(([sequence, time, , least]): Mark => ({ sequence, time, least }));
  return { marks, held: new Map(cases.map(([, , held], i) => [keyOfMark(marks[i]!), held])) };
}

function stored(cases: readonly Case[], next: number, sequence: number, began?: number, slice = '0/1') {
  const marks = cases.map(([mark, time, , least]) =>
    least === undefined ? ([mark, time] as const) : ([mark, time, least] as const),
  );
  return { slice, checkpoint: { next, sequence, began, trail: { created: CREATED, marks } } };
}

const streamWith = (cases: readonly Case[], firstSequence = 1, firstTime = 1000) => ({
  created: CREATED,
  firstSequence,
  firstTime,
  truncated: firstSequence > 1,
  held: marksAndHeld(cases).held,
});

const OWN = { index: 0, of: 1 };
/** This process has read nothing yet. */
const NOTHING = { marks: [] };
const INTACT: Case[] = [
  [10, 10_000, 'same'],
  [20, 20_000, 'same'],
];
const PARTED: Case[] = [...INTACT, [30, 30_000, 'other'], [40, 40_000, 'other']];

describe('where the histories part', () => {
  test('nowhere, if the stream still holds all of the messages or none of them', () => {
    for (const cases of [
      [],
      INTACT,
      [
        [1, 1, 'gone'],
        [2, 2, 'gone'],
      ] as Case[],
    ]) {
      const { marks, held } = marksAndHeld(cases);
      expect(partingOf(marks, held)).toBeUndefined();
      expect(rollbackOf({ marks }, held, TILING)).toBeUndefined();
    }
  });

  test('after the last message that is in both histories', () => {
    const { marks, held } = marksAndHeld(PARTED);
    expect(partingOf(marks, held)).toMatchObject({ after: { sequence: 20 }, least: 20_000 });
    expect(rollbackOf({ marks }, held, TILING)).toEqual({ after: 20, through: 40, from: 19_000, to: 41_000 });
    expect(marksHeld(marks, held).map(({ sequence }) => sequence)).toEqual([10, 20]);
  });

  test('a consumer that survived reads the new history from some sequence on', () => {
    const { marks, held } = marksAndHeld([...PARTED, [50, 50_000, 'same']]);
    expect(partingOf(marks, held)).toMatchObject({ after: { sequence: 20 }, through: { sequence: 40 } });
    expect(marksHeld(marks, held).map(({ sequence }) => sequence)).toEqual([10, 20, 50]);
  });

  test('removed messages prove nothing; the last of them is the parting only if there is nothing better', () => {
    const deleted = marksAndHeld([
      [10, 10_000, 'same'],
      [20, 20_000, 'gone'],
      [30, 30_000, 'other'],
    ]);
    expect(partingOf(deleted.marks, deleted.held)?.after?.sequence).toBe(10);
    const removed = marksAndHeld([
      [10, 10_000, 'gone'],
      [20, 20_000, 'gone'],
      [30, 30_000, 'other'],
    ]);
    expect(partingOf(removed.marks, removed.held)?.after?.sequence).toBe(20);
  });

  test('the earliest time after the parting counts, even if the clock was set back', () => {
    const { marks, held } = marksAndHeld([...INTACT, [30, 30_000, 'other', 12_345]]);
    expect(partingOf(marks, held)?.least).toBe(12_345);
  });
});

describe('windows that a stream which is gone may have held more of', () => {
  const orphanedBy = (created: string, checkpoints = [stored(INTACT, 20_000, 20)]) =>
    resume(checkpoints, OWN, NOTHING, { ...streamWith(INTACT), created }, FRAME).orphaned;

  test('none, if the checkpoint is of this stream, or knows of none', () => {
    expect(orphanedBy(CREATED)).toBeUndefined();
    const { slice, checkpoint } = stored(INTACT, 20_000, 20);
    const { trail: _, ...old } = checkpoint;
    expect(
      resume([{ slice, checkpoint: old }], OWN, NOTHING, streamWith(INTACT), FRAME).orphaned,
    ).toBeUndefined();
  });

  test('from the checkpoint to where this stream begins', () => {
    const created = new Date(35_250).toISOString();
    expect(orphanedBy(created)).toEqual({ from: 20_000, to: 36_000 });
    // A slicing that is no longer in use has checkpoints of a stream from long ago.
    const old = stored(INTACT, 5_000, 5, undefined, '0/2');
    const current = stored(INTACT, 20_000, 20);
    const trail = { ...current.checkpoint.trail, created };
    expect(
      orphanedBy(created, [old, { ...current, checkpoint: { ...current.checkpoint, trail } }]),
    ).toBeUndefined();
  });

  test('up to now, if this stream is older than that', () => {
    expect(orphanedBy(new Date(5_000).toISOString())).toEqual({ from: 20_000, to: 101_000 });
  });
});

describe('where a sink resumes', () => {
  const resumed = (stream: ReturnType<typeof streamWith>, checkpoints: Parameters<typeof resume>[0]) =>
    resume(checkpoints, OWN, NOTHING, stream, FRAME);

  test('at its checkpoint, if nothing that it has was taken back', () => {
    const intact = stored(INTACT, 20_000, 20);
    expect(resumed(streamWith(INTACT), [intact])).toMatchObject({
      position: { next: 20_000, sequence: 20 },
      rollback: undefined,
      lost: undefined,
    });
    // The sink had not confirmed anything after the parting.
    const early = stored(PARTED, 19_000, 20);
    expect(resumed(streamWith(PARTED), [early])).toMatchObject({ position: { next: 19_000, sequence: 20 } });
  });

  test('at the first window that was touched, and everything after the parting is new', () => {
    expect(resumed(streamWith(PARTED), [stored(PARTED, 40_000, 40)])).toMatchObject({
      position: { next: 19_000, sequence: 20 },
      rollback: { after: 20, through: 40, from: 19_000, to: 41_000 },
      lost: undefined,
    });
  });

  test('not before its own beginning', () => {
    const { position, rollback } = resumed(streamWith(PARTED), [stored(PARTED, 40_000, 40, 25_000)]);
    expect(position).toMatchObject({ next: 25_000, sequence: 0 });
    expect(rollback).toMatchObject({ from: 25_000 });
  });

  test('at its beginning, if nothing that was read is left', () => {
    const cases = PARTED.map(([sequence, time]): Case => [sequence, time, 'other']);
    expect(resumed(streamWith(cases), [stored(cases, 40_000, 40, 5_000)])).toMatchObject({
      position: { next: 5_000, sequence: 0 },
      rollback: { after: 0 },
    });
  });

  test('at its beginning, if nothing had been read: no mark shows if the windows since then are still empty', () => {
    const idle = stored(INTACT, 20_000, 0, 5_000);
    const expected = { position: { next: 5_000, sequence: 0 }, rollback: undefined, lost: undefined };
    expect(resumed(streamWith(INTACT), [idle])).toMatchObject(expected);
    // But not before the first window that the stream still holds in full.
    expect(resumed(streamWith(INTACT, 9, 9_100), [idle])).toMatchObject({ position: { next: 10_000 } });
  });

  test('at the first window that the stream still holds in full; earlier ones stay unchanged, which is a gap', () => {
    const cases: Case[] = [
      [10, 10_000, 'gone'],
      [20, 20_000, 'gone'],
      [30, 30_000, 'other'],
      [40, 40_000, 'other'],
    ];
    expect(resumed(streamWith(cases, 25, 25_100), [stored(cases, 40_000, 40)])).toMatchObject({
      position: { next: 26_000, sequence: 24 },
      lost: { from: 19_000, to: 26_000 },
    });
  });

  test('with the trail of this process too, as the bucket may have been rolled back with the stream', () => {
    const { marks, held } = marksAndHeld(PARTED);
    const old = stored(INTACT, 20_000, 20);
    const stream = { ...streamWith(PARTED), held };
    expect(resume([old], OWN, { marks }, stream, FRAME)).toMatchObject({
      position: { next: 19_000, sequence: 20 },
    });
  });

  test('without regard to messages that were read after the rollback', () => {
    const old: Case[] = [
      [10, 10_000, 'same'],
      [30, 30_000, 'other'],
    ];
    const read = marksAndHeld([
      [10, 10_000, 'same'],
      [25, 50_000, 'same'],
    ]);
    const held = new Map([...streamWith(old).held, ...read.held]);
    const resumption = resume([stored(old, 30_000, 30)], OWN, read, { ...streamWith(old), held }, FRAME);
    expect(resumption).toMatchObject({ position: { next: 9_000, sequence: 10 }, rollback: { after: 10 } });
  });

  test('before what it misread, though the stream still holds it all', () => {
    const one = { ...stored(INTACT, 22_000, 20), misreadAfter: 10 };
    const another = stored(INTACT, 22_000, 20, undefined, '1/2');
    expect(resume([one, another], OWN, NOTHING, streamWith(INTACT), FRAME)).toMatchObject({
      position: { next: 9_000, sequence: 10 },
      rollback: { after: 10, through: 20 },
    });
    // Another slice knew better, or has nothing to do with ours any more.
    const ofOther = resume(
      [stored(INTACT, 22_000, 20), { ...another, misreadAfter: 10 }],
      OWN,
      NOTHING,
      streamWith(INTACT),
      FRAME,
    );
    expect(ofOther).toMatchObject({ position: { next: 22_000 }, rollback: undefined });
  });

  test('without the trail, if the stream was deleted and created again', () => {
    const another = { ...streamWith(PARTED), created: 'again' };
    expect(resumed(another, [stored(PARTED, 40_000, 40)])).toMatchObject({
      position: { next: 40_000, sequence: 40 },
      rollback: undefined,
    });
  });

  test('after a change of slices, where the slice that is furthest back says', () => {
    const slices = [
      stored(PARTED, 40_000, 40, undefined, '0/2'),
      stored(INTACT, 22_000, 20, undefined, '1/2'),
    ];
    expect(resumed(streamWith(PARTED), slices)).toMatchObject({
      position: { next: 19_000 },
      rollback: { after: 20 },
    });
    // The old slices keep their checkpoints for good, even when the new slice is far past them.
    const own = stored([...INTACT, [60, 60_000, 'same']], 60_000, 60);
    const stream = streamWith([...PARTED, [60, 60_000, 'same']]);
    expect(resumed(stream, [...slices, own])).toMatchObject({
      position: { next: 60_000 },
      rollback: undefined,
    });
  });

  test('nowhere, if nothing is known', () => {
    expect(resumed(streamWith(PARTED), [])).toEqual({
      position: undefined,
      rollback: undefined,
      lost: undefined,
    });
  });
});
