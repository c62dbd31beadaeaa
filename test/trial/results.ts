/** Results of trials, made up. */
import { FORMAT, type HotRun, type StoreResult, type TrialResult } from '../../src/trial/result.ts';

/** Ten rounds around a median, as far apart as the share. */
export function roundsOf(median: number, spread = 0.05, shift = 0): number[] {
  return Array.from(
    { length: 10 },
    (_, index) => median * (1 + (spread * (((index + shift) % 10) - 4.5)) / 4.5),
  );
}

export function hotRun(clients: number, ms: number, shift = 0): HotRun {
  const rounds = roundsOf(ms, 0.05, shift).map(
    (value, index) => value * (1 + 0.001 * ((index * 7 + shift) % 5)),
  );
  return {
    clients,
    answers: 100,
    perSecond: (1000 * clients) / ms,
    p50: ms,
    p95: 2 * ms,
    p99: 3 * ms,
    rounds,
    fastest: rounds.map((value) => 0.9 * value),
  };
}

export interface StoreParts extends Partial<StoreResult> {
  /** The median of every question, in ms. */
  readonly ms?: number;
  readonly pointsPerSecond?: number;
  readonly shift?: number;
}

/** What the result of a store has if every stage was left out. */
export const NOT_MEASURED = {
  ingest: null,
  backfill: null,
  questions: [],
  freshness: null,
  room: null,
  money: null,
  proof: null,
};

export const QUESTIONS = [
  { id: 'sum-5m', text: 'sum of requests over 5 min' },
  { id: 'by-one', text: 'sum of requests over 1 h, by app' },
  { id: 'by-two', text: 'sum of requests over 1 h, by app and status' },
  { id: 'top-10', text: 'the ten hosts with the most requests' },
] as const;

export function storeResult({
  ms = 2,
  pointsPerSecond = 20_000,
  shift = 0,
  ...parts
}: StoreParts = {}): StoreResult {
  return {
    id: 'one',
    kind: 'sqlite',
    version: 'SQLite 3',
    endpoint: '/tmp/one.db',
    ingest: {
      rungs: [
        {
          writers: 1,
          points: 100_000,
          seconds: 5,
          pointsPerSecond,
          write: { p50: 10, p95: 20, p99: 30 },
          cpuPerPoint: 5,
          errors: {},
          rounds: roundsOf(pointsPerSecond, 0.05, shift),
        },
      ],
      writers: 1,
      ceiling: pointsPerSecond,
      together: null,
    },
    backfill: { writers: 1, points: 1000, seconds: 1, pointsPerSecond, hourSeconds: 9, daySeconds: 216 },
    questions: QUESTIONS.map(({ id }) => ({
      id,
      asked: {
        kind: 'equal',
        rows: 3,
        cold: 2 * ms,
        hot: [1, 8, 32].map((clients) => hotRun(clients, ms * clients, shift)),
      },
    })),
    freshness: {
      windows: 10,
      lateness: 2000,
      acknowledged: { p50: 5, p95: 8, p99: 9 },
      returned: { p50: 10, p95: 12, p99: 15 },
      rounds: roundsOf(10, 0.1, shift),
      missed: 0,
    },
    room: { rows: 1000, bytes: 100_000, bytesAfterCompaction: 90_000, bytesPerRow: 90 },
    money: {
      usdPerMonth: 50,
      usdPerMillionPoints: 0.01,
      usdPerMillionQuestions: 0.2,
      assumption: '50 USD for the instance',
    },
    proof: { equal: 1000, missing: 0, extra: 0, different: 0, examples: [] },
    remarks: [],
    ...parts,
  };
}

export function trialResult(stores: readonly StoreResult[], parts: Partial<TrialResult> = {}): TrialResult {
  return {
    format: FORMAT,
    at: '2026-11-30T12:00:00.000Z',
    seconds: 600,
    program: { version: '0.1.0', commit: 'abc1234', node: 'v24.0.0' },
    machine: { cpu: 'a processor', cores: 2, memoryBytes: 8e9, os: 'linux' },
    command: 'metrics-fanout trial --sinks one,two',
    settings: { NATS_URL: 'nats://127.0.0.1:4222' },
    secondsEach: 5,
    without: [],
    traffic: {
      from: '2026-11-30T11:00:00.000Z',
      to: '2026-11-30T12:00:00.000Z',
      windows: 360,
      windowMs: 10_000,
      points: 1000,
      series: 100,
      pointsPerSecond: 5_000,
      bytesPerPoint: 220,
      messages: 1_000_000,
      remarks: [],
    },
    questions: QUESTIONS,
    stores,
    complete: true,
    ...parts,
  };
}
