/** The Prometheus metrics: every scrape takes one Status and exposes it under the names that users rely on. */

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { METRIC_TYPES } from '../aggregate/point.ts';
import { memoryLimit } from '../base/memory-limit.ts';
import type { FoldedStatus } from '../recent/folds.ts';
import { REFUSE_REASONS, REJECT_REASONS, RETRY_REASONS } from '../sink/contract.ts';
import { type LagFigures, LoopLag } from './loop-lag.ts';
import type { Counts, SinkStatus, Status } from './status.ts';

type Labels = Readonly<Record<string, string>>;
type Values = readonly (readonly [labels: Labels, value: number])[];

/** The description of one of our metrics. */
export interface Described {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

interface Shown extends Described {
  readonly kind: 'counter' | 'gauge';
  readonly of: (status: Status) => Values;
}

/** Upper bounds in seconds: from a local file to a store that hangs. */
const WRITE_BUCKETS_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

/** Default gauges of prom-client that are named like counters: promtool objects to them. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

const STRAY_RESULTS = ['removed', 'left'] as const;
const VERIFY_RESULTS = ['equal', 'different', 'unknown'] as const;

const one = (value: number): Values => [[{}, value]];
const foldedBy = (folded: readonly FoldedStatus[]): Values =>
  folded.map(({ name, key, samples }) => [{ name, key: key ?? '' }, samples]);

const byReason = (counts: Counts): Values =>
  Object.entries(counts).map(([reason, value]) => [{ reason }, value]);
const perSink = (value: (sink: SinkStatus) => number) => (status: Status) =>
  status.sinks.map((sink) => [{ sink: sink.id }, value(sink)] as const);

/**
 * Returns a zero for every reason that has not occurred: a rate over a series that appears later would miss its first
 * step.
 */
const perSinkAndReason =
  (reasons: readonly string[], counts: (sink: SinkStatus) => Counts) =>
  (status: Status): Values =>
    status.sinks.flatMap((sink) =>
      reasons.map((reason) => [{ sink: sink.id, reason }, counts(sink)[reason] ?? 0] as const),
    );

const SHOWN: readonly Shown[] = [
  {
    kind: 'counter',
    name: 'fanout_messages_received_total',
    help: 'Messages received from the bus.',
    of: ({ messages }) => one(messages.received),
  },
  {
    kind: 'counter',
    name: 'fanout_messages_rejected_total',
    help: 'Messages that are not valid samples, by reason.',
    labels: ['reason'],
    of: ({ messages }) => byReason(messages.rejected),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_total',
    help: 'Samples decoded, by type.',
    labels: ['type'],
    of: ({ samples }) => METRIC_TYPES.map((type) => [{ type }, samples.byType[type] ?? 0]),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_rejected_total',
    help: 'Array elements, lines and fields rejected from messages whose other samples were taken, by reason.',
    labels: ['reason'],
    of: ({ samples }) => byReason(samples.rejected),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_late_total',
    help: 'Samples too late for their own window, counted in the window of their stream time.',
    of: ({ samples }) => one(samples.late),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_ahead_total',
    help: 'Samples too far ahead of the bus, counted in the window of their stream time.',
    of: ({ samples }) => one(samples.ahead),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_overflowed_total',
    help: 'Samples of series beyond MAX_SERIES, MAX_SERIES_BYTES or MAX_SERIES_BY_NAME, counted in the overflow series of their name.',
    of: ({ samples }) => one(samples.overflowed),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_folded_total',
    help: 'Those of the names that were folded last, at most 20, and the dimension that most likely has too many values.',
    labels: ['name', 'key'],
    of: ({ windows }) => foldedBy(windows.folded),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_coarse_total',
    help: 'Samples of timers that needed more bins than MAX_SERIES_BYTES allowed: percentiles are less exact.',
    of: ({ samples }) => one(samples.coarse),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_ignored_total',
    help: 'Samples of windows before the first that any sink needs, read again after a restart.',
    of: ({ samples }) => one(samples.ignored),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_foreign_total',
    help: 'Samples of windows that belong to other slices.',
    of: ({ samples }) => one(samples.foreign),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_reopened_total',
    help: 'Samples of windows that were already handed out, left to replay.',
    of: ({ samples }) => one(samples.reopened),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_cumulative_total',
    help: 'Data points of OTLP that are running totals which only rise, and so gauges.',
    of: ({ samples }) => one(samples.cumulative),
  },
  {
    kind: 'counter',
    name: 'fanout_sums_rounded_total',
    help: 'Points of counters whose sum is beyond 2^53, and so rounded.',
    of: ({ samples }) => one(samples.roundedSums),
  },
  {
    kind: 'counter',
    name: 'fanout_samples_filtered_total',
    help: 'Samples of names that METRICS_NAMES does not take.',
    of: ({ samples }) => one(samples.filtered),
  },
  {
    kind: 'gauge',
    name: 'fanout_open_windows',
    help: 'Windows being filled.',
    of: (s) => one(s.windows.open),
  },
  { kind: 'gauge', name: 'fanout_series', help: 'Series held in memory.', of: (s) => one(s.windows.series) },
  {
    kind: 'gauge',
    name: 'fanout_series_limit',
    help: 'Upper limit of fanout_series (MAX_SERIES).',
    of: ({ windows }) => one(windows.maxSeries),
  },
  {
    kind: 'gauge',
    name: 'fanout_series_bytes',
    help: 'What the series of a window cost: the most of the open windows and the last closed one.',
    of: ({ windows }) => one(windows.seriesBytes),
  },
  {
    kind: 'gauge',
    name: 'fanout_series_bytes_limit',
    help: 'Upper limit of fanout_series_bytes (MAX_SERIES_BYTES); absent if there is none.',
    of: ({ windows }) => (windows.maxSeriesBytes === null ? [] : one(windows.maxSeriesBytes)),
  },
  {
    kind: 'gauge',
    name: 'fanout_window_seconds',
    help: 'Length of a window.',
    of: ({ windows }) => one(windows.windowMs / 1000),
  },
  {
    kind: 'gauge',
    name: 'fanout_lateness_seconds',
    help: 'How long after its end a window is closed (LATENESS).',
    of: ({ windows }) => one(windows.latenessMs / 1000),
  },
  {
    kind: 'gauge',
    name: 'fanout_slices',
    help: 'Number of time slices that share the work, labelled with the slice of this instance.',
    labels: ['pipeline', 'slice'],
    of: ({ pipeline, slice: text }) => {
      const [slice = '', slices] = text.split('/');
      return [[{ pipeline, slice }, Number(slices)]];
    },
  },
  {
    kind: 'gauge',
    name: 'fanout_memory_limit_bytes',
    help: 'Memory that the process may use: the limit of its container, or the memory of the machine.',
    of: () => one(memoryLimit()),
  },
  {
    kind: 'gauge',
    name: 'fanout_source_pending_messages',
    help: 'Messages in the stream that have not been read yet.',
    of: ({ source }) => one(source.pendingMessages),
  },
  {
    kind: 'gauge',
    name: 'fanout_source_lag_seconds',
    help: 'Age of the last message read if there are more to read, otherwise 0.',
    of: ({ source }) => one(source.lagSeconds),
  },
  {
    kind: 'gauge',
    name: 'fanout_source_keeps_seconds',
    help: 'How long the stream keeps a message; absent if the stream has no time limit.',
    of: ({ source }) => (source.keepsSeconds === null ? [] : one(source.keepsSeconds)),
  },
  {
    kind: 'counter',
    name: 'fanout_source_gaps_total',
    help: 'Times that messages were no longer in the stream when they should have been read.',
    of: ({ source }) => one(source.gaps),
  },
  {
    kind: 'counter',
    name: 'fanout_source_gap_messages_total',
    help: 'Messages that were no longer in the stream when they should have been read.',
    of: ({ source }) => one(source.gapMessages),
  },
  {
    kind: 'counter',
    name: 'fanout_source_rollbacks_total',
    help: 'Times that the stream took back messages that had been read; their windows are computed again.',
    of: ({ source }) => one(source.rollbacks),
  },
  {
    kind: 'counter',
    name: 'fanout_source_resumptions_total',
    help: 'Times that reading continued with a new consumer.',
    of: ({ source }) => one(source.resumptions),
  },
  {
    kind: 'counter',
    name: 'fanout_source_misfits_total',
    help: 'Times that the stream was found changed so that it does not capture all of METRICS_SUBJECTS, or cannot be read.',
    of: ({ source }) => one(source.misfits),
  },
  {
    kind: 'counter',
    name: 'fanout_source_left_out_messages_total',
    help: 'Messages that were left out, with subjects that nobody saw the stream store: perhaps they were wanted.',
    of: ({ source }) => one(source.leftOut),
  },
  {
    kind: 'counter',
    name: 'fanout_source_answers_total',
    help: 'Requests for messages that the server ended by an answer without a message, by answer.',
    labels: ['answer'],
    of: ({ source }) => Object.entries(source.answers).map(([answer, value]) => [{ answer }, value]),
  },
  {
    kind: 'counter',
    name: 'fanout_bus_heard_messages_total',
    help: 'Messages heard by plain NATS while the service watched the bus (WATCH_SHARE).',
    of: ({ source }) => one(source.watch.heard),
  },
  {
    kind: 'counter',
    name: 'fanout_bus_unstored_messages_total',
    help: 'Messages heard by plain NATS that the stream never stored.',
    of: ({ source }) => one(source.watch.unstored),
  },
  {
    kind: 'gauge',
    name: 'fanout_bus_unstored_share',
    help: 'Estimated share of all messages that the stream did not store, 0 to 1; absent before anything was heard.',
    of: ({ source }) => (source.watch.share === null ? [] : one(source.watch.share)),
  },
  {
    kind: 'gauge',
    name: 'fanout_bus_unstored_share_error',
    help: 'Error of fanout_bus_unstored_share at 95 % confidence.',
    of: ({ source }) => (source.watch.error === null ? [] : one(source.watch.error)),
  },
  {
    kind: 'counter',
    name: 'fanout_bus_watch_spans_total',
    help: 'Spans in which the service watched the bus, by whether they could tell anything.',
    labels: ['result'],
    of: ({ source: { watch } }) => [
      [{ result: 'known' }, watch.spans],
      [{ result: 'unknown' }, watch.unknownSpans],
    ],
  },
  {
    kind: 'gauge',
    name: 'fanout_bus_connected',
    help: '1 while connected to the bus.',
    of: ({ bus }) => one(Number(bus.connected)),
  },
  {
    kind: 'gauge',
    name: 'fanout_detached',
    help: '1 while the instance stays off the bus because somebody detached it.',
    of: ({ detached }) => one(Number(detached)),
  },
  {
    kind: 'counter',
    name: 'fanout_bus_reconnects_total',
    help: 'Reconnections to the bus.',
    of: ({ bus }) => one(bus.reconnects),
  },
  {
    kind: 'counter',
    name: 'fanout_control_unanswered_total',
    help: 'Requests to control that were ignored because their answer would have gone outside CONTROL_REPLY_PREFIXES.',
    of: ({ control }) => one(control.unanswered),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_points_written_total',
    help: 'Points confirmed by the store; a point written again counts again.',
    labels: ['sink'],
    of: perSink((sink) => sink.written),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_points_rejected_total',
    help: 'Points that the store rejected for good, by reason.',
    labels: ['sink', 'reason'],
    of: perSinkAndReason(REJECT_REASONS, (sink) => sink.rejected),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_points_dropped_total',
    help: 'Points dropped because the lane was full and the bus cannot be read again (core mode only).',
    labels: ['sink'],
    of: perSink((sink) => sink.dropped),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_points_folded_total',
    help: 'Points that were folded because a window of the sink, longer than WINDOW, had too many series.',
    labels: ['sink'],
    of: perSink((sink) => sink.folded),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_retries_total',
    help: 'Failed writes that are tried again, by reason.',
    labels: ['sink', 'reason'],
    of: perSinkAndReason([...RETRY_REASONS, ...REFUSE_REASONS], (sink) => sink.retries),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_overflows_total',
    help: 'Times that a lane exceeded its backlog and left its windows to replay.',
    labels: ['sink'],
    of: perSink((sink) => sink.overflows),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_stalls_total',
    help: 'Times that the sink stood still, and its thread was ended and started again.',
    labels: ['sink'],
    of: perSink((sink) => sink.stalls),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_refills_total',
    help: 'Times that the store was not the one of the checkpoint, was emptied or had older content, and got windows again.',
    labels: ['sink'],
    of: perSink((sink) => sink.refills),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_receipt_failures_total',
    help: 'Receipts that the store could not be given: without them, nobody notices that it was restored from a backup.',
    labels: ['sink'],
    of: perSink((sink) => sink.receipts.failures),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_checkpoint_failures_total',
    help: 'Failed attempts to save a checkpoint, which are tried again.',
    labels: ['sink'],
    of: perSink((sink) => sink.checkpointFailures),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_backlog_points',
    help: 'Points queued or in flight.',
    labels: ['sink'],
    of: perSink((sink) => sink.backlogPoints),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_backlog_bytes',
    help: 'Memory held by windows that are not confirmed.',
    labels: ['sink'],
    of: perSink((sink) => sink.backlogBytes),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_backlog_limit_bytes',
    help: 'Upper limit of fanout_sink_backlog_bytes (SINK_<ID>_BACKLOG).',
    labels: ['sink'],
    of: perSink((sink) => sink.backlogLimitBytes),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_lag_seconds',
    help: 'Time since the end of the last confirmed window; if the checkpoint cannot be read, since the sink was stopped.',
    labels: ['sink'],
    // It is at least that, and the alert on what the stream is about to delete must come.
    of: ({ sinks, now }) =>
      sinks.map(({ id, lagSeconds, lastFailure }) => {
        const stoppedAt = lastFailure?.at ?? Date.parse(now);
        return [{ sink: id }, lagSeconds ?? Math.max(0, Date.parse(now) - stoppedAt) / 1000] as const;
      }),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_window_seconds',
    help: 'Length of the windows of the sink: WINDOW, or SINK_<ID>_WINDOW. While one fills, the sink lags by up to that.',
    labels: ['sink'],
    of: perSink((sink) => sink.windowMs / 1000),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_safe_until_timestamp_seconds',
    help: 'Until when the stream holds all that the sink still needs (Unix time); absent if nobody can tell.',
    labels: ['sink'],
    of: ({ sinks }) =>
      sinks.flatMap(({ id, safeUntil }) =>
        safeUntil === null ? [] : [[{ sink: id }, Date.parse(safeUntil) / 1000] as const],
      ),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_up',
    help: '1 while the store accepts writes.',
    labels: ['sink'],
    of: perSink((sink) => Number(sink.up)),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_paused',
    help: '1 while nothing is written to the sink because somebody paused it.',
    labels: ['sink'],
    of: perSink((sink) => Number(sink.paused)),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_catching_up',
    help: '1 while the sink gets its windows from its own replay.',
    labels: ['sink'],
    of: perSink((sink) => Number(sink.catchingUp)),
  },
  {
    kind: 'gauge',
    name: 'fanout_sink_catch_up_windows',
    help: 'Windows that the replay is behind the live path; 0 if the sink is not catching up.',
    labels: ['sink'],
    of: perSink((sink) => sink.catchUp?.windowsBehind ?? 0),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_stray_windows_total',
    help: 'Windows with rows that the stream no longer gives after a rollback, by whether these were removed or left.',
    labels: ['sink', 'result'],
    of: ({ sinks }) =>
      sinks.flatMap(({ id, strayWindows }) =>
        STRAY_RESULTS.map((result) => [{ sink: id, result }, strayWindows[result]] as const),
      ),
  },
  {
    kind: 'counter',
    name: 'fanout_sink_windows_verified_total',
    help: 'Windows read back from the store and compared with what was written, by result.',
    labels: ['sink', 'result'],
    of: ({ sinks }) =>
      sinks.flatMap(({ id, verified }) =>
        VERIFY_RESULTS.map((result) => [{ sink: id, result }, verified[result]] as const),
      ),
  },
];

const WRITE_DURATION = {
  kind: 'histogram',
  name: 'fanout_sink_write_duration_seconds',
  help: 'Duration of writes that the store took.',
  labels: ['sink'],
} as const satisfies Described;

const FAILED_WRITE_DURATION = {
  kind: 'histogram',
  name: 'fanout_sink_failed_write_duration_seconds',
  help: 'Duration of writes that failed and are tried again.',
  labels: ['sink'],
} as const satisfies Described;

const ANSWER_DURATION = {
  kind: 'histogram',
  name: 'fanout_sink_query_duration_seconds',
  help: 'How long the store took to answer the questions that it is asked every PROBE_INTERVAL.',
  labels: ['sink'],
} as const satisfies Described;

type Duration = typeof WRITE_DURATION | typeof FAILED_WRITE_DURATION | typeof ANSWER_DURATION;

/** prom-client's own measure of the event loop has a timer; this one (11 days) does not wake the process. */
const NEVER_MS = 1_000_000_000;

const LAGS: readonly (readonly [key: keyof LagFigures, help: string])[] = [
  ['min', 'The least by which a timer of the main thread was late, since the last scrape.'],
  ['max', 'The most by which a timer of the main thread was late, since the last scrape.'],
  ['mean', 'The mean by which timers of the main thread were late, since the last scrape.'],
  ['stddev', 'The standard deviation of how late timers of the main thread were, since the last scrape.'],
  ['p50', 'The 50th percentile of how late timers of the main thread were, since the last scrape.'],
  ['p90', 'The 90th percentile of how late timers of the main thread were, since the last scrape.'],
  ['p99', 'The 99th percentile of how late timers of the main thread were, since the last scrape.'],
];

/** All our metrics. prom-client adds those of Node.js. */
export const METRICS: readonly Described[] = [
  ...SHOWN,
  WRITE_DURATION,
  FAILED_WRITE_DURATION,
  ANSWER_DURATION,
];

export class Telemetry {
  readonly #registry = new Registry();
  readonly #writes: Histogram<'sink'>;
  readonly #failedWrites: Histogram<'sink'>;
  readonly #answers: Histogram<'sink'>;
  readonly #status: () => Status;
  /** The status of the current scrape, so that its figures belong together. */
  #shown: Status;

  constructor(status: () => Status, lag: LoopLag = new LoopLag()) {
    this.#status = status;
    this.#shown = status();
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: NEVER_MS });
    this.#showLag(lag);
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
    for (const shown of SHOWN) this.#register(shown);
    this.#writes = this.#durations(WRITE_DURATION);
    this.#failedWrites = this.#durations(FAILED_WRITE_DURATION);
    this.#answers = this.#durations(ANSWER_DURATION);
  }

  #durations({ name, help, labels: labelNames }: Duration) {
    const registers = [this.#registry];
    return new Histogram({ name, help, labelNames, buckets: WRITE_BUCKETS_SECONDS, registers });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** `taken`: the store took the write. */
  observeWrite(sink: string, seconds: number, taken: boolean): void {
    (taken ? this.#writes : this.#failedWrites).observe({ sink }, seconds);
  }

  observeAnswer(sink: string, seconds: number): void {
    this.#answers.observe({ sink }, seconds);
  }

  async text(): Promise<string> {
    this.#shown = this.#status();
    return await this.#registry.metrics();
  }

  /** Under the names that prom-client has for them. */
  #showLag(lag: LoopLag): void {
    let figures = lag.take();
    const lagOf = (key: keyof LagFigures) => figures[key];
    for (const [index, [key, help]] of LAGS.entries()) {
      const name = `nodejs_eventloop_lag_${key}_seconds`;
      this.#registry.removeSingleMetric(name);
      new Gauge({
        name,
        help,
        registers: [this.#registry],
        collect() {
          if (index === 0) figures = lag.take();
          this.set(lagOf(key));
        },
      });
    }
  }

  #register({ kind, name, help, labels = [], of }: Shown): void {
    const values = () => of(this.#shown);
    const options = { name, help, labelNames: [...labels], registers: [this.#registry] };
    if (kind === 'gauge') {
      new Gauge({
        ...options,
        collect() {
          this.reset();
          for (const [labelsOf, value] of values()) this.set(labelsOf, value);
        },
      });
      return;
    }
    new Counter({
      ...options,
      collect() {
        // To keep the hot loop fast, the service counts in plain numbers. A scrape copies them.
        this.reset();
        for (const [labelsOf, value] of values()) this.inc(labelsOf, value);
      },
    });
  }
}
