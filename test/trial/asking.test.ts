import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { Query, QueryRow, Sink } from '../../src/sink/contract.ts';
import { askStores } from '../../src/trial/asking.ts';
import type { TrialQuestion } from '../../src/trial/questions.ts';
import type { AskedResult } from '../../src/trial/result.ts';
import type { TrialTable } from '../../src/trial/tables.ts';

const query: Query = { kind: 'live_series', range: { from: 0, to: 1 } };
const question: TrialQuestion = { id: 'live-series', text: 'number of series', query };
const TRUTH: QueryRow[] = [{ key: [], value: 7 }];
const SECONDS = 1;

/** A store that does one thing at a time, and takes so many ms for it, of a clock that nothing else moves. */
async function asked(ms: number, answer: () => readonly QueryRow[]) {
  let now = 0;
  let queries = 0;
  let rounds = 0;
  const clock: Clock = {
    now: () => now,
    steady: () => now,
    sleep: async () => {},
    // One client after another, as on a thread that each of them blocks.
    nextTurn: () => setImmediate(),
    random: () => 0,
  };
  const sink = {
    async query() {
      queries += 1;
      now += ms;
      return answer();
    },
  } as unknown as Sink;
  const table = {
    newClient: async () => sink,
    clients: async (count: number) => Array.from({ length: count }, () => sink),
  } as unknown as TrialTable;
  const found = await askStores([table], [question], new Map([[question.id, TRUTH]]), {
    secondsEach: SECONDS,
    clock,
    signal: new AbortController().signal,
    roundOver: () => {
      rounds += 1;
    },
  });
  return { asked: found.get(table)![0]!.asked, queries, rounds };
}

function hotOf(result: AskedResult) {
  if (result.kind !== 'equal') throw new Error(JSON.stringify(result));
  return result.hot;
}

describe('asking', () => {
  test('clients that wait for each other wait as many times as long', async () => {
    const { asked: result, rounds } = await asked(2, () => TRUTH);
    const hot = hotOf(result);
    expect(hot.map(({ clients, p99 }) => [clients, p99])).toEqual([
      [1, 2],
      [8, 16],
      [32, 64],
    ]);
    // The store answers as many questions whoever asks.
    for (const { perSecond } of hot) expect(perSecond).toBeCloseTo(500, -2);
    for (const run of hot) expect(run.rounds).toHaveLength(10);
    expect(rounds).toBe(30);
  });

  test('every client gets an answer, so that none that waits long is left out', async () => {
    const hot = hotOf((await asked(150, () => TRUTH)).asked);
    expect(hot.map(({ clients, answers }) => [clients, answers % clients])).toEqual([
      [1, 0],
      [8, 0],
      [32, 0],
    ]);
    expect(hot[2]!.p50).toBeGreaterThan(16 * 150);
  });

  test('more clients are not let loose on a store that is too slow for fewer', async () => {
    const hot = hotOf((await asked(300, () => TRUTH)).asked);
    expect(hot.map(({ clients }) => clients)).toEqual([1, 8]);
    // Nor is it asked longer than it has time.
    expect(hot[0]!.answers).toBe(4);
  });

  test('answers slower than a round still have as many rounds as a comparison of two trials needs', async () => {
    const hot = hotOf((await asked(600, () => TRUTH)).asked);
    expect(hot[0]).toMatchObject({ clients: 1, answers: 4, fastest: [600, 600, 600, 600] });
  });

  test('a wrong answer is not timed: it is asked once', async () => {
    const { asked: result, queries } = await asked(2, () => [{ key: [], value: 8 }]);
    expect(result).toEqual({
      kind: 'different',
      difference: expect.stringContaining('the value is 8, not 7'),
    });
    expect(queries).toBe(1);
  });

  test('a store that fails later has no times either', async () => {
    let left = 100;
    const failing = () => {
      left -= 1;
      if (left === 0) throw new Error('out of memory');
      return TRUTH;
    };
    const { asked: result } = await asked(2, failing);
    expect(result).toEqual({ kind: 'failed', why: 'out of memory' });
  });
});
