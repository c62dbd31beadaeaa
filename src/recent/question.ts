/** What can be asked of the recent windows, and what an answer is. */
import type { MetricType } from '../aggregate/point.ts';
import type { DimensionFilter } from '../tap/filters.ts';
import type { Ranges, TimeRange } from './ranges.ts';

/** For how long windows are kept, at most. */
export const RECENT_MS = 3_600_000;
/** Why a window that was taken is not sure. */
export const DOUBTS = ['gap', 'changed', 'partial'] as const;
export type Doubt = (typeof DOUBTS)[number];
/** Why one that was closed is not there. */
export const LOSSES = ['evicted', 'skipped', 'too_large'] as const;
export type WindowLoss = (typeof LOSSES)[number];
/** Why part of a range is not there. */
export type Absence = WindowLoss | 'open' | 'not_read' | 'expired';

/** Filters, and dimensions to group by. */
export const MAX_WHERE = 8;
export const MAX_BY = 4;
/** Groups of an answer, the largest ones, and the bytes that they may take. What does not fit is counted together. */
export const MAX_GROUPS = 1000;
export const MAX_ANSWER_BYTES = 400_000;
/** Ranges of a question. */
export const MAX_RANGES = 100;
export const DEFAULT_LAST_MS = 300_000;
/** For how long after a question others are likely, in milliseconds. */
export const LATELY_MS = 300_000;

export interface RecentQuestion {
  /** A glob. Absent: all names. */
  readonly name?: string | undefined;
  /** All of these must match. An absent dimension has the value "". */
  readonly where: readonly DimensionFilter[];
  readonly by: readonly string[];
  /** The last so many milliseconds before `to`; if `from` is given, it counts instead. */
  readonly last?: number | undefined;
  readonly from?: number | undefined;
  /** Absent: the end of the newest closed window. */
  readonly to?: number | undefined;
  /** Only windows that start within these. */
  readonly only?: Ranges | undefined;
  /** Whether timers come with their sketches, to be merged with those of other instances. */
  readonly sketches?: boolean | undefined;
}

/** JSON has no numbers that are not finite. Stores reject such a sum as `invalid_value`; here it is a word. */
export type Sum = number | 'Infinity' | '-Infinity' | 'NaN';

export function sumInJson(sum: number): Sum {
  return Number.isFinite(sum) ? sum : (String(sum) as Sum);
}

/** What was counted in a group, or in several. */
export interface GroupNumbers {
  readonly count: number;
  readonly sum: Sum;
  /** Null for counters. */
  readonly min: number | null;
  readonly max: number | null;
}

export interface AnswerGroup extends GroupNumbers {
  readonly name: string;
  readonly type: MetricType;
  /** By key of `by`; "" if a series has no such dimension. */
  readonly dimensions: Readonly<Record<string, string>>;
  /** Per second of the windows covered. */
  readonly countPerSecond: number;
  readonly sumPerSecond: Sum;
  /** Of timers only; else null. */
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  /** If the question wants sketches: base64 of `sketch-bytes.ts`, and what rounding took off the sum. */
  readonly sketch?: string;
  readonly rest?: number;
}

/** Groups that did not fit, by type. */
export interface OtherGroups {
  readonly type: MetricType;
  readonly groups: number;
  readonly count: number;
  readonly sum: Sum;
}

/** Times in words are RFC 3339. */
interface Span {
  readonly from: string;
  readonly to: string;
}

export interface RecentAnswer extends Span {
  /** Whether it has every window of the range, whole, and no other instance has a part of it. */
  readonly complete: boolean;
  /** How many windows were added up, also empty ones, and how long they are together. */
  readonly windows: number;
  readonly seconds: number;
  readonly covered: readonly (Span & { readonly windowMs: number })[];
  /** What of the range is not there, and why. */
  readonly missing: readonly (Span & { readonly reason: Absence })[];
  /** What of it was added up but is not sure, and why. */
  readonly doubtful: readonly (Span & { readonly reason: Doubt })[];
  /** All windows before it are closed. How long ago it was: the length of a window and LATENESS, at least. */
  readonly boundary: string;
  readonly behindSeconds: number;
  /** Where the windows begin that this instance has; null if it has none. */
  readonly since: string | null;
  /** `i/n`: it has the windows whose number is i modulo n. */
  readonly slice: string;
  /** Core mode: other instances may have other parts of the same windows. */
  readonly parts: boolean;
  /** Core mode: the group whose instances share the messages; null: this one reads all of them. */
  readonly queueGroup?: string | null;
  /** `missing` and `doubtful` in words, and what else there is to know. */
  readonly remarks: readonly string[];
  readonly groups: readonly AnswerGroup[];
  readonly others: readonly OtherGroups[];
}

export type UnanswerableCode = 'not_configured' | 'busy' | 'too_large';

/** Why there is no answer. */
export class Unanswerable extends Error {
  override readonly name = 'Unanswerable';
  readonly code: UnanswerableCode;

  constructor(code: UnanswerableCode, message: string) {
    super(message);
    this.code = code;
  }
}

export function spanInWords({ from, to }: TimeRange): Span {
  return { from: timeInWords(from), to: timeInWords(to) };
}

export function timeInWords(ms: number): string {
  return new Date(ms).toISOString();
}
