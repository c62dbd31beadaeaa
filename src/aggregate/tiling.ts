/**
 * The settings that decide what a message means, without those at their defaults. What they say is for `decode` alone
 * to know.
 */
export type InputShape = Readonly<Record<string, string | boolean | readonly string[]>>;

/** The settings that shape a window. All times are whole milliseconds. */
export interface WindowShape {
  readonly windowMs: number;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  /** The limit of series per window. */
  readonly maxSeries: number;
  /** What the series of a window may take, in bytes: see `WindowBudget`. Absent: there is no limit. */
  readonly maxSeriesBytes?: number;
  /** The scale of the sketches of timers: see `Sketches`. Absent: as earlier versions computed them. */
  readonly sketchScale?: number;
  /** The limits of series by name: see `parseNameLimit`. Absent: there are none. */
  readonly maxSeriesByName?: readonly string[];
  /** Absent: not known, as of windows that an earlier version computed. */
  readonly input?: InputShape;
}

/** Returns the shape alone, of what has one. */
export function shapeOf(shape: WindowShape): WindowShape {
  const { windowMs, latenessMs, maxAheadMs, maxSeries, maxSeriesBytes, maxSeriesByName, sketchScale, input } =
    shape;
  // Absent, not undefined: shapes are compared with what was stored as JSON.
  return {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    ...(maxSeriesBytes === undefined ? {} : { maxSeriesBytes }),
    ...(sketchScale === undefined ? {} : { sketchScale }),
    ...(maxSeriesByName === undefined ? {} : { maxSeriesByName }),
    ...(input === undefined ? {} : { input }),
  };
}

/** Returns what messages mean in these epochs, each meaning once. */
export function inputsOf(epochs: readonly Epoch[]): InputShape[] {
  const inputs = new Map(epochs.map(({ input }) => [JSON.stringify(input), input]));
  return [...inputs.values()].filter((input) => input !== undefined);
}

/** Windows of one shape, from a time (ms since 1970) until the next epoch begins. */
export interface Epoch extends WindowShape {
  readonly from: number;
}

/**
 * How time is cut into windows: one epoch after another, so that settings can change without losing a sample or
 * counting one twice. The epoch that contains a window decides everything about it (its bounds, its LATENESS, its
 * MAX_AHEAD, its MAX_SERIES and MAX_SERIES_BYTES, its sketches), so I1 holds as before. What a message means is decided
 * before its windows are known, so that is up to the epoch of its stream time. Pure, and the same for everyone who
 * knows the same epochs (I3).
 */
export class Tiling {
  /** In ascending order. The first epoch reaches back to the beginning of time. */
  readonly epochs: readonly Epoch[];
  /** The highest value of any epoch; `maxAheadMs` and `maxSeries` likewise. */
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  readonly maxSeries: number;
  /** The highest value of any epoch that has one; undefined if none has. */
  readonly maxSeriesBytes: number | undefined;

  /** Throws if an epoch begins inside a window, whether its own or one of the epoch before. */
  constructor(epochs: readonly Epoch[]) {
    if (epochs.length === 0) throw new RangeError('a tiling needs at least one epoch');
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
    const budgets = epochs.flatMap(({ maxSeriesBytes }) => maxSeriesBytes ?? []);
    this.maxSeriesBytes = budgets.length === 0 ? undefined : Math.max(...budgets);
  }

  /** Returns a tiling with the same shape for all time. */
  static of(shape: WindowShape): Tiling {
    return new Tiling([{ from: Number.NEGATIVE_INFINITY, ...shapeOf(shape) }]);
  }

  /** Returns the epoch of the window that holds `time`. */
  epochAt(time: number): Epoch {
    const { epochs } = this;
    for (let i = epochs.length - 1; i > 0; i--) if (time >= epochs[i]!.from) return epochs[i]!;
    return epochs[0]!;
  }

  /** Returns the start of the window that holds `time`. */
  startOf(time: number): number {
    return floorTo(time, this.epochAt(time).windowMs);
  }

  /** Returns the end of the window that holds `time`. */
  endOf(time: number): number {
    const { windowMs } = this.epochAt(time);
    return floorTo(time, windowMs) + windowMs;
  }

  /** Returns the time before which all windows are complete at this stream time (I2). */
  completeBefore(streamTime: number): number {
    const { epochs } = this;
    for (let i = 0; ; i++) {
      const { windowMs, latenessMs } = epochs[i]!;
      const end = floorTo(streamTime - latenessMs, windowMs);
      const next = epochs[i + 1]?.from;
      if (next === undefined || end < next) return i === 0 ? end : Math.max(end, epochs[i]!.from);
    }
  }

  /** Returns how many windows [from, to) holds. Parts of windows count in proportion. */
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
