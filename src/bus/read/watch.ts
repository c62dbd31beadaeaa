/**
 * Knows of messages that never reached the stream. nats-server drops plain publishes that come faster than a stream
 * stores them (from 2.11 on), or that a limit of the stream refuses, and tells nobody. So for short spans the service
 * also hears the metrics by plain NATS, and looks for each message in what it reads from the stream anyway.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import { type Log, Quiet } from '../../base/log.ts';
import type { CoreConfig } from '../../config/core-settings.ts';
import type { RawMessage } from '../../decode/raw-message.ts';
import type { Bus } from '../connect.ts';
import { describeStream, type StreamFacts } from '../stream.ts';
import type { Reader, Source, SourceStats } from './source.ts';
import {
  addSpan,
  digestOf,
  type MessageDigest,
  newWatchTotals,
  unstoredShare,
  WatchSpan,
  type WatchTotals,
} from './watch-span.ts';

/** Length of a span. */
const SPAN_MS = 1_000;
/** What is read in this time before a span counts too: the stream may be faster than plain NATS. */
const LEAD_MS = 500;
/** How long the server may take to store a message that it holds in memory. */
const SETTLE_MS = 10_000;
/** A reader that has not come this far by then is too slow for the span to tell anything. */
const READ_LIMIT_MS = 60_000;
const POLL_MS = 250;
/** Spans that are over and wait for the stream. */
const MAX_JUDGED = 100;
/** A span ends early at this many messages. */
const MAX_HEARD = 100_000;
const REPEAT_LOG_MS = 600_000;
/** It comes as late as the other stream, and the way from there, let it. */
const COPIES = 'the stream copies others, and may get later what it lacks';

export type WatchState = 'off' | 'watching' | 'forbidden';

export interface WatchStatus extends Pick<WatchTotals, 'spans' | 'unknownSpans' | 'heard' | 'unstored'> {
  readonly state: WatchState;
  /** Estimated share of all messages that were not stored, and its error at 95 %. Null if nothing was heard. */
  readonly share: number | null;
  readonly error: number | null;
  /** Why the last span that could tell nothing could not; null if there was none. */
  readonly unknown: string | null;
}

/** The status while nobody watches. */
export const NO_WATCH: WatchStatus = {
  state: 'off',
  spans: 0,
  unknownSpans: 0,
  heard: 0,
  unstored: 0,
  share: null,
  error: null,
  unknown: null,
};

export interface WatchOptions {
  /** Share of the time that is watched: above 0, at most 1. At 1, spans follow one another without a pause. */
  readonly share: number;
  readonly clock?: Clock;
  /** Default: that of the bus. */
  readonly log?: Pick<Log, 'warn' | 'error'>;
  /** For tests. */
  readonly settleMs?: number;
}

type Configured = Pick<CoreConfig, 'metricsStream' | 'metricsSubjects'>;

/** How far the source was when a span began, and how often it had been interrupted. */
interface SpanStart {
  readonly breaks: number;
  readonly read: number;
}

export class BusWatch {
  readonly #bus: Bus;
  readonly #core: Configured;
  readonly #options: Required<WatchOptions>;
  readonly #totals = newWatchTotals();
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  /** The spans that still look for messages, oldest first. */
  readonly #spans = new Set<WatchSpan>();
  /** The span to which what is heard belongs. */
  #hearing: WatchSpan | undefined;
  /** Ends that span when it has heard as much as it may. */
  #full = new AbortController();
  #isForbidden = false;
  #unknown: string | undefined;
  #source: Source | undefined;

  constructor(bus: Bus, core: Configured, options: WatchOptions) {
    this.#bus = bus;
    this.#core = core;
    this.#options = { clock: systemClock, log: bus.log, settleMs: SETTLE_MS, ...options };
  }

  get status(): WatchStatus {
    const { spans, unknownSpans, heard, unstored } = this.#totals;
    const estimate = unstoredShare(this.#totals);
    return {
      state: this.#isForbidden ? 'forbidden' : 'watching',
      spans,
      unknownSpans,
      heard,
      unstored,
      share: estimate?.share ?? null,
      // All that was published was heard.
      error: estimate === undefined ? null : this.#options.share === 1 ? 0 : estimate.error,
      unknown: this.#unknown ?? null,
    };
  }

  /** Returns the source that the service reads, which from then on shows the watch what it reads. */
  watched(source: Source): Source {
    this.#source = source;
    const spans = this.#spans;
    const wrap = (reader: Reader): Reader => ({
      message: (message, envelope) => {
        if (spans.size > 0) this.#read(message);
        reader.message(message, envelope);
      },
      // Its subject may be that of another time: the stream stored it all the same.
      leftOut: (message) => {
        if (spans.size > 0) this.#read(message);
      },
      progress: (streamTime) => reader.progress(streamTime),
      get awaited() {
        return reader.awaited ?? Number.NEGATIVE_INFINITY;
      },
      ...(reader.flush && { flush: () => reader.flush!() }),
      ...(reader.completeAfter && { completeAfter: (sequence) => reader.completeAfter!(sequence) }),
      ...(reader.gap && { gap: (gap) => reader.gap!(gap) }),
    });
    return { stats: source.stats, run: (reader, signal) => source.run(wrap(reader), signal) };
  }

  /**
   * Watches until the signal aborts, or for `forMs` and until what was heard is judged. Resolves earlier if the bus
   * does not permit us to listen.
   */
  async run(signal: AbortSignal, forMs = Number.POSITIVE_INFINITY): Promise<void> {
    const { share, clock } = this.#options;
    const pauseMs = SPAN_MS * (1 / share - 1);
    // Instances that start together must not all listen at the same time.
    await clock.sleep(pauseMs * clock.random(), signal);
    const judged: Promise<void>[] = [];
    let stopHearing: (() => Promise<void>) | undefined;
    const end = clock.steady() + forMs;
    while (!signal.aborted && !this.#isForbidden && clock.steady() < end) {
      const span = new WatchSpan();
      this.#spans.add(span);
      const { stats } = this.#source!;
      const began = { breaks: stats.resumptions + stats.gaps, read: readThrough(stats) };
      if (stopHearing === undefined) {
        await clock.sleep(LEAD_MS, signal);
        stopHearing = await this.#hear(signal);
      }
      this.#full = new AbortController();
      this.#hearing = span;
      await clock.sleep(SPAN_MS, AbortSignal.any([signal, this.#full.signal]));
      if (pauseMs > 0) {
        await stopHearing();
        stopHearing = undefined;
      }
      this.#hearing = undefined;
      judged.push(this.#judge(span, began, signal));
      while (judged.length > MAX_JUDGED) await judged.shift();
      if (pauseMs > 0) await clock.sleep(pauseMs * (0.5 + clock.random()), signal);
    }
    await stopHearing?.();
    await Promise.all(judged);
  }

  /** Hears what is published. Returns a function that ends it, and resolves when what is on its way has come. */
  async #hear(signal: AbortSignal): Promise<() => Promise<void>> {
    const ends = this.#core.metricsSubjects.map((subject) =>
      this.#bus.subscribe(subject, ({ data }) => this.#heard(data, 0, data.length), {
        onFrame: (bytes, start, end) => this.#heard(bytes, start, end),
        // A digest is all that is kept of them.
        onFlush: () => {},
        // Who publishes it waits for an acknowledgement, and the server may be right to refuse it.
        skipConditional: true,
        onRefused: () => this.#forbidden(),
      }),
    );
    // Before the server has the subscription, nothing is heard; a lost connection shows as a resumption.
    await this.#bus.flush(signal).catch(() => {});
    return async () => void (await Promise.all(ends.map((end) => end())));
  }

  #heard(bytes: Uint8Array, start: number, end: number): void {
    const hearing = this.#hearing;
    if (hearing === undefined) return;
    this.#hearIn(hearing, digestOf(bytes, start, end));
    if (hearing.heard >= MAX_HEARD) this.#full.abort();
  }

  #hearIn(hearing: WatchSpan, digest: MessageDigest): void {
    for (const span of this.#spans) {
      if (span === hearing) break;
      // It was read just before this span began.
      if (!span.takeSurplus(digest)) continue;
      hearing.heard += 1;
      return;
    }
    hearing.hear(digest);
  }

  #read({ bytes, start, end }: RawMessage): void {
    const digest = digestOf(bytes, start, end);
    let latest: WatchSpan | undefined;
    for (const span of this.#spans) {
      if (span.takeMissing(digest)) return;
      latest = span;
    }
    if (!latest!.isOver) latest!.keepSurplus(digest);
  }

  /** Waits until all that the stream will ever have of the span has been read, and counts what is missing then. */
  async #judge(span: WatchSpan, began: SpanStart, signal: AbortSignal): Promise<void> {
    span.isOver = true;
    const { stats } = this.#source!;
    // What was read in this span may be heard in the next one.
    await this.#options.clock.sleep(LEAD_MS, signal);
    const unknown = await this.#untilRead(span, began, signal);
    this.#spans.delete(span);
    if (signal.aborted) return;
    const isBroken = stats.resumptions + stats.gaps !== began.breaks || !stats.reading;
    const reason =
      unknown ??
      span.unknown ??
      (isBroken ? 'reading was interrupted' : undefined) ??
      (span.heard === 0 && span.read > 0 ? 'the stream has messages that were not heard' : undefined);
    if (reason !== undefined) {
      this.#tellNothing(reason);
      return;
    }
    const { missing } = span;
    addSpan(this.#totals, span.heard, missing);
    if (missing > 0) this.#lost(span.heard, missing);
  }

  /** Resolves to why the span can tell nothing; undefined if it can. */
  async #untilRead(span: WatchSpan, began: SpanStart, signal: AbortSignal): Promise<string | undefined> {
    const { clock, settleMs } = this.#options;
    const { stats } = this.#source!;
    for (const end = clock.steady() + settleMs; clock.steady() < end; ) {
      if (span.missing === 0 || signal.aborted) return undefined;
      await clock.sleep(POLL_MS, signal);
    }
    let facts: StreamFacts;
    try {
      facts = await describeStream(this.#bus, this.#core);
    } catch {
      return 'the stream could not be asked';
    }
    if (facts.mirror !== undefined || facts.sources.length > 0) return COPIES;
    const { lastSequence: last } = facts;
    for (const end = clock.steady() + READ_LIMIT_MS; clock.steady() < end; ) {
      if (span.missing === 0 || signal.aborted) return undefined;
      if (stats.lastSequence >= last || last <= began.read) return undefined;
      // No gap shows until another message comes.
      if (stats.readThrough >= last) return 'messages were removed from the stream before they were read';
      await clock.sleep(POLL_MS, signal);
    }
    return 'the stream is read too slowly';
  }

  #lost(heard: number, unstored: number): void {
    const held = this.#quiet.admit('lost', this.#options.clock.steady());
    if (held === undefined) return;
    const advice = 'See docs/producers.md: publish with acknowledgements, or raise the limits of the stream.';
    const message = 'messages were published that the stream did not store';
    this.#options.log.error({ heard, unstored, inAll: this.#totals.unstored, advice }, message);
  }

  #tellNothing(reason: string): void {
    this.#totals.unknownSpans += 1;
    this.#unknown = reason;
  }

  #forbidden(): void {
    if (this.#isForbidden) return;
    this.#isForbidden = true;
    this.#tellNothing('the bus does not permit us to listen');
    const advice = `Allow it to subscribe to ${this.#core.metricsSubjects.join(', ')}, or set WATCH_SHARE=0.`;
    this.#options.log.warn({ advice }, 'cannot watch for messages that the stream does not store');
  }
}

function readThrough({ lastSequence, readThrough }: SourceStats): number {
  return Math.max(lastSequence, readThrough);
}
