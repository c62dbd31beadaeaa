/** What a question costs. */
import { expect, test } from 'vitest';
import { instancePrice, SECONDS_PER_MONTH } from '../../src/sink/price.ts';
import type { QuestionResult } from '../../src/trial/result.ts';
import { answeredByAll, priceOf } from '../../src/trial/stages.ts';
import type { TrialStore } from '../../src/trial/stores.ts';
import { hotRun } from './results.ts';

const TRAFFIC = { pointsPerSecond: 500, bytesPerPoint: 200 };

/** Answered in so many ms by one client, or wrongly. */
const questions = (ms: Readonly<Record<string, number | 'wrong'>>): QuestionResult[] =>
  Object.entries(ms).map(([id, each]) => ({
    id,
    asked:
      each === 'wrong'
        ? { kind: 'different', difference: 'it is 1, not 2' }
        : { kind: 'equal', rows: 1, cold: each, hot: [hotRun(1, each), hotRun(8, 8 * each)] },
  }));

function moneyOf(own: readonly QuestionResult[], ...others: (readonly QuestionResult[])[]) {
  const store = {
    config: { module: { price: instancePrice }, prices: { priceMonth: 100, priceGbMonth: 0.1 } },
    result: { questions: own, room: { bytesPerRow: 100 } },
  } as unknown as TrialStore;
  return priceOf(store, TRAFFIC, answeredByAll([own, ...others]));
}

const MILLION_SECONDS_USD = (100 * 1e6) / SECONDS_PER_MONTH;

test('a question costs what the usual ones take on average, not what the fastest of them takes', () => {
  // 1 ms and 99 ms: 50 ms on average.
  const { usdPerMillionQuestions, assumption } = moneyOf(questions({ fast: 1, slow: 99 }));
  expect(usdPerMillionQuestions).toBeCloseTo(0.05 * MILLION_SECONDS_USD, 6);
  expect(assumption).toContain('the mean of the 2 that all stores answered');
});

test('stores are compared by the questions that all of them answered', () => {
  const own = questions({ fast: 1, slow: 99 });
  const few = questions({ fast: 7, slow: 'wrong' });
  expect(moneyOf(own, few).usdPerMillionQuestions).toBeCloseTo(0.001 * MILLION_SECONDS_USD, 6);
  // One that answers none takes nothing away from the others.
  expect(moneyOf(own, questions({ fast: 'wrong' }), []).usdPerMillionQuestions).toBeCloseTo(
    0.05 * MILLION_SECONDS_USD,
    6,
  );
  expect(moneyOf([]).usdPerMillionQuestions).toBeNull();
});

test('what is stored is said to be what a month leaves, and not what is there now', () => {
  expect(moneyOf([]).assumption).toMatch(/0\.1 USD for each stored GB, 131 GB after a month;/);
});
