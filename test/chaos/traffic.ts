/** Runs `load` in a process of its own, and finds out which of its messages the stream holds. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import { readTruthFile } from '../../src/verify/rows.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';

export const WINDOW_MS = 1_000;
export const WINDOWS = {
  WINDOW: '1s',
  LATENESS: '500ms',
  MAX_AHEAD: '500ms',
  METRICS_START: 'earliest',
} as const;

export interface TrafficOptions {
  readonly seed: number;
  /** Messages per second. */
  readonly rate: number;
  readonly series: number;
}

/** What was sent. A bus that crashes may lose messages, which are not in the truth. */
export interface Sent {
  readonly messages: number;
  /** How many of them the stream holds. */
  readonly held: number;
  readonly truth: readonly TruthRow[];
  /** The end of the last window, in ms since 1970. */
  readonly end: number;
}

export interface RunningTraffic {
  /** Resolves when the first message is on the bus. Rejects if the process ends before that. */
  begun(): Promise<void>;
  /** Stops sending, and reads back what the stream holds. */
  end(signal: AbortSignal): Promise<Sent>;
  kill(): Promise<unknown>;
}

/** Sends until `end` or `kill` is called. */
export function startTraffic(
  { seed, rate, series }: TrafficOptions,
  env: Readonly<Record<string, string>>,
  truthFile: string,
): RunningTraffic {
  const shape = ['--late', '0.05', '--ahead', '0.02', '--types', 'counter:6,gauge:2,timer:2'];
  const amount = ['--rate', String(rate), '--series', String(series), '--seed', String(seed)];
  const load = startProgram(['load', ...amount, ...shape, '--truth', truthFile], env);
  return {
    begun: () => heard(env.NATS_URL!, load),
    kill: () => load.stop('SIGKILL'),
    async end(signal) {
      load.child.kill('SIGINT');
      const timer = new AbortController();
      const late = sleep(LIMIT_MS, undefined, { signal: AbortSignal.any([signal, timer.signal]) });
      // The exit code is not checked: it says whether the bus lost something, which may happen.
      const code = await Promise.race([load.ended, late.then(() => 'no end in time')]);
      timer.abort();
      late.catch(() => {});
      const messages = numberBehind('sent', load.output.stdout);
      const held = numberBehind('the stream holds', load.output.stdout);
      if (messages === undefined || held === undefined) {
        throw new Error(`load ended with ${code}: ${load.output.stderr}${load.output.stdout}`);
      }
      const truth = await readTruthFile(truthFile);
      const end = truth.reduce((most, { windowStart }) => Math.max(most, windowStart! + WINDOW_MS), 0);
      return { messages, held, truth, end };
    },
  };
}

async function heard(url: string, load: Program): Promise<void> {
  const connection = await connect({ servers: url.split(',') });
  const { promise: came, resolve } = Promise.withResolvers<void>();
  connection.subscribe('metrics.>', { max: 1, callback: () => resolve() });
  const ended = load.ended.then((code) => {
    throw new Error(`load ended with ${code}: ${load.output.stderr}${load.output.stdout}`);
  });
  ended.catch(() => {});
  await Promise.race([came, ended]).finally(() => connection.close());
}

function numberBehind(words: string, text: string): number | undefined {
  const [, digits] = new RegExp(`${words} ([0-9,]+) messages`).exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits.replaceAll(',', ''));
}
