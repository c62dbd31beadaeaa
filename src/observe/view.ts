/** Puts a status into words, which the page, `compare` and the report only display. Pure. */

import {
  amount,
  byReason,
  bytes,
  dollars,
  NO_VALUE,
  percent,
  perSecond,
  seconds,
  total,
} from '../base/number-format.ts';
import type { WatchStatus } from '../bus/read/watch.ts';
import type { QueryResult } from '../probe/probes.ts';
import { isRefusal } from '../sink/contract.ts';
import type { Counts, SinkStatus, Status } from './status.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'plain';

/** One figure. `note` adds detail, or is empty. */
export interface Fact {
  readonly what: string;
  readonly text: string;
  readonly tone: Tone;
  readonly note: string;
}

export interface SinkCard {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly tone: Tone;
  readonly detail: string;
}

/** The sinks side by side. */
export interface SinkComparison {
  readonly sinks: readonly string[];
  readonly rows: readonly { readonly what: string; readonly cells: readonly Omit<Fact, 'what'>[] }[];
}

export interface View {
  readonly headline: { readonly text: string; readonly tone: Tone };
  readonly source: readonly Fact[];
  readonly cards: readonly SinkCard[];
  readonly comparison: SinkComparison;
  /** The queries, and what the estimates assume. */
  readonly notes: readonly string[];
  readonly status: Status;
}

/** A healthy sink confirms a window soon after its end. A lag of more windows than this deserves attention. */
const LAG_WINDOWS = 3;
const LAG_GRACE_SECONDS = 5;

export function viewOf(status: Status): View {
  return {
    headline: headline(status),
    source: sourceFacts(status),
    cards: status.sinks.map(sinkCard),
    comparison: comparisonOf(status),
    notes: notesOf(status),
    status,
  };
}

function headline(status: Status): View['headline'] {
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
  if (!status.ready) return { text: 'Connected to the bus, but not reading.', tone: 'warn' };
  const cards = status.sinks.map(sinkCard);
  const bad = cards.filter(({ tone }) => tone === 'bad').map(({ id, state }) => `${id} is ${state}`);
  const busy = cards.filter(({ tone }) => tone === 'warn').map(({ id, state }) => `${id} is ${state}`);
  const troubles = [...bad, ...busy];
  if (troubles.length > 0) return { text: `${troubles.join(', ')}.`, tone: bad.length > 0 ? 'bad' : 'warn' };
  return {
    text: cards.length === 1 ? 'The sink is healthy.' : `All ${cards.length} sinks are healthy.`,
    tone: 'good',
  };
}

/** `at` is RFC 3339 text, or ms since 1970. */
function clockTime(at: string | number | undefined): string {
  return at === undefined ? NO_VALUE : `${new Date(at).toISOString().slice(11, 19)} UTC`;
}

export function sinkCard(sink: SinkStatus): SinkCard {
  const { id, kind, lastFailure, catchUp } = sink;
  // A third-party sink may have left out the reason.
  const failure =
    lastFailure === null ? '' : `${String(lastFailure.reason).replaceAll('_', ' ')}: ${lastFailure.message}`;
  const card = (state: string, tone: Tone, detail: string): SinkCard => ({ id, kind, state, tone, detail });
  if (sink.paused) return card('paused', 'warn', 'Nothing is written until somebody resumes it.');
  if (sink.state === 'stopped') return card('stopped', 'bad', failure);
  if (!sink.up && failure === '') return card('connecting', 'warn', 'No answer from the store yet.');
  if (!sink.up) return card('down', 'bad', failure);
  if (catchUp !== null) {
    const left = catchUp.secondsLeft === null ? '' : `, about ${seconds(catchUp.secondsLeft)} left`;
    return card('catching up', 'warn', `${amount(Math.ceil(catchUp.windowsBehind))} windows behind${left}`);
  }
  return card(
    'healthy',
    'good',
    failure === '' ? 'No failure so far.' : `Last failure at ${clockTime(lastFailure?.at)}: ${failure}`,
  );
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
      `${amount(source.gapMessages)} messages`,
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
      `${bus.reconnects} reconnects`,
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

type Cell = Omit<Fact, 'what'>;

const cell = (text: string, note = '', tone: Tone = 'plain'): Cell => ({ text, note, tone });
const latency = (value: number | undefined): Cell => cell(value === undefined ? NO_VALUE : seconds(value));
const counted = (count: number, note: string, tone: Tone): Cell =>
  cell(amount(count), note, count > 0 ? tone : 'plain');

function only(counts: Counts, keep: (reason: string) => boolean): Counts {
  return Object.fromEntries(Object.entries(counts).filter(([reason]) => keep(reason)));
}

/** The rows of the comparison, in display order. */
const ROWS: readonly (readonly [what: string, of: (sink: SinkStatus, status: Status) => Cell])[] = [
  [
    'state',
    (sink) => {
      const { state, tone, detail } = sinkCard(sink);
      return cell(state, detail, tone);
    },
  ],
  [
    'lag',
    (sink, status) =>
      cell(seconds(sink.lagSeconds), 'since the end of the last confirmed window', lagTone(sink, status)),
  ],
  [
    'points',
    (sink) =>
      cell(
        perSecond(sink.pointsPerSecond),
        `over ${sink.rateSeconds} s; ${amount(sink.written)} since the start`,
      ),
  ],
  [
    'bytes',
    (sink) =>
      cell(`${bytes(sink.bytesPerSecond)}/s`, `before encoding; ${bytes(sink.writtenBytes)} since the start`),
  ],
  ['write p50', (sink) => latency(sink.writeSeconds?.p50)],
  ['write p90', (sink) => latency(sink.writeSeconds?.p90)],
  ['write p99', (sink) => latency(sink.writeSeconds?.p99)],
  [
    'errors',
    ({ retries }) => counted(total(only(retries, isRefusal)), byReason(only(retries, isRefusal)), 'bad'),
  ],
  [
    'retries',
    ({ retries }) => {
      const transient = only(retries, (reason) => !isRefusal(reason));
      return counted(total(transient), byReason(transient), 'warn');
    },
  ],
  ['backlog', (sink) => cell(`${amount(sink.backlogPoints)} points`, bytes(sink.backlogBytes))],
  ['rejected', ({ rejected }) => counted(total(rejected), byReason(rejected), 'warn')],
  ['dropped', ({ dropped }) => counted(dropped, 'in core mode only', 'bad')],
  [
    'verified equal',
    ({ verified }) =>
      cell(amount(verified.equal), `windows; ${amount(verified.unknown)} could not be judged`),
  ],
  ['verified different', ({ verified }) => counted(verified.different, verified.lastDifference ?? '', 'bad')],
  ['query: sums', ({ queries }) => queryCell(queries.sums)],
  ['query: windows', ({ queries }) => queryCell(queries.windows)],
  ['storage', ({ storedBytes }) => cell(storedBytes === null ? NO_VALUE : bytes(storedBytes))],
  [
    'cost per month',
    ({ cost }) => cell(cost.usdPerMonth === null ? NO_VALUE : dollars(cost.usdPerMonth), cost.assumption),
  ],
];

function queryCell(result: QueryResult | null): Cell {
  if (result === null) return cell(NO_VALUE);
  const { seconds: taken, rows, error, question } = result;
  if (taken === null) return cell('no answer', error ?? '', 'warn');
  return cell(seconds(taken), `${amount(rows ?? 0)} rows at ${clockTime(result.at)}; ${question}`);
}

/** Returns the queries, and the assumption behind each cost. Sinks with the same assumption share a note. */
export function notesOf({ sinks }: Status): string[] {
  const asked = (['sums', 'windows'] as const).flatMap((kind) => {
    const [latest] = sinks
      .flatMap(({ queries }) => queries[kind] ?? [])
      .sort((a, b) => (a.at < b.at ? 1 : -1));
    return latest === undefined ? [] : [`query, ${kind}: ${latest.question}`];
  });
  const assumptions = Map.groupBy(sinks, ({ cost }) => cost.assumption);
  const costs = Array.from(assumptions, ([assumption, some]) => {
    return `cost of ${some.map(({ id }) => id).join(', ')}: ${assumption}`;
  });
  return [...asked, ...costs];
}

function lagTone({ lagSeconds }: SinkStatus, { windows }: Status): Tone {
  const expected = (LAG_WINDOWS * windows.windowMs + windows.latenessMs) / 1000 + LAG_GRACE_SECONDS;
  return lagSeconds > expected ? 'warn' : 'plain';
}

export function comparisonOf(status: Status): SinkComparison {
  return {
    sinks: status.sinks.map(({ id }) => id),
    rows: ROWS.filter(([what]) => what !== 'dropped' || status.source.kind === 'core').map(([what, of]) => ({
      what,
      cells: status.sinks.map((sink) => of(sink, status)),
    })),
  };
}
