import type { MetricType } from './point.ts';

/** The number that stands for a type in the hot loop: its index in METRIC_TYPES. */
export const COUNTER = 0;
export const GAUGE = 1;
export const TIMER = 2;

export const TYPE_CODES: Readonly<Record<MetricType, number>> = {
  counter: COUNTER,
  gauge: GAUGE,
  timer: TIMER,
};

/**
 * How a series was spelled: the raw bytes of its name and of its dimensions, as they lie in a message. Spellings that
 * are equal byte for byte name the same series, so a series already seen is found without reading what they say.
 * Offsets count from the start of `view`.
 */
export interface Spelling {
  readonly view: DataView;
  readonly type: number;
  readonly nameStart: number;
  readonly nameLength: number;
  /**
   * Of the whole object with its braces; length 0 where the message has no dimensions. Other formats than JSON take
   * bytes that cannot be such an object, so that what is spelled alike means the same.
   */
  readonly dimensionsStart: number;
  readonly dimensionsLength: number;
}

/** One decoded measurement. A decoder has one of these and fills it again for every sample. */
export interface Sample {
  /** Its number in the `SeriesTable`: good until the table's next `add`, or for as long as a holder marks it. */
  readonly series: number;
  /** COUNTER, GAUGE or TIMER. */
  readonly type: number;
  /** Finite, and never -0. */
  readonly value: number;
  /**
   * How many measurements it stands for, 1 at least: more than 1, and not always whole, for timers of which the
   * producer sends a share only.
   */
  readonly weight: number;
  /** Milliseconds since 1970, rounded down. NaN where the message has none: the stream time counts. */
  readonly eventTime: number;
  /** Of its message. */
  readonly streamTime: number;
  readonly sequence: number;
}
