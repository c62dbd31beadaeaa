/** What is said about messages that are in no store. */
import { expect, test } from 'vitest';
import { outcomesText } from '../../src/commands/ctl-report.ts';
import { REJECTION_TEXTS } from '../../src/decode/rejection.ts';
import { inputRemarks, rejectedInWords, rejectionsExplained } from '../../src/observe/input-remarks.ts';
import { viewOf } from '../../src/observe/view.ts';
import { sinkStatus, statusOf } from './parts.ts';

const REJECTED = { not_json: 2, bad_timestamp: 3, bad_type: 1, empty: 0 };

async function statusWith(messages: object, samples: object = {}) {
  const status = await statusOf([sinkStatus({ id: 'a' }), sinkStatus({ id: 'b' })]);
  return {
    ...status,
    messages: { ...status.messages, ...messages },
    samples: { ...status.samples, byType: { counter: 90, gauge: 20, timer: 0 }, foreign: 10, ...samples },
  };
}

test('rejected messages are told by reason, the most frequent first', () => {
  expect(rejectedInWords({}, { not_json: 0 }, 'here')).toBeUndefined();
  expect(rejectedInWords({ not_json: 1 }, {}, 'here')).toBe(
    '1 message rejected here (not_json 1); metrics-fanout tail --rejected --from 10m shows such messages',
  );
  // Plain NATS has no history.
  expect(rejectedInWords({ not_json: 1 }, {}, 'here', false)).toMatch(
    /; metrics-fanout tail --rejected shows such messages$/,
  );
  expect(rejectedInWords({}, { bad_value: 1 }, 'here')).toMatch(
    /^1 part of messages rejected here \(bad_value 1\)/,
  );
  expect(rejectedInWords({ a: 1, b: 2, c: 3000, d: 4 }, { e: 5, b: 6 }, 'here')).toMatch(
    /^3,007 messages and 11 parts of others rejected here \(c 3,000, b 8, e 5, d 4, 1 other reason\);/,
  );
});

test('the reasons that are told are explained, but for those of a newer version', () => {
  expect(rejectionsExplained({ a: 1, not_json: 2 }, { bad_value: 3, set: 0 })).toEqual([
    `bad_value: ${REJECTION_TEXTS.bad_value}`,
    `not_json: ${REJECTION_TEXTS.not_json}`,
  ]);
});

test('the headline, which compare and the report print too, and ctl status tell them beside healthy sinks', async () => {
  const line =
    '6 messages rejected since the start (bad_timestamp 3, not_json 2, bad_type 1); metrics-fanout tail --rejected --from 10m shows such messages.';
  const status = await statusWith({ rejected: REJECTED });
  expect(viewOf(status).headline).toEqual({ text: `All 2 sinks are healthy. ${line}`, tone: 'warn' });
  const body = { instance: 'one', ok: true, result: { ...status, instance: 'one' } };
  const shown = outcomesText('status', [{ reply: { instance: 'one', via: 'bus', body } as never }]);
  expect(shown).toContain(`\none: ${line}\n`);
  // The most frequent first, as there.
  for (const reason of ['bad_timestamp', 'not_json', 'bad_type'] as const) {
    expect(shown).toContain(`\none: Rejected, ${reason}: ${REJECTION_TEXTS[reason]}.\n`);
    expect(viewOf(status).notes).toContain(`rejected, ${reason}: ${REJECTION_TEXTS[reason]}`);
  }
  expect(shown).not.toContain('Rejected, empty');
  const well = await statusWith({});
  expect(viewOf(well).notes.join()).not.toContain('rejected, ');
  expect(viewOf(well).headline).toEqual({ text: 'All 2 sinks are healthy.', tone: 'good' });
});

test('late samples, and those ahead, are told if they are many, with the setting', async () => {
  expect(inputRemarks(await statusWith({}, { late: 5, ahead: 5 }))).toEqual([]);
  expect(inputRemarks(await statusWith({}, { late: 6, ahead: 50 }))).toEqual([
    '6 of 100 samples (6 %) came later than LATENESS (2 s) after their window: they count in the window in which they came.',
    '50 of 100 samples (50 %) are ahead of the bus by more than MAX_AHEAD (1 s): they count in the window in which they came.',
  ]);
});
