import { expect, test } from 'vitest';
import { reportJson, reportOf, reportText, type SinkFindings } from '../../src/commands/verify-report.ts';

interface SinkLength {
  readonly sink: string;
  readonly windowMs: number | null;
}

const FOUND: SinkFindings = {
  id: 'sqlite',
  range: { from: 10_000, to: 40_000 },
  began: undefined,
  keptFrom: undefined,
  lost: 0,
  notHeld: 0,
  unconfirmed: 0,
  verdict: {
    windows: { equal: 3, different: 0, notOwed: 0, unknown: 0 },
    rows: { equal: 9, missing: 0, extra: 0, different: 0 },
    reasons: [],
    examples: [],
  },
};

test('windows that the stream no longer holds are unknown, never equal', () => {
  expect(reportOf([FOUND]).equal).toBe(true);
  const report = reportOf([{ ...FOUND, lost: 2 }]);
  expect(report).toMatchObject({ equal: false, sinks: [{ windows: { equal: 3, unknown: 2 } }] });
  expect(reportText(report)).toContain('no longer holds the 2 windows before 1970-01-01T00:00:10.000Z');
});

test('earlier windows that the stream no longer holds are said, and are no reason to fail', () => {
  const report = reportOf([{ ...FOUND, notHeld: 28 }]);
  expect(report).toMatchObject({ equal: true, sinks: [{ windows: { unknown: 0, notHeld: 28 } }] });
  expect(reportText(report)).toContain(
    'sqlite: the stream no longer holds the 28 windows before 1970-01-01T00:00:10.000Z (retention): they are not judged',
  );
  const unknown = reportOf([{ ...FOUND, notHeld: undefined }]);
  expect(unknown).toMatchObject({ equal: true, sinks: [{ windows: { notHeld: null } }] });
  expect(reportText(unknown)).toContain('no longer holds the windows before');
  expect(reportText(reportOf([FOUND]))).not.toContain('no longer holds');
});

test('of a sink whose names choose nothing, it is said that nothing was chosen', () => {
  const names = [{ from: 10_000, names: ['htp.*'] }];
  const { verdict } = FOUND;
  const nothing = { ...verdict!, rows: { ...verdict!.rows, equal: 0 } };
  expect(reportText(reportOf([{ ...FOUND, names, verdict: nothing }]))).toContain(
    'sqlite: nothing was chosen: the windows that are equal have no row that it should get',
  );
  for (const found of [
    { ...FOUND, names },
    { ...FOUND, verdict: nothing },
  ])
    expect(reportText(reportOf([found]))).not.toContain('nothing was chosen');
});

test('of a sink with windows of its own, their length is told', () => {
  const report = reportOf([FOUND, { ...FOUND, id: 'long', windowMs: 60_000 }]);
  const { sinks } = JSON.parse(reportJson(report));
  expect(sinks.map(({ sink, windowMs }: SinkLength) => [sink, windowMs])).toEqual([
    ['sqlite', null],
    ['long', 60_000],
  ]);
  expect(reportText(report)).toContain('long: its windows are 60 s long');
});

test('windows that are not confirmed yet are counted in plain English', () => {
  const text = (unconfirmed: number) => reportText(reportOf([{ ...FOUND, unconfirmed }]));
  expect(text(1)).toContain('sqlite: 1 window is not confirmed yet');
  expect(text(2)).toContain('sqlite: 2 windows are not confirmed yet');
});

test('if nothing has the name, nothing was compared', () => {
  const report = reportOf([FOUND], 'http.requets');
  expect(report).toMatchObject({ equal: false, matched: false });
  expect(reportText(report)).toContain('sqlite: no series matches http.requets\nNothing was compared.');
});

test('an empty range says whether no whole window is in it, or none is confirmed', () => {
  const empty = { ...FOUND, range: { from: 60_000, to: 60_000 }, verdict: undefined };
  const words = (found: SinkFindings) => {
    const report = reportOf([found]);
    expect(report.equal).toBe(false);
    return reportText(report);
  };
  const none = words({ ...empty, without: { from: 10_000, to: 50_000 } });
  expect(none).toContain(
    'no whole window of this sink is in the range 1970-01-01T00:00:10.000Z to 1970-01-01T00:00:50.000Z',
  );
  expect(none).not.toContain('confirmed');
  expect(none).not.toContain('1970-01-01T00:01:00.000Z');
  const later = words({ ...empty, unconfirmed: 2 });
  expect(later).toContain('it has not confirmed any of these windows yet');
  expect(later).not.toContain('whole window');
  // What was lost is said, and no more.
  expect(words({ ...empty, lost: 1 })).not.toContain('confirmed');
});

test('a window of which only a part was asked for is named', () => {
  const report = reportOf([{ ...FOUND, cut: 0 }]);
  expect(report.equal).toBe(true);
  expect(reportText(report)).toContain(
    'its window 1970-01-01T00:00:00.000Z is not in the range as a whole: it is not judged',
  );
});

test('the last line says how many windows are different, and tells that from unknown', () => {
  const { verdict } = FOUND;
  const found = (id: string, different: number, unknown = 0): SinkFindings => ({
    ...FOUND,
    id,
    verdict: { ...verdict!, windows: { equal: 1, different, notOwed: 0, unknown } },
  });
  const last = (...findings: SinkFindings[]) => reportText(reportOf(findings)).trimEnd().split('\n').at(-1);
  expect(last(found('a', 1))).toBe('1 window is DIFFERENT, in 1 of 1 sink.');
  expect(last(found('a', 2), found('b', 0, 1), found('c', 3))).toBe(
    '5 windows are DIFFERENT, in 2 of 3 sinks.',
  );
  expect(last(found('a', 0, 1))).toBe('Not every window is known to be equal.');
  expect(last(found('a', 0))).toBe('Every window judged is equal, row by row and to the last bit.');
});
