/** OTLP's metrics, whichever way they are encoded: what a data point holds, and how its series is named. */

import { matchesGlob } from '../aggregate/glob.ts';
import type { Dimension } from '../aggregate/series.ts';
import { MAX_SPELLED_KEYS } from './limits.ts';
import type { RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';

export type OtlpKind = 'gauge' | 'sum' | 'histogram' | 'exponential' | 'summary';

export const DELTA = 1;
export const CUMULATIVE = 2;

/** An SDK keeps 160 buckets a sign, and Prometheus' classic histograms have some dozens. */
export const MAX_BUCKETS = 4096;

/** What all data points of one resource and scope have in common. */
export interface OtlpShared {
  readonly dimensions: readonly Dimension[];
  /** The same as JSON, for spellings. */
  readonly text: string;
  readonly rejection: InputRejection | undefined;
}

export interface OtlpMetric {
  readonly name: string;
  readonly shared: OtlpShared;
  /** Undefined: none that is known. */
  readonly kind: OtlpKind | undefined;
  readonly temporality: number;
  /** Of a sum: whether its total only rises. One that also falls is a level, which a gauge shows as it is. */
  readonly isMonotonic: boolean;
}

/** A data point. One object is filled again and again. */
export class OtlpPoint {
  /** Milliseconds since 1970, rounded down; NaN if there is none. */
  time = Number.NaN;
  /** NaN if there is none. */
  value = Number.NaN;
  hasNoValue = false;
  /** NaN if absent. */
  count = Number.NaN;
  sum = Number.NaN;
  min = Number.NaN;
  max = Number.NaN;
  /** Of explicit buckets; of the positive ones, if they are exponential. */
  readonly counts: number[] = [];
  readonly bounds: number[] = [];
  scale = 0;
  zeroCount = 0;
  offset = 0;
  readonly negative: number[] = [];
  negativeOffset = 0;

  clear(): void {
    this.time = Number.NaN;
    this.value = Number.NaN;
    this.hasNoValue = false;
    this.count = Number.NaN;
    this.sum = Number.NaN;
    this.min = Number.NaN;
    this.max = Number.NaN;
    this.counts.length = 0;
    this.bounds.length = 0;
    this.scale = 0;
    this.zeroCount = 0;
    this.offset = 0;
    this.negative.length = 0;
    this.negativeOffset = 0;
  }
}

/** Takes the bytes of a spelling. */
export interface SpellingSink {
  bytes(from: Uint8Array, start: number, end: number): void;
  text(text: string): void;
}

/** Reads one encoding. All points of a message are found at once, which is linear; each is then read by itself. */
export interface OtlpReader {
  /** Where the last loaded message ends up: how many points it has. */
  readonly size: number;
  /** How many things were looked at, to find them. */
  readonly looked: number;
  /** Returns why the message is rejected whole. */
  load(message: RawMessage, attributes: readonly string[]): InputRejection | undefined;
  metric(point: number): OtlpMetric;
  /** How long the point is, in bytes, or in something like them. */
  lengthOf(point: number): number;
  /** Returns why the point is rejected. */
  read(point: number, into: OtlpPoint): InputRejection | undefined;
  /** The attributes of the point last read: what is the same for the same attributes. */
  spell(sink: SpellingSink): void;
  /** The attributes of the point last read. */
  attributes(): readonly Dimension[] | InputRejection;
  /** The message is at another place in memory than it was. */
  moved(message: RawMessage): void;
  /** Forgets the message. */
  release(): void;
}

/** Attributes by level: of the resource, the scope and the point. What is closer to the point wins. */
export function merged(levels: readonly (readonly Dimension[])[]): Dimension[] | InputRejection {
  const all = new Map<string, string>();
  for (const level of levels) {
    const keys = new Set<string>();
    for (const [key, value] of level) {
      if (key === '') return 'bad_dimensions';
      if (keys.has(key)) return 'duplicate_key';
      keys.add(key);
      all.set(key, value);
    }
    if (all.size > MAX_SPELLED_KEYS) return 'too_many_dimensions';
  }
  return [...all];
}

/** Returns what a resource and a scope give to all of their points: the attributes whose keys match. */
export function sharedOf(
  levels: readonly (readonly Dimension[] | InputRejection)[],
  globs: readonly string[],
): OtlpShared {
  const wanted: Dimension[][] = [];
  for (const level of levels) {
    if (typeof level === 'string') return { dimensions: [], text: '', rejection: level };
    wanted.push(level.filter(([key]) => globs.some((glob) => matchesGlob(glob, key))));
  }
  const dimensions = merged(wanted);
  if (typeof dimensions === 'string') return { dimensions: [], text: '', rejection: dimensions };
  return { dimensions, text: JSON.stringify(dimensions), rejection: undefined };
}
