/**
 * The catch-ups under way: at most one per lane. Each is reported on while it lasts, and ended if its lane is paused.
 */
import type { Tiling } from '../../aggregate/tiling.ts';
import type { Clock } from '../../base/clock.ts';
import type { FanOut } from '../fanout.ts';
import type { Lane } from '../lane/lane.ts';
import { catchUp, type OpenReplay } from './catch-up.ts';
import { type CatchUpProgress, CatchUpWatch } from './catch-up-progress.ts';

/** How often a catch-up reports its progress. */
const PROGRESS_INTERVAL_MS = 10_000;

/** All calls are synchronous and must not throw. */
export interface CatchUpEvents {
  catchUpStarted(sink: string, from: number): void;
  replayFailed(sink: string, error: unknown): void;
  /** Called regularly while the catch-up lasts. */
  catchingUp(sink: string, progress: CatchUpProgress): void;
  caughtUp(sink: string): void;
}

export interface CatchUpsOptions {
  readonly open: (lane: Lane) => OpenReplay;
  readonly live: Pick<FanOut, 'boundary' | 'sequence' | 'reopenedThrough'>;
  readonly tiling: Tiling;
  readonly clock: Clock;
  readonly events: CatchUpEvents;
  /** See `CatchUpOptions`. `from`: start of the first window that the catch-up gave the lane. */
  readonly joined: (from: number, sequence: number) => void;
  /** Ends all catch-ups. */
  readonly signal: AbortSignal;
}

interface UnderWay {
  readonly watch: CatchUpWatch;
  readonly end: AbortController;
}

export class CatchUps {
  readonly #options: CatchUpsOptions;
  readonly #underWay = new Map<Lane, UnderWay>();

  constructor(options: CatchUpsOptions) {
    this.#options = options;
  }

  /** Returns undefined if the lane is not catching up. */
  progressOf(lane: Lane): CatchUpProgress | undefined {
    const { live, clock } = this.#options;
    return this.#underWay.get(lane)?.watch.progress(live.boundary, clock.steady());
  }

  /** Resolves when the lane has joined the live path, or when the catch-up was ended. */
  async start(lane: Lane): Promise<void> {
    const { open, live, tiling, clock, events, joined } = this.#options;
    const from = lane.next;
    // What the live path was told of windows that this lane computes again, nobody tells a second time.
    const { reopenedThrough } = live;
    events.catchUpStarted(lane.id, from);
    const end = new AbortController();
    const own = { watch: new CatchUpWatch(lane, tiling, clock.steady()), end };
    this.#underWay.set(lane, own);
    const signal = AbortSignal.any([this.#options.signal, end.signal]);
    void this.#tellProgress(lane, own, signal);
    const options = {
      open: open(lane),
      live: () => ({ boundary: live.boundary, sequence: Math.max(live.sequence, reopenedThrough) }),
      joined: (sequence: number) => joined(from, sequence),
      clock,
      failed: (error: unknown) => events.replayFailed(lane.id, error),
    };
    await catchUp(lane, options, signal);
    if (this.#underWay.get(lane) === own) this.#underWay.delete(lane);
    if (!signal.aborted) events.caughtUp(lane.id);
  }

  /** Releases the lane at once; its replay stops reading a little later. */
  end(lane: Lane): void {
    this.#underWay.get(lane)?.end.abort();
    this.#underWay.delete(lane);
  }

  async #tellProgress(lane: Lane, own: UnderWay, signal: AbortSignal): Promise<void> {
    const { live, clock, events } = this.#options;
    for (;;) {
      await clock.sleep(PROGRESS_INTERVAL_MS, signal);
      if (signal.aborted || this.#underWay.get(lane) !== own) return;
      events.catchingUp(lane.id, own.watch.progress(live.boundary, clock.steady()));
    }
  }
}
