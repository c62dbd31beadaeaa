import { describe, expect, test } from 'vitest';
import { diffOf, parseTrial } from '../../src/trial/diff.ts';
import type { TrialResult } from '../../src/trial/result.ts';
import { hotRun, QUESTIONS, type StoreParts, storeResult, trialResult } from './results.ts';

const two = (first: StoreParts = {}, second: StoreParts = {}): TrialResult =>
  trialResult([storeResult(first), storeResult({ id: 'two', ...second })]);

const IDS = ['a', 'b', 'c', 'd'];

/** Four stores; by store, how many times as slow its questions are. */
function four(times: Readonly<Record<string, number>> = {}, shift = 0): TrialResult {
  return trialResult(
    IDS.map((id, index) => storeResult({ id, ms: 20 * (times[id] ?? 1), shift: shift + index })),
  );
}

/** With the questions of every store in the second half of the rounds that many times as slow. */
function drifting(trial: TrialResult, times: Readonly<Record<string, number>>): TrialResult {
  const later = (rounds: readonly number[], id: string) =>
    rounds.map((value, round) => (round < rounds.length / 2 ? value : value * (times[id] ?? 1)));
  const stores = trial.stores.map((store) => ({
    ...store,
    questions: store.questions.map(({ id, asked }) => {
      if (asked.kind !== 'equal') return { id, asked };
      const hot = asked.hot.map((run) => ({
        ...run,
        rounds: later(run.rounds, store.id),
        fastest: later(run.fastest, store.id),
      }));
      return { id, asked: { ...asked, hot } };
    }),
  }));
  return { ...trial, stores };
}

describe('diffOf', () => {
  test('says that nothing changed if only noise did', () => {
    const { changed, facts, verdict, figures } = diffOf(two(), two({ shift: 3 }, { shift: 6, ms: 2.02 }));
    expect([changed, facts]).toEqual([[], []]);
    expect(diffOf(two(), two()).isSame).toBe(true);
    expect(verdict).toEqual([`Nothing changed by more than noise: ${figures.length} figures of one, two.`]);
    expect(figures.length).toBe(28);
  });

  test('names the store that became slower, and only it', () => {
    const { changed, verdict, figures } = diffOf(two(), two({ shift: 3 }, { ms: 6, shift: 2 }));
    expect(changed).toEqual(['two']);
    expect(verdict).toEqual([
      'two changed: answers 3 times as slow, answers to several clients 3 times as slow, in the middle.',
      'No more than noise: one.',
    ]);
    expect(figures.filter(({ change }) => change).map(({ store, change }) => `${store} ${change}`)).toEqual(
      Array(12).fill('two worse'),
    );
  });

  test('what all stores have in common is the machine: it is told, and nothing changed', () => {
    const slower = diffOf(four(), four({ a: 2, b: 2, c: 2, d: 2 }, 3));
    expect(slower).toMatchObject({ changed: [], facts: [], isSame: true });
    expect(slower.machine).toContain('All stores together were 2 times as slow');
    const faster = diffOf(four(), four({ a: 0.5, b: 0.5, c: 2, d: 0.5 }));
    expect(faster.changed).toEqual(['c']);
    expect(faster.shifts.find(({ store }) => store === 'c')).toMatchObject({
      kind: 'answers',
      figures: 4,
      slowdown: expect.closeTo(4),
    });
    expect(faster.isSame).toBe(false);
    expect(diffOf(four(), four({ c: 4 }))).toMatchObject({ changed: ['c'], facts: [], machine: undefined });
  });

  test('names no store for what the other stores scatter by as well', () => {
    expect(diffOf(four(), four({ a: 1.5 })).changed).toEqual(['a']);
    expect(diffOf(four(), four({ a: 1.5, b: 1.2, d: 0.8 })).changed).toEqual([]);
    expect(diffOf(four(), four({ a: 6, b: 1.2, d: 0.8 })).changed).toEqual(['a']);
  });

  test('names no store for what the stores scatter by within one of the trials', () => {
    const after = four({ a: 1.6 });
    expect(diffOf(four(), after).changed).toEqual(['a']);
    for (const times of [{ b: 2 }, { a: 2 }, { c: 0.5 }]) {
      expect(diffOf(four(), drifting(after, times)).changed, JSON.stringify(times)).toEqual([]);
      expect(diffOf(drifting(four(), times), after).changed, JSON.stringify(times)).toEqual([]);
    }
    // What all have in common is no scatter.
    expect(diffOf(four(), drifting(after, { a: 2, b: 2, c: 2, d: 2 })).changed).toEqual(['a']);
  });

  test('looks at the fastest answers to one client: what else goes on makes answers slower, never faster', () => {
    const busy = (trial: TrialResult): TrialResult => ({
      ...trial,
      stores: trial.stores.map((store) => ({
        ...store,
        questions: store.questions.map(({ id, asked }) => {
          if (asked.kind !== 'equal' || store.id !== 'b') return { id, asked };
          const hot = asked.hot.map((run) => ({
            ...run,
            rounds: run.rounds.map((ms, round) => (round % 2 === 0 && run.clients > 1 ? ms : 5 * ms)),
          }));
          return { id, asked: { ...asked, hot } };
        }),
      })),
    });
    expect(diffOf(four(), busy(four())).isSame).toBe(true);
    expect(diffOf(four(), busy(four({ b: 2 }))).changed).toEqual(['b']);
  });

  test('does not judge a kind of figures that too few of the stores have to tell the machine from a store', () => {
    const slow = (trial: TrialResult, ids: readonly string[]): TrialResult => ({
      ...trial,
      stores: trial.stores.map((store) => ({
        ...store,
        questions: store.questions.map(({ id, asked }) =>
          asked.kind === 'equal' && ids.includes(store.id)
            ? { id, asked: { ...asked, hot: asked.hot.slice(0, 1) } }
            : { id, asked },
        ),
      })),
    });
    const queues = (trial: TrialResult): TrialResult => ({
      ...trial,
      stores: trial.stores.map((store) => ({
        ...store,
        questions: store.questions.map(({ id, asked }) =>
          asked.kind === 'equal' && store.id === 'a'
            ? { id, asked: { ...asked, hot: [asked.hot[0]!, hotRun(8, 600), hotRun(32, 2400)] } }
            : { id, asked },
        ),
      })),
    });
    expect(diffOf(four(), queues(four())).changed).toEqual(['a']);
    expect(diffOf(slow(four(), ['d']), slow(queues(four()), ['d'])).changed).toEqual(['a']);
    expect(diffOf(slow(four(), ['c', 'd']), slow(queues(four()), ['c', 'd'])).isSame).toBe(true);
  });

  test('names no store for a plan that changed in one of its questions', () => {
    const trial = four();
    const stores = trial.stores.map((store) => ({
      ...store,
      questions: store.questions.map(({ id, asked }) =>
        asked.kind === 'equal' && id === 'by-one' && store.id === 'b'
          ? { id, asked: { ...asked, hot: [hotRun(1, 400), hotRun(8, 3200), hotRun(32, 12_800)] } }
          : { id, asked },
      ),
    }));
    expect(diffOf(trial, { ...trial, stores }).isSame).toBe(true);
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
    expect(diffOf(two({ ms: 2 }), two({ ms: 3 })).changed).toEqual(['one']);
  });

  test('names no store for its ingest alone: that is in doubt', () => {
    const faster = trialResult(
      IDS.map((id, index) =>
        storeResult({ id, shift: index, ms: 20, pointsPerSecond: id === 'b' ? 80_000 : 20_000 }),
      ),
    );
    const { changed, isSame, verdict } = diffOf(four(), faster);
    expect([changed, isSame]).toEqual([[], true]);
    expect(verdict[0]).toMatch(/^Nothing changed beyond doubt: /);
    expect(verdict[1]).toBe('In doubt: ingest of b, 4 times as fast. Run both trials again.');
  });

  test('of two stores, names none for what both have in common', () => {
    expect(diffOf(two(), two({ ms: 4 }, { ms: 4 })).changed).toEqual([]);
    expect(diffOf(two(), two({ ms: 4 }, { ms: 1.9 })).changed).toEqual(['one']);
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
      'one, by-two: was answered rightly, then answered wrongly.',
      'one, top-10: was answered rightly, then answered wrongly.',
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
