/** Reports from lanes and pipelines to the operator: one log line per kind of event, not one per event. */

import type { FoldedName } from '../aggregate/folded-names.ts';
import type { Point, Series } from '../aggregate/point.ts';
import type { Clock } from '../base/clock.ts';
import { type Log, Quiet } from '../base/log.ts';
import { BucketGone, type BusError, OtherWindows, UnreadableCheckpoint } from '../bus/bus-error.ts';
import type { Bus } from '../bus/connect.ts';
import { SAME_NAMES_ADVICE } from '../bus/kv/checkpoints.ts';
import { publishRejected } from '../bus/rejected.ts';
import { type InputRejection as DecodeRejection, REJECTION_TEXTS } from '../decode/rejection.ts';
import type { Rejection, Unidentified, WindowRange } from '../sink/contract.ts';
import type { OlderContent } from './lane/receipts.ts';
import type { StoreFailure } from './lane/writer.ts';
import type { Rollback } from './rollback.ts';
import type { StrayWindows } from './strays.ts';

const INTERVAL_MS = 1000;
const CHECKPOINT_INTERVAL_MS = 60_000;
/** How much of a rejected message the log shows. */
const SHOWN_BYTES = 200;

export class Reports {
  readonly #log: Log;
  readonly #clock: Clock;
  #hasToldCumulative = false;
  #hasToldRounded = false;
  readonly #quiet = new Quiet(INTERVAL_MS);
  readonly #seldom = new Quiet(CHECKPOINT_INTERVAL_MS);

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Once: it is how the producer works. */
  cumulative(): void {
    if (this.#hasToldCumulative) return;
    this.#hasToldCumulative = true;
    this.#log.warn(
      { advice: "Set the SDK's temporality to delta (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE)." },
      'producers send running totals (OTLP, cumulative): they are gauges here',
    );
  }

  /** Once: such a counter stays large. */
  rounded({ name }: Series, sum: number): void {
    if (this.#hasToldRounded) return;
    this.#hasToldRounded = true;
    this.#log.warn(
      { series: name, sum, advice: 'Count in a larger unit.' },
      'the sum of a counter in a window is beyond 2^53, and rounded',
    );
  }

  /** One line a minute, however many names. */
  folded(names: readonly FoldedName[]): void {
    const heldBack = this.#seldom.admit('folded', this.#clock.steady());
    if (heldBack === undefined) return;
    const shown = names.map(({ name, type, samples, key, values, looked }) => ({
      ...{ name, type, samples },
      ...(key === undefined ? {} : { key, values, ofSeries: looked }),
    }));
    this.#log.warn(
      {
        names: shown,
        heldBack,
        advice:
          'Have the producer leave out the key, or drop it (METRICS_DROP_DIMENSIONS), or raise the limit.',
      },
      'these names have too many series in a window: further ones are folded, most likely because of these keys',
    );
  }

  /** One line a minute for each sink. */
  pointsFolded(sink: string, points: number): void {
    const heldBack = this.#seldom.admit(`folded ${sink}`, this.#clock.steady());
    if (heldBack === undefined) return;
    const advice =
      'Raise MAX_SERIES or MAX_SERIES_BYTES, or drop keys with ever new values (METRICS_DROP_DIMENSIONS).';
    this.#log.warn(
      { sink, points, heldBack, advice },
      'a window of the sink, as long as it is, has too many series: further ones are folded, by name',
    );
  }

  /** Most likely a typing error: the store looks well, and gets nothing. One line a minute for each sink. */
  nothingChosen(sink: string, names: readonly string[], windows: number): void {
    const heldBack = this.#seldom.admit(`chosen ${sink}`, this.#clock.steady());
    if (heldBack === undefined) return;
    const advice = `Correct SINK_${sink.toUpperCase()}_NAMES, unless such names come only now and then.`;
    this.#log.warn(
      { sink, names: names.join(', '), windows, heldBack, advice },
      'the sink gets nothing: no name of the latest windows matches its names',
    );
  }

  messageRejected(reason: DecodeRejection, message: Uint8Array, count: number): void {
    const held = this.#quiet.admit(`message ${reason}`, this.#clock.steady());
    if (held === undefined) return;
    const start = Buffer.from(message.subarray(0, SHOWN_BYTES)).toString('utf8');
    const advice = REJECTION_TEXTS[reason];
    this.#log.warn(
      { reason, count, bytes: message.length, start, heldBack: held, advice },
      'rejected a message',
    );
  }

  /** `safeUntil`: see `Engine.safeUntil`. */
  sinkChanged(sink: string, up: boolean, failure: StoreFailure | undefined, safeUntil?: number): void {
    if (up) {
      this.#log.info({ sink }, 'the sink is up');
      return;
    }
    const nothingLostUntil = safeUntil === undefined ? {} : { nothingLostUntil: isoTime(safeUntil) };
    this.#log.warn(
      { sink, reason: failure?.reason, error: failure?.message, ...nothingLostUntil },
      'the sink is down; retrying',
    );
  }

  /** Delivery goes on. After a crash, what was confirmed since the last saved checkpoint would be written again. */
  checkpointFailed(sink: string, error: unknown, next: number, atStop: boolean): void {
    if (error instanceof UnreadableCheckpoint) {
      this.checkpointUnreadable(sink, error);
      return;
    }
    if (error instanceof BucketGone) {
      this.#bucketGone(error);
      return;
    }
    const held = this.#seldom.admit(`checkpoint ${sink}`, this.#clock.steady());
    if (held === undefined && !atStop) return;
    const fields = { sink, next: new Date(next).toISOString(), error: String(error), heldBack: held ?? 0 };
    const then = atStop ? 'the next start will write the windows since the last one again' : 'trying again';
    this.#log.warn(fields, `could not save the checkpoint; ${then}`);
  }

  #bucketGone({ message, advice }: BusError): void {
    const heldBack = this.#seldom.admit('bucket', this.#clock.steady());
    if (heldBack === undefined) return;
    this.#log.error(
      { error: message, advice, heldBack },
      'not ready: the bucket of the checkpoints was deleted',
    );
  }

  /** The sink is stopped. The others go on. */
  checkpointUnreadable(sink: string, error: BusError): void {
    const { message, advice } = error;
    const heldBack = this.#seldom.admit(`unreadable ${sink}`, this.#clock.steady());
    if (heldBack === undefined) return;
    const fields = { sink, error: message, advice, heldBack };
    const why = error instanceof OtherWindows ? 'is of windows of another length' : 'cannot be read';
    this.#log.error(fields, `the sink is stopped: its checkpoint ${why}`);
  }

  /** The setting is not what the checkpoint says. */
  choosesNames(sink: string, names: readonly string[], from: number): void {
    this.#log.info(
      { sink, names: names.length === 0 ? 'all' : names.join(', '), from: new Date(from).toISOString() },
      'the sink gets other names from this window on; earlier windows keep theirs',
    );
  }

  choosesOtherNames(sink: string, slice: string): void {
    this.#log.warn(
      { sink, slice, advice: SAME_NAMES_ADVICE },
      'an instance of another slice gives the sink other names',
    );
  }

  /** The news of a window do not get into the store. */
  namesUnknown(sink: string, start: number): void {
    const heldBack = this.#quiet.admit(`names ${sink}`, this.#clock.steady());
    if (heldBack === undefined) return;
    const window = new Date(start).toISOString();
    const advice = `If the sink may get the names of today there, run metrics-fanout checkpoint set --sink ${sink} --to ${window} while the service is stopped.`;
    this.#log.error(
      { sink, window, advice, heldBack },
      'a window that got more samples is not written again: its names were changed too often since to know which it got',
    );
  }

  resumes(sink: string, next: number, hasCheckpoint: boolean): void {
    this.#log.info(
      { sink, next: new Date(next).toISOString() },
      hasCheckpoint
        ? 'the sink continues from its checkpoint; METRICS_START and SINK_<ID>_START have no effect'
        : 'the sink has no checkpoint yet',
    );
  }

  storeUnnamed(sink: string, reason: string): void {
    const heldBack = this.#seldom.admit(`unnamed ${sink}`, this.#clock.steady());
    if (heldBack === undefined) return;
    const fields = { sink, reason, heldBack };
    this.#log.warn(fields, 'the sink cannot tell which store it has: it would not notice if it was replaced');
  }

  /** The sink is stopped, until the service starts again. The others go on. */
  tableShared(sink: string, failure: string): void {
    this.#log.error({ sink, error: failure }, 'the sink is stopped: it shares its table with another one');
  }

  /** Once for each outage. */
  receiptsChanged(sink: string, failure: string | undefined): void {
    if (failure === undefined) this.#log.info({ sink }, 'the store takes receipts again');
    else
      this.#log.warn(
        { sink, error: failure },
        'the store takes no receipt: if it was restored from a backup now, that would not be noticed; trying again',
      );
  }

  storeReplaced(
    sink: string,
    from: number,
    lost: WindowRange | undefined,
    older: OlderContent | undefined,
  ): void {
    const fields = { sink, from: new Date(from).toISOString() };
    const what =
      older === undefined
        ? 'the store is not the one of the checkpoint, or was emptied'
        : 'the store holds older content than it did, as if it was restored from a backup';
    const message = `${what}: all windows from here on are written to it again`;
    if (lost === undefined) this.#log.warn(fields, message);
    else
      this.#log.error(
        { ...fields, lost: { from: new Date(lost.from).toISOString(), to: new Date(lost.to).toISOString() } },
        `${message}; the stream no longer holds earlier ones`,
      );
  }

  /** The stream no longer holds what was read of it. `isMisread`: it does, but was changed. */
  rolledBack({ after, through, from, to }: Rollback, isMisread: boolean): void {
    this.#log.warn(
      { after, through, from: new Date(from).toISOString(), to: new Date(to).toISOString() },
      isMisread
        ? 'the stream was changed: messages that were read after this sequence may have been counted or left out wrongly; their windows are computed again'
        : 'the stream was rolled back: it no longer holds the messages that were read after this sequence; their windows are computed again',
    );
  }

  /** The checkpoints are of a stream that is gone. */
  orphaned({ from, to }: WindowRange): void {
    const advice =
      'These windows may lack messages for good, unless a copy of that stream is left to replay.';
    this.#log.error(
      { from: new Date(from).toISOString(), to: new Date(to).toISOString(), advice },
      'the stream is another one than that of the checkpoints: what that one held for these windows was not read',
    );
  }

  /** Rows of windows that a rollback of the stream touched, and that it no longer gives. */
  swept(sink: string, { removed, left }: StrayWindows, why: string | undefined): void {
    if (removed > 0)
      this.#log.warn(
        { sink, windows: removed },
        'removed rows from the store that the stream no longer gives',
      );
    if (left === 0) return;
    const advice = `Run metrics-fanout verify --sink ${sink} to list rows that are too many.`;
    this.#log.warn(
      { sink, windows: left, reason: why, advice },
      'left rows in the store that the stream may no longer give',
    );
  }

  /** The store that announces window shapes is out of reach. Windows are closed only as far as the shape is known. */
  epochsUnknown(error: unknown): void {
    const held = this.#seldom.admit('epochs', this.#clock.steady());
    if (held === undefined) return;
    this.#log.warn(
      { error: String(error), heldBack: held },
      'cannot reach the checkpoints; after CHANGE_DELAY, windows wait for them',
    );
  }

  leftUnread(messages: number): void {
    const advice = 'Raise STOP_TIMEOUT if producers send that much.';
    this.#log.error({ messages, advice }, 'stopped before all messages that had arrived were read');
  }

  reopened(starts: readonly number[]): void {
    const held = this.#quiet.admit('reopened', this.#clock.steady());
    if (held === undefined) return;
    const first = new Date(starts[0]!).toISOString();
    this.#log.warn(
      { windows: starts.length, first, heldBack: held },
      'windows got more samples; computing them again',
    );
  }

  /** One line for each difference. */
  differs(sink: string, difference: string, start: number): void {
    this.#log.error(
      {
        sink,
        difference,
        advice: `Run metrics-fanout verify --sink ${sink} --from ${new Date(start).toISOString()} to list the rows that differ.`,
      },
      'a window in the store is not what it should be',
    );
  }

  /** I5: a point refused for good is recorded: counted, logged, and published if configured. */
  pointsRejected(sink: string, rejected: readonly RejectedPoint[], bus: Bus | undefined): void {
    for (const { point, rejection } of rejected) {
      if (bus) publishRejected(bus, sink, recordOf(sink, point, rejection));
    }
    const first = rejected[0];
    const held = this.#quiet.admit(`point ${sink}`, this.#clock.steady());
    if (first === undefined || held === undefined) return;
    const { reason, message } = first.rejection;
    const example = { name: first.point.series.name, reason, error: message };
    this.#log.warn(
      { sink, points: rejected.length, example, heldBack: held },
      'the store refused points for good',
    );
  }

  /** Like `pointsRejected`, for points that nobody can name, so that none can be published. */
  pointsLost(sink: string, { count, message }: Unidentified): void {
    const held = this.#quiet.admit(`lost ${sink}`, this.#clock.steady());
    if (held === undefined) return;
    this.#log.warn(
      { sink, points: count, error: message, heldBack: held },
      'the store refused points for good without saying which',
    );
  }
}

/** A point that a store rejected for good, to show. */
export interface RejectedExample {
  /** RFC 3339. */
  readonly at: string;
  readonly reason: string;
  /** The series of the point; empty if nobody knows which one it was. */
  readonly example: string;
  /** What the store said. */
  readonly message: string;
}

/** Names come from outside, and may be long. */
const MAX_EXAMPLE_CHARACTERS = 200;

export function exampleOf({ point: { series }, rejection }: RejectedPoint, now: number): RejectedExample {
  const dimensions = series.dimensions.map(([key, value]) => `${key}=${value}`).join(', ');
  const text = dimensions === '' ? series.name : `${series.name} {${dimensions}}`;
  const { reason, message } = rejection;
  return { at: isoTime(now), reason, example: cutTo(text), message: cutTo(message) };
}

export function unidentifiedExample({ message }: Unidentified, now: number): RejectedExample {
  return { at: isoTime(now), reason: 'unidentified', example: 'a point', message: cutTo(message) };
}

const cutTo = (text: string) =>
  text.length > MAX_EXAMPLE_CHARACTERS ? `${text.slice(0, MAX_EXAMPLE_CHARACTERS)}…` : text;

const isoTime = (ms: number) => new Date(ms).toISOString();

export interface RejectedPoint {
  readonly point: Point;
  readonly rejection: Rejection;
}

/** The message on `fanout.rejected.<sink>`: the point, named as in the stores' columns, and why it was rejected. */
function recordOf(sink: string, point: Point, { reason, message }: Rejection): object {
  const { series, windowStart, windowMs, ...values } = point;
  return {
    sink,
    reason,
    message,
    point: {
      window_start: windowStart,
      window_ms: windowMs,
      series_id: series.id,
      name: series.name,
      type: series.type,
      dimensions: Object.fromEntries(series.dimensions),
      ...values,
    },
  };
}
