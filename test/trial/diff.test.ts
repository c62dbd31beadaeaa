import { describe, expect, test } from 'vitest';
import { diffOf, parseTrial } from '../../src/trial/diff.ts';
import type { TrialResult } from '../../src/trial/result.ts';
import { QUESTIONS, type StoreParts, storeResult, trialResult } from './results.ts';

const two = (first: StoreParts = {}, second: StoreParts = {}): TrialResult =>
  trialResult([storeResult(first), storeResult({ id: 'two', ...second })]);

describe('diffOf', () => {
  test('says that nothing changed if only noise did', () => {
    const { changed, facts, verdict, figures } = diffOf(two(), two({ shift: 3 }, { shift: 6, ms: 2.02 }));
    expect([changed, facts]).toEqual([[], []]);
    expect(diffOf(two(), two()).isSame).toBe(true);
    expect(verdict).toEqual([`Nothing changed by more than noise: ${figures.length} figures of one, two.`]);
    expect(figures.length).toBe(16);
  });

  test('names the store that became slower, and only it', () => {
    const { changed, verdict, figures } = diffOf(two(), two({ shift: 3 }, { ms: 6, shift: 2 }));
    expect(changed).toEqual(['two']);
    expect(verdict).toEqual([
      'two: 6 of 8 figures are worse, in the middle 3 times.',
      'No more than noise: one.',
    ]);
    expect(figures.filter(({ change }) => change).map(({ store, change }) => `${store} ${change}`)).toEqual(
      Array(6).fill('two worse'),
    );
  });

  test('takes out what all stores have in common, and says so', () => {
    const four = (factor: number, third: number) =>
      trialResult(
        ['a', 'b', 'c', 'd'].map((id, index) =>
          storeResult({
            id,
            ms: 2 * factor * (index === 2 ? third : 1),
            pointsPerSecond: 20_000 / factor,
            freshness: null,
            shift: index,
          }),
        ),
      );
    const slower = diffOf(four(1, 1), four(2, 1));
    expect(slower.changed).toEqual([]);
    expect(slower.isSame).toBe(false);
    expect(slower.facts).toEqual([expect.stringContaining('All stores together were 2 times as slow')]);
    expect(diffOf(four(1, 1), four(0.5, 4)).changed).toEqual(['c']);
    expect(diffOf(four(1, 1), four(1, 4))).toMatchObject({ changed: ['c'], facts: [] });
  });

  test('names no store for a single figure', () => {
    const { changed, verdict, figures } = diffOf(two(), two({ pointsPerSecond: 60_000 }));
    expect(figures.filter(({ change }) => change).map(({ what }) => what)).toEqual(['ingest, 1 writer']);
    expect(changed).toEqual([]);
    expect(verdict[0]).toContain('Nothing changed by more than noise');
  });

  test('knows which way is better: latencies down, rates up', () => {
    const { figures } = diffOf(two(), two({ pointsPerSecond: 60_000, ms: 0.5 }));
    const changes = figures
      .filter(({ store }) => store === 'one')
      .map(({ what, change }) => `${what}: ${change}`);
    expect(changes).toContain('ingest, 1 writer: better');
    expect(changes).toContain('sum-5m, 1 client: better');
    expect(changes).toContain('freshness: undefined');
  });

  test('does not report what is sure but small, in share or in milliseconds', () => {
    expect(diffOf(two({ ms: 2 }), two({ ms: 2.4 })).changed).toEqual([]);
    expect(diffOf(two({ ms: 0.001 }), two({ ms: 0.005 })).changed).toEqual([]);
    expect(diffOf(two({ ms: 2 }), two({ ms: 2.6 })).changed).toEqual(['one']);
  });

  test('does not report what is large but not sure', () => {
    const wild = (factor: number) => {
      const { questions, ...store } = storeResult();
      const rounds = [1, 5, 2, 8, 3, 9, 4, 7, 6, 2].map((ms) => ms * factor);
      const hot = [{ clients: 1, answers: 10, perSecond: 1, p50: 1, p95: 1, p99: 1, rounds }];
      const asked = { kind: 'equal', rows: 1, cold: 1, hot } as const;
      return trialResult([{ ...store, questions: [{ id: questions[0]!.id, asked }] }]);
    };
    const changes = (factor: number) =>
      diffOf(wild(1), wild(factor))
        .figures.filter(({ unit, what }) => unit === 'ms' && what !== 'freshness')
        .map(({ change }) => change);
    expect(changes(1.5)).toEqual([undefined]);
    expect(changes(20)).toEqual(['worse']);
  });

  test('tells what changed besides figures', () => {
    const asked = { kind: 'different', difference: 'the value is 1, not 2' } as const;
    const after = trialResult(
      [
        storeResult({
          version: 'SQLite 4',
          questions: QUESTIONS.map(({ id }) => ({ id, asked })),
          proof: { equal: 999, missing: 1, extra: 0, different: 0, examples: [] },
        }),
      ],
      { secondsEach: 1, traffic: { ...two().traffic, points: 2000 } },
    );
    const { facts, changed } = diffOf(two(), after);
    expect(changed).toEqual([]);
    expect(facts).toEqual([
      'The traffic is not the same: 1,000 points from 2026-11-30T11:00:00.000Z, then 2,000 from 2026-11-30T11:00:00.000Z.',
      'The times are not the same: 5 s each, then 1 s.',
      'one was SQLite 3, then SQLite 4.',
      'one, sum-5m: was answered rightly, then answered wrongly.',
      'one, by-one: was answered rightly, then answered wrongly.',
      'one: 0 wrong rows, then 1.',
      'two is only in the first trial.',
    ]);
  });

  test('says that there is nothing to compare', () => {
    const bare = { ingest: null, questions: [], freshness: null };
    const { verdict, isSame } = diffOf(trialResult([storeResult(bare)]), two());
    expect(verdict).toEqual(['There is no figure that both trials measured often enough to compare.']);
    expect(isSame).toBe(false);
  });
});

test('parseTrial takes the JSON of a trial, and nothing else', () => {
  expect(parseTrial(JSON.stringify(two()))).toEqual(two());
  expect(parseTrial('nonsense')).toBe('it is not JSON');
  for (const text of ['null', '[]', '{"format":"other","stores":[]}', '{"format":"metrics-fanout trial 1"}'])
    expect(parseTrial(text)).toContain('not the JSON of a trial');
});
