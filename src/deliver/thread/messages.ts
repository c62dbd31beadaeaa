/** The messages between a lane and the thread of its sink. */
import type { MessagePort } from 'node:worker_threads';
import type { Point } from '../../aggregate/point.ts';
import type { SharedMemory } from '../../aggregate/series-records.ts';
import type { SketchColumns } from '../../aggregate/sketch.ts';
import type { Settings, Values } from '../../settings/setting.ts';
import type {
  Question,
  ReceiptBefore,
  RefuseReason,
  RetryReason,
  StoredPoint,
  WindowRange,
  WriteOutcome,
} from '../../sink/contract.ts';
import type { Digest } from '../lane/digest.ts';
import type { ChosenNames } from '../name-choices.ts';

/** An answer with fewer rows than this is the last one of its reading. */
export const ROWS_PER_ANSWER = 500;

/** Describes the sink that the thread runs. */
export interface ThreadData {
  readonly id: string;
  /** See `SinkConfig.kind`. */
  readonly kind: string;
  readonly values: Values<Settings>;
  /** See `SinkContext`. */
  readonly timeoutMs?: number;
  readonly readOnly?: true;
}

/** What is said to the thread itself: it shall run this sink, and speak with its lane through the port. */
export interface SeatData {
  readonly data: ThreadData;
  readonly port: MessagePort;
}

export type ToThread =
  | { readonly kind: 'open' | 'close' | 'storage' | 'identity' | 'version'; readonly call: number }
  | { readonly kind: 'receipt'; readonly call: number; readonly writer: string }
  | {
      readonly kind: 'give_receipt';
      readonly call: number;
      readonly writer: string;
      readonly time: number;
      readonly known: number | undefined;
    }
  | { readonly kind: 'ask'; readonly call: number; readonly question: Question }
  | { readonly kind: 'write'; readonly call: number; readonly window: number; readonly indices: Uint32Array }
  /** Commands write, read and remove single points; a lane has windows. */
  | { readonly kind: 'write_points' | 'remove'; readonly call: number; readonly points: readonly Point[] }
  | { readonly kind: 'start_reading'; readonly reading: number; readonly range: WindowRange }
  | { readonly kind: 'start_reading'; readonly reading: number; readonly points: readonly Point[] }
  | { readonly kind: 'read_rows'; readonly call: number; readonly reading: number }
  | { readonly kind: 'end_reading'; readonly reading: number }
  | { readonly kind: 'abort'; readonly call: number }
  | { readonly kind: 'held_windows'; readonly call: number; readonly range: WindowRange }
  | {
      readonly kind: 'strays';
      readonly call: number;
      readonly start: number;
      readonly windowMs: number;
      readonly instance: string;
      /** The window that has all the keys there should be; undefined if there should be none. */
      readonly window: number | undefined;
      readonly remove: boolean;
      /** See `StraySink`. */
      readonly names: ChosenNames | undefined;
    }
  | {
      readonly kind: 'digest';
      readonly call: number;
      readonly window: number;
      readonly names: ChosenNames | undefined;
    }
  | {
      readonly kind: 'read_back';
      readonly call: number;
      readonly from: number;
      readonly to: number;
      readonly instance: string;
      /** The window whose keys the store is asked for; undefined to ask for the range. */
      readonly window: number | undefined;
      readonly names: ChosenNames | undefined;
    }
  /** The window's columns and series are shared, not copied. */
  | {
      readonly kind: 'window';
      readonly window: number;
      readonly start: number;
      readonly windowMs: number;
      readonly instance: string;
      readonly refs: Uint32Array;
      /** Records with the same number only grow: what they hold stays valid. */
      readonly records: {
        readonly number: number;
        readonly memory: SharedMemory;
        /** See `SeriesRecords`. */
        readonly retiredBytes: number;
      };
      readonly rows: Uint32Array;
      readonly values: Float64Array;
      readonly sketches?: SketchColumns;
    }
  | { readonly kind: 'forget'; readonly window: number };

/** How a question was answered: the rows themselves stay in the thread. */
export interface Answered {
  /** Time from the question to the last row. */
  readonly seconds: number;
  readonly rows: number;
}

/**
 * The outcome of a write, a digest, the answer to a question, a number of bytes or rows, rows, starts of windows, an
 * identity, a receipt, a version, or nothing.
 */
export type ThreadAnswer =
  | WriteOutcome
  | Digest
  | Answered
  | ReceiptBefore
  | number
  | readonly number[]
  | readonly StoredPoint[]
  | string
  | undefined;

export type FromThread =
  | { readonly kind: 'done'; readonly call: number; readonly answer: ThreadAnswer }
  | { readonly kind: 'thrown'; readonly call: number; readonly error: ThrownError }
  /** There is no such sink, or it cannot be made. */
  | { readonly kind: 'failed'; readonly error: ThrownError }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn';
      readonly fields: object;
      readonly message: string;
    };

/** What survives of an error that crosses the threads. `reason` is set if it was a `SinkError`. */
export interface ThrownError {
  readonly reason: RetryReason | RefuseReason | undefined;
  readonly message: string;
  readonly advice: string;
}
