import { describe, expect, test } from 'vitest';
import { failureRemark, MISSED_AFTER_MS } from '../../src/trial/result.ts';
import { verdictOf } from '../../src/trial/verdict.ts';
import { NOT_MEASURED, QUESTIONS, storeResult, trialResult } from './results.ts';

const texts = (...stores: Parameters<typeof trialResult>[0]) =>
  verdictOf(trialResult(stores)).map(({ text }) => text);

const wrong = (id: string) => ({
  id,
  asked: { kind: 'different', difference: 'the value is 1, not 2' } as const,
});

describe('the verdict', () => {
  const one = storeResult({ ms: 2 });
  const two = storeResult({
    id: 'two',
    ms: 6.2,
    pointsPerSecond: 3_000,
    money: { usdPerMonth: 80, usdPerMillionPoints: 1, usdPerMillionQuestions: 1, assumption: '' },
  });

  test('names the fastest, the cheapest, the one that cannot keep up, and the proof', () => {
    expect(texts(one, two)).toEqual([
      'On this traffic one answers the usual questions 3.1 times as fast as two.',
      'one costs 37.5 % less than two (50.00 USD and 80.00 USD a month at 5,000 points/s).',
      'two cannot keep up above 3,000 points/s: this traffic has 5,000 points/s.',
      'Of points a second, one takes 20,000 (4 times its rate).',
      '95 % of 10 windows can be asked for within 2 s in one after their end, of which 2 s are LATENESS.',
      'A row takes 90 B in one, as much in two.',
      'Proved row by row: one and two hold the same 1,000 rows as the stream.',
    ]);
  });

  test('compares stores by what all of them answered rightly', () => {
    const [first, second] = QUESTIONS;
    const slowElsewhere = {
      ...two,
      questions: [storeResult({ ms: 1 }).questions[0]!, wrong(second.id)],
    };
    // It says of how many questions it speaks.
    expect(texts(one, slowElsewhere)[0]).toBe(
      'On this traffic two answers the usual questions (1 of 4: those that both answered rightly) 2 times as fast as one.',
    );
    const three = storeResult({ id: 'three', ms: 4 });
    expect(texts(one, slowElsewhere, three)[0]).toContain('(1 of 4: those that all answered rightly)');
    const nothingShared = { ...two, questions: [wrong(first.id), two.questions[1]!] };
    const other = { ...one, questions: [one.questions[0]!, wrong(second.id)] };
    expect(texts(other, nothingShared).join()).not.toContain('usual questions');
  });

  test('compares a question that is too slow for eight clients by one', () => {
    const alone = (ms: number) => {
      const { questions } = storeResult({ ms });
      return questions.map(({ id, asked }) => ({
        id,
        asked: asked.kind === 'equal' ? { ...asked, hot: asked.hot.slice(0, 1) } : asked,
      }));
    };
    expect(texts(one, { ...two, questions: alone(80) })[0]).toContain(
      'one answers the usual questions 40 times',
    );
  });

  test('says who answers wrongly, and who holds other rows', () => {
    const broken = {
      ...two,
      questions: [wrong(QUESTIONS[0].id), two.questions[1]!],
      proof: { equal: 990, missing: 7, extra: 2, different: 1, examples: [] },
    };
    const said = texts(one, broken);
    expect(said).toContain(
      'two answers 1 question wrongly. A wrong answer has no time below, but the difference.',
    );
    expect(said).toContain(
      'two does not hold what was written: of its rows, 7 missing, 2 too many, 1 different.',
    );
    expect(said).toContain('Proved row by row: one holds the same 1,000 rows as the stream.');
  });

  test('says of a store that dropped out why, before it says anything of the others', () => {
    const gone = { ...NOT_MEASURED, remarks: [failureRemark('ingest', 'ECONNREFUSED')] };
    const said = verdictOf(trialResult([one, two, storeResult({ id: 'three', ...gone })]));
    expect(said[1]).toEqual({
      text: 'three: ingest failed, and the trial of this store ended: ECONNREFUSED.',
      tone: 'bad',
    });
    expect(verdictOf(trialResult([storeResult({ id: 'three', ...gone })]))[0]!.tone).toBe('bad');
  });

  test('calls no store fresh whose rows were not returned', () => {
    const returned = { p50: 10, p95: MISSED_AFTER_MS, p99: MISSED_AFTER_MS };
    const lost = { ...two, freshness: { ...two.freshness!, windows: 20, missed: 3, returned } };
    const said = texts(one, lost);
    expect(said).toContain('two did not return all rows of 3 of 20 windows within 30 s.');
    expect(said.find((text) => text.startsWith('95 %'))).toBe(
      '95 % of 10 windows can be asked for within 2 s in one after their end, of which 2 s are LATENESS.',
    );
    expect(texts(lost).join()).not.toContain('95 %');
  });

  test('saves nobody a cent that is not there', () => {
    const costing = (usdPerMonth: number) => ({ ...two, money: { ...two.money!, usdPerMonth } });
    expect(texts(one, costing(50))[1]).toBe(
      'one and two cost the same: 50.00 USD and 50.00 USD a month at 5,000 points/s.',
    );
    expect(texts(one, costing(52))[1]).toContain('cost the same');
    expect(texts(one, costing(54))[1]).toContain('one costs 7.4 % less than two');
  });

  test('says nothing of what was left out', () => {
    expect(texts(storeResult(NOT_MEASURED))).toEqual([]);
    expect(verdictOf(trialResult([storeResult(NOT_MEASURED)], { complete: false }))).toEqual([
      { text: 'The trial was stopped before its end: 4 of 4 questions were not asked.', tone: 'warn' },
    ]);
  });
});
