/** The sinks side by side: what the page, `compare` and the report show of them. Pure. */
import {
  amount,
  byReason,
  bytes,
  counted,
  dollars,
  NO_VALUE,
  perSecond,
  seconds,
  total,
} from '../base/number-format.ts';
import type { QueryResult } from '../probe/probes.ts';
import { isRefusal } from '../sink/contract.ts';
import { rejectionsExplained } from './input-remarks.ts';
import { clockTime, sinkCard, type Tone, unchosenText, verifiedText } from './sink-card.ts';
import type { Counts, SinkStatus, Status } from './status.ts';

export interface ComparedCell {
  readonly text: string;
  /** Adds detail, or is empty. */
  readonly note: string;
  readonly tone: Tone;
  /** The best value of its row, where one is better than another. */
  readonly best?: boolean;
  /**
   * How many times the best value, such as `3.1×`; absent if it is that, or if there is nothing to compare. Or why the
   * value is not compared: `other names`, `other windows`, or the state of a sink that has not all windows.
   */
  readonly factor?: string;
  /** With it, the lowest of the row is the best. */
  readonly value?: number;
  /** Of a figure that depends on which names the sink gets: these names; empty: all. */
  readonly names?: string;
  /** Of a figure that depends on how long its windows are: that, in ms. */
  readonly windowMs?: number;
  /** Of a figure that says nothing beside the others while the sink is in this state. */
  readonly apart?: string;
}

export interface SinkComparison {
  readonly sinks: readonly string[];
  readonly rows: readonly { readonly what: string; readonly cells: readonly ComparedCell[] }[];
}

/** A healthy sink confirms a window soon after its end. A lag of more windows than this deserves attention. */
const LAG_WINDOWS = 3;
const LAG_GRACE_SECONDS = 5;
/** A value that is less than this many times the best one is as good. */
const AS_GOOD = 1.05;
/** A larger factor is the same news. */
const MAX_FACTOR = 999;

type Cell = ComparedCell;

const cell = (text: string, note = '', tone: Tone = 'plain'): Cell => ({ text, note, tone });
/** A value of which less is better, if it is known. */
const ranked = (value: number | null | undefined, show: (value: number) => string, note = ''): Cell =>
  value === null || value === undefined ? cell(NO_VALUE) : { ...cell(show(value), note), value };
const countCell = (count: number, note: string, tone: Tone): Cell =>
  cell(amount(count), note, count > 0 ? tone : 'plain');

function only(counts: Counts, keep: (reason: string) => boolean): Counts {
  return Object.fromEntries(Object.entries(counts).filter(([reason]) => keep(reason)));
}

const MAX_NAMES_CHARACTERS = 24;
/** Of a figure that is not compared with the others of its row. */
const OTHER_NAMES = 'other names';
const OTHER_WINDOWS = 'other windows';

/** The names that a sink gets, as text; empty: all. They are absent in what an older version says. */
export const namesText = ({ names }: SinkStatus) => [...(names ?? [])].sort().join(', ');

/** An older service does not tell. */
const windowOf = ({ windowMs }: SinkStatus, { windows }: Status) => windowMs ?? windows.windowMs;

/** A figure that depends on how many rows of a series the store holds. */
const ofRows =
  (of: (sink: SinkStatus, status: Status) => Cell) =>
  (sink: SinkStatus, status: Status): Cell => ({ ...of(sink, status), windowMs: windowOf(sink, status) });

/** A figure that depends on how many points the sink gets. */
const ofPoints =
  (of: (sink: SinkStatus, status: Status) => Cell) =>
  (sink: SinkStatus, status: Status): Cell => ({ ...ofRows(of)(sink, status), names: namesText(sink) });

function namesCell(sink: SinkStatus): Cell {
  const text = namesText(sink);
  if (text === '') return cell('all');
  const short = text.length > MAX_NAMES_CHARACTERS ? `${text.slice(0, MAX_NAMES_CHARACTERS)}…` : text;
  return cell(short, `it gets only names that ${text} choose`);
}

const WRITES = 'writes that the store took in the last half to whole minute';
const FAILED = 'writes that failed in the last half to whole minute';
/** Before so many rows, a store may have put nothing on its disk yet. */
const STORED_ROWS = 1000;
const BYTES_PER_ROW = 'what the storage grew by since the start, for each row written';
const ATTEMPTS =
  'errors and retries: attempts that failed, each tried again; errors are those that the store refused, which an operator must help (credentials, a missing table), retries pass by themselves';
const askedText = (asked: SinkStatus['querySeconds'] | undefined) =>
  asked ? `${counted(asked.count, 'answer')} to both questions, over ${seconds(asked.overSeconds)}` : '';

/** The rows of the comparison, in display order. */
const ROWS: readonly (readonly [what: string, of: (sink: SinkStatus, status: Status) => Cell])[] = [
  [
    'state',
    (sink, status) => {
      const { state, tone, detail } = sinkCard(sink, status);
      return cell(state, detail, tone);
    },
  ],
  ['names', namesCell],
  [
    'lag',
    (sink, status) =>
      sink.lagSeconds === null
        ? cell(NO_VALUE, 'not known: its checkpoint cannot be read', 'warn')
        : cell(seconds(sink.lagSeconds), 'since the end of the last confirmed window', lagTone(sink, status)),
  ],
  [
    'window',
    (sink, status) => cell(seconds(windowOf(sink, status) / 1000), 'a row for each series and window'),
  ],
  [
    'points',
    ofPoints((sink) =>
      cell(
        perSecond(sink.pointsPerSecond),
        `over ${sink.rateSeconds} s; ${amount(sink.written)} since the start`,
      ),
    ),
  ],
  [
    'bytes',
    ofPoints((sink) =>
      cell(`${bytes(sink.bytesPerSecond)}/s`, `before encoding; ${bytes(sink.writtenBytes)} since the start`),
    ),
  ],
  ['write p50', ofPoints(({ writeSeconds }) => ranked(writeSeconds?.p50, seconds, WRITES))],
  ['write p90', ofPoints(({ writeSeconds }) => ranked(writeSeconds?.p90, seconds, WRITES))],
  ['write p99', ofPoints(({ writeSeconds }) => ranked(writeSeconds?.p99, seconds, WRITES))],
  [
    'failed write p50',
    ({ failedWriteSeconds: failed }) => (failed ? cell(seconds(failed.p50), FAILED, 'warn') : cell(NO_VALUE)),
  ],
  [
    'errors',
    ({ retries }) => countCell(total(only(retries, isRefusal)), byReason(only(retries, isRefusal)), 'bad'),
  ],
  [
    'retries',
    ({ retries }) => {
      const transient = only(retries, (reason) => !isRefusal(reason));
      return countCell(total(transient), byReason(transient), 'warn');
    },
  ],
  ['backlog', (sink) => cell(counted(sink.backlogPoints, 'point'), bytes(sink.backlogBytes))],
  [
    'points rejected',
    ({ rejected, lastRejected }) => {
      const example = lastRejected ? `; the last: ${lastRejected.example} (${lastRejected.message})` : '';
      return countCell(total(rejected), `${byReason(rejected)}${example}`, 'warn');
    },
  ],
  ['dropped', ({ dropped }) => countCell(dropped, 'in core mode only', 'bad')],
  [
    'verified equal',
    ({ verified }, { now }) =>
      cell(
        amount(verified.equal),
        `${verifiedText(verified, now)}; ${amount(verified.unknown)} could not be judged`,
      ),
  ],
  [
    'verified different',
    ({ verified }) => countCell(verified.different, verified.lastDifference ?? '', 'bad'),
  ],
  ['query: sums', ofRows((sink) => queryCell(sink, sink.queries.sums))],
  ['query: windows', ofRows((sink) => queryCell(sink, sink.queries.windows))],
  ['queries p50', ofRows(({ querySeconds }) => ranked(querySeconds?.p50, seconds, askedText(querySeconds)))],
  ['queries p95', ofRows(({ querySeconds }) => ranked(querySeconds?.p95, seconds, askedText(querySeconds)))],
  ['storage', ofPoints(storageCell)],
  ['bytes per row', ofPoints(({ bytesPerRow }) => ranked(bytesPerRow, bytes, BYTES_PER_ROW))],
  ['cost per month', ofPoints(costCell)],
  ['store', ({ kind, version, address }) => cell(version ?? kind, address ?? '')],
];

/** The states of sinks that get every window when it closes. */
const CURRENT: readonly string[] = ['healthy', 'without receipts'];

/** Of a sink that lacks windows, or writes at another rate than usual: its state; undefined for others. */
function unlikeOthers(sink: SinkStatus, status: Status): string | undefined {
  const { state } = sinkCard(sink, status);
  return CURRENT.includes(state) ? undefined : state;
}

/** A store that takes nothing at present would seem to cost nothing. */
function costCell(sink: SinkStatus, status: Status): Cell {
  const state = unlikeOthers(sink, status);
  if (state !== undefined) return cell(NO_VALUE, `it is ${state}: its present rate says nothing of a month`);
  return ranked(sink.cost.usdPerMonth, dollars, sink.cost.assumption);
}

/** A store that lacks rows would seem to need less room. */
function storageCell(sink: SinkStatus, status: Status): Cell {
  const { storedBytes, written } = sink;
  const apart = unlikeOthers(sink, status);
  if (storedBytes === null || written >= STORED_ROWS)
    return { ...ranked(storedBytes, bytes), ...(apart === undefined ? {} : { apart }) };
  return cell(bytes(storedBytes), `not compared before ${amount(STORED_ROWS)} rows are written`);
}

/** What a store that is down answered before says nothing about now. */
function queryCell({ up, queries }: SinkStatus, result: QueryResult | null): Cell {
  // Absent in what an older version says.
  if (queries.notAsked) return cell('not asked', queries.notAsked);
  if (result === null || !up) return cell(NO_VALUE);
  const { seconds: taken, rows, error, question } = result;
  if (taken === null) return cell('no answer', error ?? '', 'warn');
  return ranked(taken, seconds, `${counted(rows ?? 0, 'row')} at ${clockTime(result.at)}; ${question}`);
}

/**
 * Returns why something is rejected, the queries, which sinks get some names only, and the assumption behind each cost:
 * sinks with the same one share a note. If there were failures, also what they count as.
 */
export function notesOf({ sinks, messages, samples }: Status): string[] {
  const asked = (['sums', 'windows'] as const).flatMap((kind) => {
    const [latest] = sinks
      .flatMap(({ queries }) => queries[kind] ?? [])
      .sort((a, b) => (a.at < b.at ? 1 : -1));
    return latest === undefined ? [] : [`query, ${kind}: ${latest.question}`];
  });
  const notAsked = sinks.flatMap(({ id, queries }) =>
    queries.notAsked ? [`${id} is not asked: ${queries.notAsked}`] : [],
  );
  const names = sinks.flatMap((sink) => {
    const text = namesText(sink);
    const apart = `what depends on that (${OTHER_NAMES}) is not compared with sinks that get others`;
    const nothing = unchosenText(sink);
    if (nothing !== '') return [`${sink.id} gets nothing: ${nothing}`];
    return text === '' ? [] : [`${sink.id} gets only names that ${text} choose: ${apart}`];
  });
  const assumptions = Map.groupBy(sinks, ({ cost }) => cost.assumption);
  const costs = Array.from(assumptions, ([assumption, some]) => {
    return `cost of ${some.map(({ id }) => id).join(', ')}: ${assumption}`;
  });
  const isTried = sinks.some(({ retries }) => total(retries) > 0);
  const rejected = rejectionsExplained(messages.rejected, samples.rejected).map(
    (text) => `rejected, ${text}`,
  );
  return [...rejected, ...asked, ...notAsked, ...names, ...costs, ...(isTried ? [ATTEMPTS] : [])];
}

function lagTone({ lagSeconds, windowMs }: SinkStatus, { windows }: Status): Tone {
  const own = windowMs > windows.windowMs ? windowMs : 0;
  const expected = (own + LAG_WINDOWS * windows.windowMs + windows.latenessMs) / 1000 + LAG_GRACE_SECONDS;
  return (lagSeconds ?? 0) > expected ? 'warn' : 'plain';
}

/** Of the sinks of one or more services. */
export function comparisonOf(...all: readonly Status[]): SinkComparison {
  const sinks = all.flatMap((status) => status.sinks.map((sink) => ({ sink, status })));
  const isShown: Readonly<Record<string, boolean>> = {
    dropped: all.some(({ source }) => source.kind === 'core'),
    names: sinks.some(({ sink }) => namesText(sink) !== ''),
    window: new Set(sinks.map(({ sink, status }) => windowOf(sink, status))).size > 1,
  };
  return {
    sinks: sinks.map(({ sink }) => sink.id),
    rows: ROWS.filter(([what]) => isShown[what] ?? true).map(([what, of]) => ({
      what,
      cells: rankedCells(sinks.map(({ sink, status }) => of(sink, status))),
    })),
  };
}

/**
 * Marks the best value of a row, and says of the others how many times that they are. If it depends on the names that a
 * sink gets, and these differ, only sinks that get all are compared; if on its windows, only those with the shortest.
 */
export function rankedCells(cells: readonly Cell[]): ComparedCell[] {
  const isMixed = new Set(cells.map(({ names }) => names)).size > 1;
  const shortest = Math.min(...cells.flatMap(({ windowMs }) => windowMs ?? []));
  const apartBy = ({ names = '', windowMs = shortest, apart }: Cell) =>
    isMixed && names !== '' ? OTHER_NAMES : windowMs > shortest ? OTHER_WINDOWS : apart;
  const values = cells.flatMap((one) => (apartBy(one) === undefined ? (one.value ?? []) : []));
  const best = values.length > 1 ? Math.min(...values) : Number.NaN;
  return cells.map(({ best: _, factor: __, ...shown }) => {
    const { value } = shown;
    const factorless = apartBy(shown);
    if (factorless !== undefined) return shown.text === NO_VALUE ? shown : { ...shown, factor: factorless };
    if (value === undefined || Number.isNaN(best)) return shown;
    if (value <= best * AS_GOOD) return { ...shown, best: true };
    const factor = best > 0 ? value / best : Number.POSITIVE_INFINITY;
    const text = factor > MAX_FACTOR ? `> ${MAX_FACTOR}×` : `${factor.toFixed(factor < 10 ? 1 : 0)}×`;
    return { ...shown, factor: text };
  });
}
