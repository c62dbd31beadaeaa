/** How long a trial says that it will take. */
import { expect, test } from 'vitest';
import { type Planned, planText, timedStages } from '../../src/trial/plan.ts';
import type { Stage } from '../../src/trial/result.ts';

const LADDER = [1, 2, 4, 8];
const planned = (more: Partial<Planned> = {}): Planned => ({
  stores: [{ ladder: LADDER }, { ladder: [1] }],
  questions: 6,
  secondsEach: 5,
  points: 123_456,
  without: new Set<Stage>(),
  ...more,
});

test('the stages of a fixed length are added up: a ladder has at least two rungs, and stores are asked in turns', () => {
  expect(timedStages(planned())).toEqual([
    // Two to four rungs, one rung, and all at once.
    { name: 'ingest', atLeast: 5 * (2 + 1 + 1), atMost: 5 * (4 + 1 + 1) },
    { name: 'questions', atLeast: 5 * 6 * 3 * 2, atMost: 5 * 6 * 3 * 2 },
  ]);
  expect(timedStages(planned({ stores: [{ ladder: LADDER }], questions: 0 }))).toEqual([
    { name: 'ingest', atLeast: 10, atMost: 20 },
  ]);
  expect(timedStages(planned({ without: new Set<Stage>(['ingest', 'questions']) }))).toEqual([]);
});

test('it says what is known and what is not', () => {
  expect(planText(planned())).toMatch(
    /^The trial takes 3\.\d+ min to 3\.\d+ min by the clock \(ingest 20 s to 30 s, questions 3 min; --seconds\), and longer where answers are slow\. As long as the stores take: backfill, freshness, room, proof, of up to 123,456 rows in each of 2 stores\.$/,
  );
  expect(planText(planned({ without: new Set<Stage>(['ingest', 'questions', 'freshness']) }))).toMatch(
    /^As long as the stores take: backfill, room, proof/,
  );
  // The questions need the rows, though nobody measures how they got there.
  expect(planText(planned({ without: new Set<Stage>(['backfill', 'freshness', 'room', 'proof']) }))).toMatch(
    /As long as the stores take: filling the tables, of up to 123,456 rows in each of 2 stores\.$/,
  );
  const all: readonly Stage[] = ['backfill', 'freshness', 'room', 'proof', 'questions'];
  expect(planText(planned({ without: new Set(all) }))).toBe(
    'The trial takes 20 s to 30 s by the clock (ingest 20 s to 30 s; --seconds).',
  );
});
