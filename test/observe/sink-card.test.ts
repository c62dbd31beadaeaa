/** What is said about a sink, and about several side by side. */
import { expect, test } from 'vitest';
import { outcomesText } from '../../src/commands/ctl-report.ts';
import { comparisonOf, notesOf, rankedCells } from '../../src/observe/comparison.ts';
import { History, momentOf } from '../../src/observe/history.ts';
import { sinkCard, troubleText } from '../../src/observe/sink-card.ts';
import type { SinkStatus } from '../../src/observe/status.ts';
import { briefHeadline, viewOf } from '../../src/observe/view.ts';
import { REFUSE_REASONS, SinkError, withAdvice } from '../../src/sink/contract.ts';
import { sinkStatus, statusOf } from './parts.ts';

const DOWN: Partial<SinkStatus> = {
  up: false,
  downSince: '2026-11-30T11:48:00.000Z',
  nextAttempt: '2026-11-30T12:00:11.400Z',
  lastFailure: { at: Date.UTC(2026, 10, 30, 11, 59), reason: 'connection', message: 'ECONNREFUSED' },
};

async function linesOf(differences: Partial<SinkStatus>) {
  const sink = sinkStatus(differences);
  const { state, detail, lines } = sinkCard(sink, await statusOf([sink]));
  return { state, detail, ...Object.fromEntries(lines.map(({ what, text }) => [what, text])) };
}

test('of a store that is down, it says since when, why, what to do, when it is tried, and until when that does no harm', async () => {
  expect(await linesOf(DOWN)).toMatchObject({
    state: 'down',
    detail: 'connection: ECONNREFUSED',
    since: '11:48:00 UTC, for 12 min',
    'what to do': expect.stringMatching(/^See that the store runs.* metrics-fanout check /),
    'next attempt': 'in 12 s',
    'nothing is lost': 'until 2026-12-01 09:00 UTC: the stream still holds 21 h',
  });
  expect(await linesOf({ ...DOWN, nextAttempt: null })).toMatchObject({ 'next attempt': 'now' });
  expect(await linesOf({ ...DOWN, safeUntil: '2026-11-30T11:00:00.000Z' })).toMatchObject({
    'windows are lost': 'since 11:00 UTC: the stream deletes what it needs',
  });
  expect(await linesOf({ ...DOWN, safeUntil: null })).toMatchObject({
    'nothing is lost': 'as long as the stream holds it: it has no time limit',
  });
});

test('of a sink that somebody paused, and of one that catches up, it says until when that does no harm', async () => {
  const safe = { 'nothing is lost': 'until 2026-12-01 09:00 UTC: the stream still holds 21 h' };
  expect(await linesOf({ paused: true })).toMatchObject({ state: 'paused', ...safe });
  const catchUp = { windowsBehind: 7, windowsPerSecond: 1, secondsLeft: 7 };
  expect(await linesOf({ catchUp })).toMatchObject({ state: 'catching up', ...safe });
  expect(await linesOf({})).not.toMatchObject(safe);
});

test('of one thing, the word is in the singular', async () => {
  const catchUp = { windowsBehind: 0.5, windowsPerSecond: 1, secondsLeft: null };
  expect((await linesOf({ catchUp })).detail).toBe('1 window behind');
  const verified = { equal: 0, different: 1, unknown: 0, confirmed: 1, lastDifference: null, lastAt: null };
  const one = { ...verified, equal: 1, different: 0, confirmed: 0 };
  expect(await linesOf({ verified })).toMatchObject({ verified: '1 of 1 window (100 %): 1 differs' });
  expect(await linesOf({ verified: one })).toMatchObject({ verified: '1 window: all equal' });
});

test('while the service itself reads what is old, no sink is called healthy', async () => {
  const sink = sinkStatus({});
  const status = await statusOf([sink]);
  const cardAt = (lagSeconds: number) =>
    sinkCard(sink, { ...status, source: { ...status.source, lagSeconds } });
  expect(cardAt(29).state).toBe('healthy');
  expect(cardAt(720)).toMatchObject({
    state: 'catching up',
    tone: 'warn',
    detail: 'The service reads messages that are 12 min old',
  });
});

test('of a table that two sinks share, it does not advise to empty it', async () => {
  const lastFailure = { at: Date.UTC(2026, 10, 30, 11, 59), reason: 'shared_table', message: 'no' };
  const lines = await linesOf({ ...DOWN, state: 'stopped', lastFailure });
  expect(lines).toMatchObject({ 'what to do': expect.stringMatching(/another table.*verify.*replay/) });
  expect(JSON.stringify(lines)).not.toContain('empty');
});

test('a store that takes rows and no receipts is not healthy; one that never kept any is', async () => {
  const lastFailure = { at: Date.UTC(2026, 10, 30, 11, 59), message: 'no right.' };
  const failing = { state: 'failing', failures: 3, until: '2026-11-30T11:48:00.000Z', lastFailure } as const;
  const { state, detail } = await linesOf({ receipts: failing });
  expect([state, detail]).toEqual([
    'without receipts',
    'It takes rows, and no receipts since 11:48:00 UTC (no right.): nobody would notice that it was restored from a backup.',
  ]);
  expect(await linesOf({ receipts: { ...failing, until: null } })).toMatchObject({ state });
  const lost = { ...failing, state: 'none' } as const;
  expect(await linesOf({ receipts: lost })).toMatchObject({ state, receipts: 'it keeps none' });
  const never = { state: 'none', failures: 0, until: null, lastFailure: null } as const;
  expect(await linesOf({ receipts: never })).toMatchObject({ state: 'healthy', receipts: 'it keeps none' });
});

test('the headline says until when nothing is lost, and what reading the stores back has shown', async () => {
  const verified = { equal: 90, different: 0, unknown: 3, confirmed: 900, lastDifference: null };
  const well = sinkStatus({ id: 'a', verified: { ...verified, lastAt: '2026-11-30T11:59:48.000Z' } });
  const { headline, proof } = viewOf(await statusOf([well, sinkStatus({ ...DOWN, id: 'b' })]));
  expect(headline.text).toBe(
    'b is down. Nothing is lost until 2026-12-01 09:00 UTC: the stream still holds 21 h.',
  );
  expect(proof).toEqual({
    text: 'Verification: 90 of 900 windows (10 %): all equal, last look 12 s ago.',
    tone: 'good',
  });
  const bad = sinkStatus({
    id: 'b',
    verified: { ...verified, different: 2, lastAt: '2026-11-30T11:59:59.000Z' },
  });
  expect(viewOf(await statusOf([well, bad])).proof).toEqual({
    text: 'Verification: 182 of 1,800 windows (10.1 %): 2 differ, last look 1 s ago. Look at b.',
    tone: 'bad',
  });
  expect(viewOf(await statusOf([sinkStatus()])).proof.text).toBe(
    'Verification: no window was read back yet.',
  );
});

test('ctl status and compare say the same in sentences', async () => {
  const sink = sinkStatus(DOWN);
  const status = await statusOf([sinkStatus({ id: 'a' }), sink]);
  const text = troubleText(sink, status);
  expect(text).toMatch(
    /^pg is down\. Connection: ECONNREFUSED\. Down since 11:48:00 UTC, for 12 min\. What to do: See .* Next attempt: in 12 s\. Nothing is lost until [^:]*:\d\d UTC: the stream still holds 21 h\.$/,
  );
  expect(troubleText(status.sinks[0]!, status)).toBe('');
  const body = { instance: 'one', ok: true, result: status } as const;
  const shown = outcomesText(
    'status',
    [{ reply: { instance: 'one', via: 'bus', body } as never }],
    undefined,
  );
  expect(shown).toContain(text);
  expect(shown).toMatch(/ a +healthy /);
});

test('points that the store rejected are named by reason, with an example', async () => {
  const lastRejected = {
    at: '',
    reason: 'too_large',
    example: 'http.requests {app=api}',
    message: 'more than 400 KB',
  };
  expect(await linesOf({ rejected: { too_large: 3, refused: 1 }, lastRejected })).toMatchObject({
    rejected: '3 too large, 1 refused; the last: http.requests {app=api} (more than 400 KB)',
  });
});

test('a store that is down shows nothing from before', async () => {
  const before = { question: '', at: '2026-11-30T11:00:00.000Z', seconds: 0.001, rows: 1, error: null };
  const down = sinkStatus({
    ...DOWN,
    queries: { sums: before, windows: before, notAsked: null },
    failedWriteSeconds: { p50: 0.002, p90: 1, p99: 1 },
  });
  const status = await statusOf([down]);
  const texts = Object.fromEntries(
    comparisonOf(status).rows.map(({ what, cells }) => [what, cells[0]!.text]),
  );
  expect(texts).toMatchObject({
    'query: sums': '–',
    'query: windows': '–',
    'write p99': '–',
    'failed write p50': '2 ms',
  });
  const history = new History(['pg']);
  history.add(momentOf(status));
  expect(history.charts.columns).toMatchObject({ 'write:pg': [null], 'asked50:pg': [null] });
});

test('the best value of a row is marked, and the others say how many times they are that', () => {
  const of = (...values: (number | undefined)[]) =>
    rankedCells(
      values.map((value) => ({
        text: '',
        note: '',
        tone: 'plain',
        ...(value === undefined ? {} : { value }),
      })),
    ).map(({ best, factor }) => (best ? 'best' : (factor ?? '')));
  expect(of(2, 1, 30.4)).toEqual(['2.0×', 'best', '30×']);
  expect(of(1.04, undefined, 1)).toEqual(['best', '', 'best']);
  expect(of(5, undefined)).toEqual(['', '']);
  expect(of(0, 3)).toEqual(['best', '> 999×']);
  expect(of()).toEqual([]);
});

test('for every reason for which a store refuses, it says what an operator does', async () => {
  for (const reason of REFUSE_REASONS) {
    const lastFailure = { at: Date.UTC(2026, 10, 30, 11, 59), reason, message: 'no' };
    const { 'what to do': todo } = (await linesOf({ ...DOWN, lastFailure })) as Record<string, string>;
    expect(todo, reason).toMatch(/^(Correct|Make|Change) .*\. metrics-fanout check tries a write/);
  }
});

test('where sinks in trouble have lines of their own, the headline counts them, and tells nothing twice', async () => {
  const status = await statusOf([sinkStatus({ id: 'a' }), sinkStatus({ id: 'b', paused: true })]);
  expect(briefHeadline(status)).toBe('1 of 2 sinks is healthy.');
  expect(briefHeadline(await statusOf([sinkStatus()]))).toBe('The sink is healthy.');
  const lost = { ...status, bus: { ...status.bus, connected: false } };
  expect(briefHeadline(lost)).toBe(viewOf(lost).headline.text);
});

test('where attempts failed, a note says what counts as an error and what as a retry', async () => {
  const noteOf = async (retries: SinkStatus['retries']) =>
    notesOf(await statusOf([sinkStatus({ retries })])).filter((note) =>
      note.startsWith('errors and retries'),
    );
  expect(await noteOf({})).toEqual([]);
  expect(await noteOf({ timeout: 0 })).toEqual([]);
  expect(await noteOf({ unauthorized: 8 })).toHaveLength(1);
});

test('what happened and what to do about it are two sentences', () => {
  const said = (message: string, advice: string) =>
    withAdvice(new SinkError('unauthorized', message, advice));
  expect(said('the password is wrong', 'Set it.')).toBe('the password is wrong. Set it.');
  expect(said('The password is wrong.', 'Set it.')).toBe('The password is wrong. Set it.');
  expect(said('the password is wrong', '')).toBe('the password is wrong');
});
