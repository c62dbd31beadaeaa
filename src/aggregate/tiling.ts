/** What shapes a window. Times in milliseconds; whole numbers. */
export interface WindowShape {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  /** Per window. */
  readonly maxSeries: number;
}

/** Windows of one shape, from a time on (ms since 1970) until the next epoch begins. */
export interface Epoch extends WindowShape {
  readonly from: number;
}

/**
 * How time is cut into windows: one epoch after the other, so that settings can change without a sample being lost or
 * counted twice. Everything about a window (its bounds, its LATENESS, its MAX_AHEAD, its MAX_SERIES) is that of the
 * epoch in which it lies, so I1 reads as ever. Pure, and the same for whoever knows the same epochs (I3).
 */
export class Tiling {
  /** Ascending. The first one reaches back to the beginning of time. */
  readonly epochs: readonly Epoch[];
  /** The most of any epoch. */
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  readonly maxSeries: number;

  /** Throws where an epoch begins in the middle of a window, its own or one of the epoch before. */
  constructor(epochs: readonly Epoch[]) {
    if (epochs.length === 0) throw new RangeError('a tiling has at least one epoch');
    for (let i = 1; i < epochs.length; i++) {
      const [before, epoch] = [epochs[i - 1]!, epochs[i]!];
      const isBoundary = epoch.from % epoch.windowMs === 0 && epoch.from % before.windowMs === 0;
      if (!isBoundary || (i > 1 && epoch.from <= before.from))
        throw new RangeError(`no epoch can begin at ${epoch.from}`);
    }
    this.epochs = epochs;
    this.latenessMs = Math.max(...epochs.map(({ latenessMs }) => latenessMs));
    this.maxAheadMs = Math.max(...epochs.map(({ maxAheadMs }) => maxAheadMs));
    this.maxSeries = Math.max(...epochs.map(({ maxSeries }) => maxSeries));
  }

  /** The same shape for all time. */
  static of({ windowMs, latenessMs, maxAheadMs, maxSeries }: WindowShape): Tiling {
    return new Tiling([{ from: Number.NEGATIVE_INFINITY, windowMs, latenessMs, maxAheadMs, maxSeries }]);
  }

  /** That of the window which holds `time`. */
  epochAt(time: number): Epoch {
    const { epochs } = this;
    for (let i = epochs.length - 1; i > 0; i--) if (time >= epochs[i]!.from) return epochs[i]!;
    return epochs[0]!;
  }

  /** Start of the window that holds `time`. */
  startOf(time: number): number {
    return floorTo(time, this.epochAt(time).windowMs);
  }

  /** End of the window that holds `time`. */
  endOf(time: number): number {
    const { windowMs } = this.epochAt(time);
    return floorTo(time, windowMs) + windowMs;
  }

  /** I2: the end of the last of the windows that are complete, and all before them, at this stream time. */
  completeBefore(streamTime: number): number {
    const { epochs } = this;
    for (let i = 0; ; i++) {
      const { windowMs, latenessMs } = epochs[i]!;
      const end = floorTo(streamTime - latenessMs, windowMs);
      const next = epochs[i + 1]?.from;
      if (next === undefined || end < next) return i === 0 ? end : Math.max(end, epochs[i]!.from);
    }
  }

  /** How many windows [from, to) holds; parts of windows count in proportion. */
  windowsBetween(from: number, to: number): number {
    const { epochs } = this;
    let windows = 0;
    for (let i = 0; i < epochs.length; i++) {
      const begins = i === 0 ? from : Math.max(from, epochs[i]!.from);
      const ends = Math.min(to, epochs[i + 1]?.from ?? to);
      if (ends > begins) windows += (ends - begins) / epochs[i]!.windowMs;
    }
    return windows;
  }
}

export function floorTo(time: number, step: number): number {
  return Math.floor(time / step) * step;
}
