/** The report of `verify`, as JSON and as text. */

import { counted } from '../base/number-format.ts';
import { printable, printableJson } from '../base/printable.ts';
import type { NameChoice } from '../bus/kv/checkpoints.ts';
import { holdingFrom } from '../deliver/name-choices.ts';
import { lostInWords, notHeldInWords } from '../deliver/replay/recompute-range.ts';
import type { WindowRange } from '../sink/contract.ts';
import { describeDifference, type RowDifference } from '../verify/rows.ts';
import type { WindowVerdict } from '../verify/verdict.ts';
import { type Cell, renderTable } from './terminal/table.ts';
import { differencesInWords } from './verify-words.ts';

export interface SinkFindings {
  readonly id: string;
  /** The windows that were judged. */
  readonly range: WindowRange;
  /** The length of its windows, if it has windows of its own. */
  readonly windowMs?: number | undefined;
  /** Start of the first window that the sink ever got, in ms since 1970, if known. */
  readonly began: number | undefined;
  /** Since when it keeps rows, if it deletes older ones. */
  readonly keptFrom: number | undefined;
  /** Which names it gets, and got; undefined if all. */
  readonly names?: readonly NameChoice[] | undefined;
  /** Before this time, it is not known which names it got; undefined if it is. */
  readonly namesKnownFrom?: number | undefined;
  /** Requested windows that the stream no longer holds whole: their truth cannot be known. */
  readonly lost: number;
  /** Without --from: earlier windows that it got, and that the stream no longer holds; undefined if nobody knows. */
  readonly notHeld: number | undefined;
  /** Windows after the range. */
  readonly unconfirmed: number;
  /** See `JudgedRange`. */
  readonly without?: WindowRange | undefined;
  readonly cut?: number | undefined;
  /** Undefined if the range is empty. */
  readonly verdict: WindowVerdict | undefined;
}

export interface Report {
  readonly equal: boolean;
  /** False if neither the stream nor a store has a series of the name that was asked for. */
  readonly matched: boolean;
  readonly sinks: readonly SinkReport[];
}

interface SinkReport {
  readonly sink: string;
  readonly from: string;
  /** Exclusive. */
  readonly to: string;
  /** The length of its own windows, which are judged and counted; null if it has those of the pipeline. */
  readonly windowMs: number | null;
  readonly windows: WindowVerdict['windows'] & {
    readonly unconfirmed: number;
    /** Of those before `from`: not among the unknown. */
    readonly notHeld: number | null;
  };
  readonly rows: WindowVerdict['rows'];
  /** Why windows are unknown, and other remarks. */
  readonly remarks: readonly string[];
  readonly examples: readonly RowDifference[];
}

const NOTHING: WindowVerdict = {
  windows: { equal: 0, different: 0, notOwed: 0, unknown: 0 },
  rows: { equal: 0, missing: 0, extra: 0, different: 0 },
  reasons: [],
  examples: [],
};

const WINDOWS = ['sink', 'windows', 'equal', 'different', 'not owed', 'unknown'];
const ROWS = ['sink', 'rows equal', 'missing', 'extra', 'different'];

/** `unmatched`: the name that was asked for, if neither the stream nor a store has such a series. */
export function reportOf(findings: readonly SinkFindings[], unmatched?: string): Report {
  const nothing = unmatched === undefined ? [] : [`no series matches ${unmatched}`];
  const sinks = findings.map(toReport).map((sink) => ({ ...sink, remarks: [...sink.remarks, ...nothing] }));
  const matched = unmatched === undefined;
  return { equal: matched && sinks.every(isEqual), matched, sinks };
}

function toReport({
  id,
  range,
  windowMs,
  began,
  keptFrom,
  names,
  namesKnownFrom,
  lost,
  notHeld,
  unconfirmed,
  without,
  cut,
  verdict = NOTHING,
}: SinkFindings): SinkReport {
  const { windows, rows, reasons, examples } = verdict;
  const remarks = [...reasons];
  if (lost > 0) remarks.push(lostInWords({ from: range.from, lost }));
  if (notHeld !== 0) remarks.push(`${notHeldInWords(range.from, notHeld)}: they are not judged`);
  remarks.push(...emptyRemarks({ range, lost, unconfirmed, without }));
  if (cut !== undefined && without === undefined)
    remarks.push(`its window ${iso(cut)} is not in the range as a whole: it is not judged`);
  if (windowMs !== undefined)
    remarks.push(`its windows are ${windowMs / 1000} s long: each is made anew of those of the pipeline`);
  if (began !== undefined && began > range.from)
    remarks.push(
      `it began at ${new Date(began).toISOString()}: earlier windows are there only if a replay wrote them`,
    );
  if (keptFrom !== undefined && keptFrom > range.from)
    remarks.push(`it keeps rows since ${new Date(keptFrom).toISOString()}: earlier ones may be deleted`);
  if (names !== undefined) remarks.push(...nameRemarks(names, range, rows));
  if (names !== undefined && windows.equal > 0 && rows.equal + rows.missing + rows.different === 0)
    remarks.push('nothing was chosen: the windows that are equal have no row that it should get');
  if (namesKnownFrom !== undefined && namesKnownFrom > range.from)
    remarks.push(
      `which names it got before ${new Date(namesKnownFrom).toISOString()} is no longer known: these windows are not judged`,
    );
  return {
    sink: id,
    from: iso(range.from),
    to: iso(range.to),
    windowMs: windowMs ?? null,
    windows: { ...windows, unknown: windows.unknown + lost, unconfirmed, notHeld: notHeld ?? null },
    rows,
    remarks,
    examples,
  };
}

/** Why there is nothing to judge. */
function emptyRemarks({
  range,
  lost,
  unconfirmed,
  without,
}: Pick<SinkFindings, 'range' | 'lost' | 'unconfirmed' | 'without'>): string[] {
  if (without !== undefined)
    return [`no whole window of this sink is in the range ${iso(without.from)} to ${iso(without.to)}`];
  if (range.from < range.to || (lost > 0 && unconfirmed === 0)) return [];
  return ['it has not confirmed any of these windows yet'];
}

const iso = (time: number) => new Date(time).toISOString();

/** What was chosen for the range, and what else is there. */
function nameRemarks(
  names: readonly NameChoice[],
  { from, to }: WindowRange,
  { notChosen = 0 }: WindowVerdict['rows'],
): string[] {
  const chosen = holdingFrom(names, from).filter((choice) => choice.from < to);
  const remarks = chosen.map(({ from: since, names: globs, slice }) => {
    const what = globs.length === 0 ? 'all names' : `only names that ${globs.join(', ')} choose`;
    return `${slice === undefined ? '' : `slice ${slice}: `}since ${new Date(since).toISOString()} it gets ${what}`;
  });
  if (notChosen > 0)
    remarks.push(
      `${counted(notChosen, 'row of names that it was not given is', 'rows of names that it was not given are')} in the store, and not judged`,
    );
  return remarks;
}

function isEqual({ windows: { equal, different, unknown } }: SinkReport): boolean {
  return equal > 0 && different === 0 && unknown === 0;
}

/** Returns the JSON to print: times as RFC 3339, dimensions as an object. */
export function reportJson({ equal, matched, sinks }: Report): string {
  const example = ({ windowStart, dimensions, ...rest }: RowDifference) => ({
    window: new Date(windowStart!).toISOString(),
    ...rest,
    dimensions: JSON.parse(dimensions),
  });
  const plain = sinks.map((sink) => ({ ...sink, examples: sink.examples.map(example) }));
  return `${printableJson({ equal, matched, sinks: plain }, 2)}\n`;
}

export function reportText({ equal, matched, sinks }: Report, width?: number): string {
  const windows = renderTable(WINDOWS, sinks.map(windowCells), { width });
  const tables = [windows, '', renderTable(ROWS, sinks.map(rowCells), { width })];
  const details = sinks.flatMap(({ sink, windows, remarks, examples }) => [
    ...(windows.unconfirmed > 0 ? [`${sink}: ${notConfirmed(windows.unconfirmed)}`] : []),
    ...remarks.map((remark) => `${sink}: ${remark}`),
    ...examples.map((example) => `${sink}: ${describeDifference(example)}`),
  ]);
  const ranges = new Set(sinks.map(({ from, to }) => `${from} to ${to}`));
  const isEmpty = sinks.every(({ from, to }) => from === to);
  const range = ranges.size === 1 && !isEmpty ? [`${[...ranges][0]}:`, ''] : [];
  const ending = endingOf({ equal, matched, sinks });
  return `${[...range, ...tables, '', ...details.map(printable), ending].join('\n')}\n`;
}

function endingOf({ equal, matched, sinks }: Report): string {
  if (equal) return 'Every window judged is equal, row by row and to the last bit.';
  const differences = differencesInWords(sinks);
  if (differences !== undefined) return `${differences}.`;
  return matched ? 'Not every window is known to be equal.' : 'Nothing was compared.';
}

const notConfirmed = (windows: number) => `${counted(windows, 'window is', 'windows are')} not confirmed yet`;

const bad = (count: number): Cell => (count > 0 ? { text: String(count), colour: 'red' } : '0');

function windowCells({ sink, windows }: SinkReport): Cell[] {
  return [
    sink,
    String(windows.equal + windows.different + windows.notOwed + windows.unknown),
    String(windows.equal),
    bad(windows.different),
    String(windows.notOwed),
    windows.unknown > 0 ? { text: String(windows.unknown), colour: 'yellow' } : '0',
  ];
}

function rowCells({ sink, rows }: SinkReport): Cell[] {
  return [sink, String(rows.equal), bad(rows.missing), bad(rows.extra), bad(rows.different)];
}
