import { describe, expect, test } from 'vitest';
import { trialReport } from '../../src/trial/report/page.ts';
import { groupsOf } from '../../src/trial/report/table.ts';
import { MISSED_AFTER_MS, type StoreResult } from '../../src/trial/result.ts';
import { verdictOf } from '../../src/trial/verdict.ts';
import { hotRun, NOT_MEASURED, QUESTIONS, storeResult, trialResult } from './results.ts';

const HOSTILE = `<script>alert("x")</script>'&\u202e`;

describe('the report', () => {
  test('begins with the verdict, then what was tried, then the table and the charts', () => {
    const html = trialReport(trialResult([storeResult(), storeResult({ id: 'two', ms: 6 })]));
    const places = [
      'usual questions',
      'What was tried',
      'Side by side',
      '<svg',
      'All times',
      'How to read it',
    ].map((part) => html.indexOf(part));
    expect(places.every((place) => place > 0)).toBe(true);
    expect(places).toEqual([...places].sort((a, b) => a - b));
  });

  test('has no green edge beside what is wrong', () => {
    const edgeOf = (store: StoreResult) =>
      /<ul class="(verdict[^"]*)"/.exec(trialReport(trialResult([store])))![1];
    const proof = { equal: 9, missing: 0, extra: 0, different: 1, examples: [] };
    expect(edgeOf(storeResult())).toBe('verdict');
    expect(edgeOf(storeResult({ proof }))).toBe('verdict bad-edge');
    const stopped = trialReport(trialResult([storeResult()], { complete: false }));
    expect(stopped).toContain('<ul class="verdict warn-edge"');
  });

  test('loads nothing and runs nothing', () => {
    const html = trialReport(trialResult([storeResult()]));
    expect(html).toContain("default-src 'none'");
    expect(html.match(/<script|<link rel="stylesheet"|src=|https?:|@import|url\(/g)).toBeNull();
  });

  test('shows any text as text', () => {
    const store = storeResult({
      id: HOSTILE,
      version: HOSTILE,
      endpoint: HOSTILE,
      remarks: [HOSTILE],
      questions: [{ id: 'sum-5m', asked: { kind: 'different', difference: HOSTILE } }],
    });
    const questions = [{ id: 'sum-5m', text: HOSTILE }];
    const html = trialReport(trialResult([store], { questions, settings: { A: HOSTILE }, command: HOSTILE }));
    expect(html).not.toContain('<script');
    expect(html).not.toContain('\u202e');
    expect(html.split('&lt;script&gt;alert(&quot;x&quot;)').length).toBeGreaterThan(8);
  });

  test('has no charts and no table of what was left out', () => {
    const html = trialReport(trialResult([storeResult(NOT_MEASURED)], { questions: [] }));
    expect(html).not.toContain('<svg');
    expect(html).not.toContain('NaN');
  });

  test('what an interrupted trial did not ask is in no table and no chart, and the verdict counts it', () => {
    const notAsked = { kind: 'not_asked', why: 'the trial was stopped' } as const;
    const whole = storeResult();
    const some = whole.questions.map((one, i) => (i === 0 ? one : { ...one, asked: notAsked }));
    const stopped = trialResult([{ ...whole, questions: some }], { complete: false });
    const titles = groupsOf(stopped).find(({ title }) => title.startsWith('Questions'))!.rows;
    expect(titles.map(({ what }) => what)).toEqual([QUESTIONS[0].text]);
    expect(trialReport(stopped)).not.toMatch(/>not asked</);
    expect(verdictOf(stopped).at(-1)!.text).toBe(
      'The trial was stopped before its end: 3 of 4 questions were not asked.',
    );
    const none = trialResult([{ ...whole, questions: [] }], { complete: false });
    expect(groupsOf(none).some(({ title }) => title.startsWith('Questions'))).toBe(false);
    expect(trialReport(none)).not.toContain('All times of the questions');
  });

  test('numbers are finite, whatever is missing', () => {
    const [first] = storeResult().questions;
    const partly = storeResult({ id: 'two', questions: [first!], ingest: null, freshness: null, room: null });
    const silent = storeResult({
      id: 'three',
      questions: QUESTIONS.map(({ id }) => ({ id, asked: { kind: 'not_asked', why: 'it cannot' } })),
    });
    const html = trialReport(trialResult([storeResult({ ms: 0 }), partly, silent]));
    expect(html.match(/NaN|Infinity|undefined/g)).toBeNull();
  });
});

describe('the table', () => {
  test('compares stores over clients by what all of them answered with as many', () => {
    const slow = storeResult({ id: 'slow' });
    const questions = slow.questions.map(({ id, asked }, index) => {
      if (asked.kind !== 'equal') return { id, asked };
      // Too slow for 32 clients, but for the first question.
      const hot = index === 0 ? asked.hot : [hotRun(1, 1000), hotRun(8, 9000)];
      return { id, asked: { ...asked, hot } };
    });
    const chartOf = (stores: readonly StoreResult[]) =>
      trialReport(trialResult(stores)).split('Latency over clients: p50')[1]!.split('</figure>')[0]!;
    const both = chartOf([storeResult(), { ...slow, questions }]);
    expect(both).toContain('geometric mean of 1 of 4 questions');
    // Of that question, both take as long.
    const [first, second] = [...both.matchAll(/<path class="line[^"]*" d="([^"]*)"/g)].map(
      ([, path]) => path,
    );
    expect(second).toBe(first);
    expect(chartOf([storeResult()])).toContain('geometric mean of 4 of 4 questions');
    const alone = { ...slow, questions: questions.slice(1) };
    expect(chartOf([storeResult(), alone])).toContain('geometric mean of 3 of 4 questions');
    expect(chartOf([storeResult(), alone])).not.toContain('>32<');
  });

  test('marks the best of a row, and gives the others as a factor of it', () => {
    const groups = groupsOf(
      trialResult([storeResult({ ms: 2 }), storeResult({ id: 'two', ms: 6, pointsPerSecond: 60_000 })]),
    );
    const row = (what: string) => groups.flatMap(({ rows }) => rows).find((one) => one.what === what)!;
    expect(row(QUESTIONS[0].text).cells).toEqual([
      { text: '16 ms', note: 'best', tone: 'best' },
      { text: '48 ms', note: '3 times', tone: 'plain' },
    ]);
    expect(row('points a second').cells.map(({ note }) => note)).toEqual(['3 times', 'best']);
    // As good as each other.
    expect(row('a row').cells.map(({ tone }) => tone)).toEqual(['best', 'best']);
  });

  test('a store that keeps nothing sets no mark for those that do', () => {
    const nothing = storeResult({ id: 'nothing', pointsPerSecond: 1e6, isReadable: false });
    const stores = [storeResult({ pointsPerSecond: 30_000 }), nothing, storeResult({ id: 'two' })];
    const { rows } = groupsOf(trialResult(stores)).find(({ title }) => title.startsWith('Ingest'))!;
    expect(rows[0]!.cells.map(({ text, note }) => `${text} ${note}`)).toEqual([
      '30,000/s best',
      '1,000,000/s not compared',
      '20,000/s 1.5 times',
    ]);
    expect(verdictOf(trialResult(stores)).find(({ text }) => text.startsWith('Of points'))!.text).toBe(
      'Of points a second, one takes 30,000 (6 times its rate) and two 20,000 (4 times its rate).',
    );
  });

  test('a window that was not returned in time is no fast one', () => {
    const one = storeResult();
    const all = { p50: MISSED_AFTER_MS, p95: MISSED_AFTER_MS, p99: MISSED_AFTER_MS };
    const never = { ...one.freshness!, missed: 10, returned: all };
    const trial = trialResult([one, storeResult({ id: 'two', freshness: never })]);
    const { rows } = groupsOf(trial).find(({ title }) => title.startsWith('Freshness'))!;
    const cellsOf = (what: string) => rows.find((row) => row.what === what)!.cells;
    expect(cellsOf('returned by a query, p95')).toMatchObject([{ tone: 'best' }, { text: '> 30 s' }]);
    expect(cellsOf('windows not returned within 30 s')).toMatchObject([
      { text: '0 of 10', tone: 'plain' },
      { text: '10 of 10', tone: 'bad' },
    ]);
    expect(trialReport(trial)).toContain('■ &gt; 30 s');
  });

  test('what costs little does not cost 0.00 USD', () => {
    const money = {
      usdPerMonth: 50,
      usdPerMillionPoints: 0.0017,
      usdPerMillionQuestions: 0.004321,
      assumption: '',
    };
    const { rows } = groupsOf(trialResult([storeResult({ money })])).find(({ title }) =>
      title.startsWith('Money'),
    )!;
    expect(rows.map(({ cells }) => cells[0]!.text)).toEqual(['50.00 USD', '0.0017 USD', '0.0043 USD']);
  });

  test('a wrong answer has no time but the difference', () => {
    const questions = [
      { id: QUESTIONS[0].id, asked: { kind: 'different', difference: '"a" is 1, not 2' } as const },
    ];
    const groups = groupsOf(trialResult([storeResult(), storeResult({ id: 'two', questions })]));
    const row = groups.flatMap(({ rows }) => rows).find(({ what }) => what === QUESTIONS[0].text)!;
    expect(row.cells[1]).toEqual({ text: 'wrong: "a" is 1, not 2', note: '', tone: 'bad' });
    expect(row.cells[0]!.tone).toBe('plain');
  });
});
