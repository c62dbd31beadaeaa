/** What a trial found, as `trial --json` writes it and `trial diff` reads it. */

/** The stages in their order. Each can be left out. */
export const STAGES = ['ingest', 'backfill', 'questions', 'freshness', 'room', 'money', 'proof'] as const;
export type Stage = (typeof STAGES)[number];

export const FORMAT = 'metrics-fanout trial 1';

/** Milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** One step of the ladder of writers. */
export interface Rung {
  /** Writes under way at once; each writer has a connection and a thread of its own. */
  readonly writers: number;
  readonly points: number;
  readonly seconds: number;
  readonly pointsPerSecond: number;
  readonly write: Latency;
  /** Microseconds of processor time of this program for each point. */
  readonly cpuPerPoint: number;
  /** Writes that had to be sent again, and points that were refused, by reason. */
  readonly errors: Readonly<Record<string, number>>;
  /** Points a second in equal parts of the rung, for `diff`. */
  readonly rounds: readonly number[];
}

export interface Ingest {
  readonly rungs: readonly Rung[];
  /** Writers after which it no longer grew by 10 %. */
  readonly writers: number;
  readonly ceiling: number;
  /** While all stores were written to at once. */
  readonly together: Rung | null;
}

export interface Backfill {
  readonly writers: number;
  readonly points: number;
  readonly seconds: number;
  readonly pointsPerSecond: number;
  /** Computed from these: how long an hour and a day of this traffic take. */
  readonly hourSeconds: number;
  readonly daySeconds: number;
}

export interface HotRun extends Latency {
  readonly clients: number;
  readonly answers: number;
  readonly perSecond: number;
  /** The median latency of each round, in ms: rounds are spread over the stage. */
  readonly rounds: readonly number[];
  /** The fastest answer of each round, in ms: what else goes on moves it least. */
  readonly fastest: readonly number[];
}

export type AskedResult =
  | { readonly kind: 'not_asked'; readonly why: string }
  | { readonly kind: 'failed'; readonly why: string }
  /** The answer is not the truth. It has no times. */
  | { readonly kind: 'different'; readonly difference: string }
  /** `cold`: the first time, over a new connection, in ms. */
  | { readonly kind: 'equal'; readonly rows: number; readonly cold: number; readonly hot: readonly HotRun[] };

export interface QuestionResult {
  readonly id: string;
  readonly asked: AskedResult;
}

/** A window of which a query does not return all rows within this time is missed. */
export const MISSED_AFTER_MS = 30_000;

/** Of windows, each written alone: until the store acknowledged it, and until a query returned all of its rows. */
export interface Freshness {
  readonly windows: number;
  /** Milliseconds from the end of a window that pass before it is written: LATENESS. */
  readonly lateness: number;
  readonly acknowledged: Latency;
  /** A missed window counts with the time after which it was given up: it took at least that. */
  readonly returned: Latency;
  /** In ms, for `diff`. */
  readonly rounds: readonly number[];
  /** Windows of which a query did not return all rows in time. */
  readonly missed: number;
}

export interface Room {
  readonly rows: number;
  /** Null if the store does not say. */
  readonly bytes: number | null;
  readonly bytesAfterCompaction: number | null;
  readonly bytesPerRow: number | null;
}

export interface Money {
  /** At the rate of this traffic, with a month of rows kept. Null if no price is known. */
  readonly usdPerMonth: number | null;
  readonly usdPerMillionPoints: number | null;
  readonly usdPerMillionQuestions: number | null;
  readonly assumption: string;
}

export interface ProofResult {
  readonly equal: number;
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  readonly examples: readonly string[];
}

const FAILED = 'failed, and the trial of this store ended';

export function failureRemark(what: string, why: string): string {
  return `${what} ${FAILED}: ${why}`;
}

/** Whether the remark says that the trial of its store ended early. */
export function isFailure(remark: string): boolean {
  return remark.includes(FAILED);
}

/** A stage that was left out, or that this store has not, is null, with the reason in `remarks`. */
export interface StoreResult {
  readonly id: string;
  readonly kind: string;
  readonly version: string | null;
  /** False: what it was given cannot be read, so nothing is proved. Its figures are compared with no other. */
  readonly isReadable?: boolean;
  /** Without what is secret. */
  readonly endpoint: string;
  readonly ingest: Ingest | null;
  readonly backfill: Backfill | null;
  readonly questions: readonly QuestionResult[];
  readonly freshness: Freshness | null;
  readonly room: Room | null;
  readonly money: Money | null;
  readonly proof: ProofResult | null;
  /** What went wrong or was left out, and what is left in the store. */
  readonly remarks: readonly string[];
}

export interface TrafficResult {
  readonly from: string;
  readonly to: string;
  readonly windows: number;
  readonly windowMs: number;
  readonly points: number;
  readonly series: number;
  readonly pointsPerSecond: number;
  /** By the same estimate for all stores. */
  readonly bytesPerPoint: number;
  readonly messages: number;
  readonly remarks: readonly string[];
}

export interface TrialResult {
  readonly format: typeof FORMAT;
  /** RFC 3339. */
  readonly at: string;
  readonly seconds: number;
  readonly program: { readonly version: string; readonly commit: string | null; readonly node: string };
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly os: string;
  };
  /** How to run it again. */
  readonly command: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly secondsEach: number;
  readonly without: readonly Stage[];
  readonly traffic: TrafficResult;
  readonly questions: readonly { readonly id: string; readonly text: string }[];
  readonly stores: readonly StoreResult[];
  /** Whether it ran to its end. */
  readonly complete: boolean;
}
