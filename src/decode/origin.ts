import type { Dimension } from '../aggregate/series.ts';

/** What a message adds to its series, whatever it holds. Messages that add something else spell other series. */
export interface Origin {
  /** See `Spelling`. */
  readonly number: number;
  readonly dimensions: readonly Dimension[];
}

/** Of messages that add nothing, where nothing is shaped. */
export const PLAIN: Origin = { number: 0, dimensions: [] };
