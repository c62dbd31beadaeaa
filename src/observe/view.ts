/** Puts a status into words, which the page, `compare` and the report only display. Pure. */

import {
  amount,
  byReason,
  counted,
  NO_VALUE,
  percent,
  perSecond,
  seconds,
  total,
} from '../base/number-format.ts';
import type { WatchStatus } from '../bus/read/watch.ts';
import { comparisonOf, notesOf, type SinkComparison } from './comparison.ts';
import { inputRemarks } from './input-remarks.ts';
import { minuteTime, type SinkCard, sinkCard, type Tone, verifiedText } from './sink-card.ts';
import type { Counts, SinkStatus, Status } from './status.ts';

/** One figure. `note` adds detail, or is empty. */
export interface Fact {
  readonly what: string;
  readonly text: string;
  readonly tone: Tone;
  readonly note: string;
}

export interface View {
  readonly headline: { readonly text: string; readonly tone: Tone };
  /** What reading the stores back has shown. */
  readonly proof: { readonly text: string; readonly tone: Tone };
  readonly source: readonly Fact[];
  readonly cards: readonly SinkCard[];
  readonly comparison: SinkComparison;
  /** The queries, and what the estimates assume. */
  readonly notes: readonly string[];
  readonly status: Status;
}

export function viewOf(status: Status): View {
  return {
    headline: headline(status),
    proof: proof(status),
    source: sourceFacts(status),
    cards: status.sinks.map((sink) => sinkCard(sink, status)),
    comparison: comparisonOf(status),
    notes: notesOf(status),
    status,
  };
}

/** What it says of the sinks is followed by what producers sent that is not in them: it is nobody's alarm else. */
function headline(status: Status): View['headline'] {
  const { text, tone } = stateOf(status);
  const remarks = inputRemarks(status);
  if (remarks.length === 0) return { text, tone };
  return { text: [text, ...remarks].join(' '), tone: tone === 'good' ? 'warn' : tone };
}

/** For where each sink in trouble has lines of its own: the headline then only counts them. */
export function briefHeadline(status: Status): string {
  const isReading = status.ready && !status.detached && status.bus.connected;
  const well = status.sinks.filter((sink) => sinkCard(sink, status).tone === 'good').length;
  const all = status.sinks.length;
  if (!isReading || status.source.unfit || well === all) return headline(status).text;
  return [
    `${well} of ${counted(all, 'sink')} ${well === 1 ? 'is' : 'are'} healthy.`,
    ...inputRemarks(status),
  ].join(' ');
}

/** How the service is, and its sinks. */
export function stateOf(status: Status): View['headline'] {
  if (status.detached)
    return { text: 'Detached from the bus. Nothing is read until somebody attaches it.', tone: 'warn' };
  if (!status.bus.connected) {
    return { text: 'The bus cannot be reached. Nothing is read until it is back.', tone: 'bad' };
  }
  if (status.source.unproven)
    return { text: 'The stream was replaced, and has delivered no message yet.', tone: 'bad' };
  // Absent in what an older version says.
  if (status.source.unfit)
    return {
      text: `Somebody changed the stream, and messages get lost: ${status.source.unfit}.`,
      tone: 'bad',
    };
  if (!status.ready) {
    // Absent in what an older version says.
    const why = status.notReadyBecause ?? 'not reading';
    return { text: `Connected to the bus, but not ready: ${why}.`, tone: 'warn' };
  }
  const cards = status.sinks.map((sink) => sinkCard(sink, status));
  const bad = cards.filter(({ tone }) => tone === 'bad').map(({ id, state }) => `${id} is ${state}`);
  const busy = cards.filter(({ tone }) => tone === 'warn').map(({ id, state }) => `${id} is ${state}`);
  const troubles = [...bad, ...busy];
  if (troubles.length > 0)
    return { text: `${troubles.join(', ')}.${lossText(status)}`, tone: bad.length > 0 ? 'bad' : 'warn' };
  return {
    text: cards.length === 1 ? 'The sink is healthy.' : `All ${counted(cards.length, 'sink')} are healthy.`,
    tone: 'good',
  };
}

/** Until when nothing is lost, for the first sink that would lose something. */
function lossText({ sinks, now }: Status): string {
  const owed = sinks.filter(({ up, paused, state }) => !up || paused || state === 'stopped');
  const [first] = owed.flatMap(({ safeUntil }) => safeUntil ?? []).sort();
  if (first === undefined) return '';
  const leftSeconds = (Date.parse(first) - Date.parse(now)) / 1000;
  return leftSeconds > 0
    ? ` Nothing is lost until ${minuteTime(first, now)}: the stream still holds ${seconds(leftSeconds)}.`
    : ' Windows are being lost: the stream no longer holds what is needed.';
}

/** Over all sinks. */
function proof({ sinks, now }: Status): View['proof'] {
  const add = (of: (sink: SinkStatus) => number) => sinks.reduce((all, sink) => all + of(sink), 0);
  const equal = add(({ verified }) => verified.equal);
  const different = add(({ verified }) => verified.different);
  if (equal + different === 0) return { text: 'Verification: no window was read back yet.', tone: 'plain' };
  // Absent in what an older version says.
  const confirmed = add((sink) => sink.verified.confirmed ?? 0);
  const lastAt =
    sinks
      .flatMap(({ verified }) => verified.lastAt ?? [])
      .sort()
      .at(-1) ?? null;
  const text = verifiedText({ equal, different, confirmed, lastAt }, now);
  const where = sinks.filter(({ verified }) => verified.different > 0).map(({ id }) => id);
  return different > 0
    ? { text: `Verification: ${text}. Look at ${where.join(', ')}.`, tone: 'bad' }
    : { text: `Verification: ${text}.`, tone: 'good' };
}

/** What the stream did not store, of what was heard on the bus. */
function unstoredFact({ state, heard, unstored, unknown }: WatchStatus): Fact {
  switch (state) {
    case 'off':
      return fact('unstored', NO_VALUE, 'nobody watches the bus');
    case 'forbidden':
      return fact('unstored', NO_VALUE, 'the bus does not permit to listen', 'warn');
    case 'watching':
      if (heard === 0 && unknown !== null) return fact('unstored', NO_VALUE, `unknown: ${unknown}`, 'warn');
      return heard === 0
        ? fact('unstored', NO_VALUE, 'nothing heard on the bus yet')
        : fact('unstored', amount(unstored), `of ${amount(heard)} heard`, unstored > 0 ? 'bad' : 'plain');
    default:
      return state satisfies never;
  }
}

function sourceFacts({ messages, samples, source, windows, bus }: Status): Fact[] {
  const rejected = total(messages.rejected) + total(samples.rejected);
  const allSamples = total(samples.perSecond);
  return [
    fact('messages', perSecond(messages.perSecond), `${amount(messages.received)} since the start`),
    fact('samples', perSecond(allSamples), byType(samples.perSecond)),
    fact('late', percent(samples.lateShare), `${amount(samples.late)} since the start`),
    fact('pending', amount(source.pendingMessages), 'messages not read yet'),
    fact(
      'reading lag',
      seconds(source.lagSeconds),
      'behind the stream',
      source.lagSeconds > 5 ? 'warn' : 'plain',
    ),
    fact(
      'rejected',
      amount(rejected),
      byReason(sum(messages.rejected, samples.rejected)),
      rejected > 0 ? 'warn' : 'plain',
    ),
    fact(
      'gaps',
      amount(source.gaps),
      counted(source.gapMessages, 'message'),
      source.gaps > 0 ? 'bad' : 'plain',
    ),
    unstoredFact(source.watch),
    fact(
      'series',
      amount(windows.series),
      `windows of ${seconds(windows.windowMs / 1000)}, ${windows.open} open`,
    ),
    fact(
      'bus',
      bus.connected ? 'up' : 'down',
      counted(bus.reconnects, 'reconnect'),
      bus.connected ? 'good' : 'bad',
    ),
  ];
}

function fact(what: string, text: string, note = '', tone: Tone = 'plain'): Fact {
  return { what, text, note, tone };
}

function byType(perType: Counts): string {
  return Object.entries(perType)
    .map(([type, rate]) => `${type} ${amount(rate)}`)
    .join(', ');
}

function sum(a: Counts, b: Counts): Counts {
  const reasons = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries(Array.from(reasons, (reason) => [reason, (a[reason] ?? 0) + (b[reason] ?? 0)]));
}
