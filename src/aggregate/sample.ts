import type { MetricType } from './point.ts';

/** The numbers that stand for the types in the hot loop: their indexes in METRIC_TYPES. */
export const COUNTER = 0;
export const GAUGE = 1;
export const TIMER = 2;

export const TYPE_CODES: Readonly<Record<MetricType, number>> = {
  counter: COUNTER,
  gauge: GAUGE,
  timer: TIMER,
};

/**
 * The decoders of several settings share a table, and equal bytes may mean different series to them. Each has a number
 * of its own, in the bits above the type.
 */
export const TYPE_BITS = 2;
export const TYPE_MASK = (1 << TYPE_BITS) - 1;
export const MAX_DIALECTS = 16;

/** In place of a series number: the spelling is not in the table. */
export const UNKNOWN_SERIES = -1;
/** In place of a series number: the sample is not to be counted, because its name is not taken. */
export const FILTERED = -2;

/**
 * How a series was spelled: the raw bytes of its name and of its dimensions in a message. Spellings that are equal byte
 * for byte name the same series, so a known series is found without parsing them. Offsets count from the start of
 * `view`.
 */
export interface Spelling {
  readonly view: DataView;
  /** The type, and the dialect in the bits above. */
  readonly type: number;
  readonly nameStart: number;
  readonly nameLength: number;
  /**
   * The range of the whole object with its braces; length 0 if the message has no dimensions. Formats other than JSON
   * use bytes that cannot be such an object, so that equal spellings mean the same.
   */
  readonly dimensionsStart: number;
  readonly dimensionsLength: number;
  /** What the series depends on beside these bytes: see `SeriesTable.originOf`. 0 if that is nothing. */
  readonly origin: number;
}

/** One decoded measurement. A decoder fills the same object again for later samples. */
export interface Sample {
  /**
   * Number in the `SeriesTable`: valid until the table's next `add`, or for as long as a holder marks it. Or
   * `FILTERED`.
   */
  readonly series: number;
  /** COUNTER, GAUGE or TIMER. */
  readonly type: number;
  /** Finite, and never -0. */
  readonly value: number;
  /**
   * How many measurements it stands for, at least 1. More than 1, and not always whole, for timers of which the
   * producer sends only a share.
   */
  readonly weight: number;
  /** Milliseconds since 1970, rounded down. NaN if the message has none: then the stream time counts. */
  readonly eventTime: number;
  /** Stream time and sequence of its message. */
  readonly streamTime: number;
  readonly sequence: number;
}
