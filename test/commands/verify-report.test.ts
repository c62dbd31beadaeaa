import { expect, test } from 'vitest';
import { reportOf, reportText, type SinkFindings } from '../../src/commands/verify-report.ts';

const FOUND: SinkFindings = {
  id: 'sqlite',
  range: { from: 10_000, to: 40_000 },
  began: undefined,
  keptFrom: undefined,
  lost: 0,
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
