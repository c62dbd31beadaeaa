/** Tries a sink: writes a point that no producer makes, twice, reads it back, and removes it. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Point } from '../aggregate/point.ts';
import { errorText } from '../base/error-text.ts';
import type { ThreadedSink } from '../deliver/thread/threaded-sink.ts';
import { checkProbe } from '../sink/check-probe.ts';
import { type ReadBack, SinkError } from '../sink/contract.ts';

/** After its timeout, a sink that heeds its signal has this long to say in its own words what it waited for. */
const LAST_WORD_MS = 500;
/** How long a store may take to show what it has acknowledged. VictoriaMetrics takes a few seconds. */
const PATIENCE_MS = 30_000;
const LOOK_EVERY_MS = 500;
/** A store that takes a while to show the first write may take this much longer to show the second one. */
const SECOND_WRITE_MS = 3_000;

const NOT_THERE = 'the store acknowledged the probe point, but does not have it';
const NOT_THERE_ADVICE =
  'Look for what drops points on the way: a proxy, a relabelling rule, a limit of the store on names or labels. What it drops in silence, nobody counts.';

const TWICE_ADVICE =
  'The store counts twice what is written twice, as is a batch whose acknowledgement was lost. Let it keep one sample for each series and time: VictoriaMetrics does with -dedup.minScrapeInterval=1ms.';

const RECEIPT_ADVICE =
  'If the store is restored from a backup, the service will not notice: docs/stores.md says what the user of the sink needs for receipts.';

type TriedSink = Pick<ThreadedSink, 'open' | 'writePoints' | 'read' | 'lookUp' | 'remove'> &
  Partial<Pick<ThreadedSink, 'identity' | 'receipt'>>;

export interface TrialOptions {
  readonly reads: ReadBack;
  /** Whether the store can remove points. */
  readonly removes: boolean;
  readonly windowMs: number;
  /** For one call. */
  readonly timeoutMs: number;
  readonly patienceMs?: number;
}

/** What was done, and what to know about it; empty if there is nothing. */
export interface SinkTrial {
  readonly detail: string;
  readonly advice: string;
  /** Of the store, if it has one. */
  readonly identity: string | undefined;
}

/** Rejects with what failed first. Each call ends soon after its timeout. */
export async function trySink(sink: TriedSink, options: TrialOptions): Promise<SinkTrial> {
  const { reads, removes, windowMs, timeoutMs } = options;
  const started = performance.now();
  await bounded(timeoutMs, (signal) => sink.open(signal));
  // Makes it, where only whoever may make the table can do so.
  const identity = await bounded(timeoutMs, async (signal) => sink.identity?.(signal));
  const noReceipt = await receiptTrouble(sink, identity, timeoutMs);
  const windowStart = Math.floor(Date.now() / windowMs) * windowMs;
  const point = checkProbe(windowStart, windowMs, randomBytes(8).toString('hex'));
  const put = () => bounded(timeoutMs, (signal) => write(sink, point, signal));
  await put();
  const remove = () => bounded(timeoutMs, (signal) => sink.remove([point], signal));
  let rows = 0;
  try {
    if (reads !== 'none') {
      // As a lane does that got no answer. Of a store that cannot be read, nobody would see what comes of it.
      await put();
      rows = await find(sink, point, reads, options);
    }
  } catch (error) {
    // Whatever else fails while cleaning up, the first error is the one to tell.
    await remove().catch(() => {});
    throw error;
  }
  await remove();
  const readBack = reads === 'none' ? 'cannot be read back' : 'read back';
  const done = [
    `written, ${rows > 1 ? `read back ${rows} times` : readBack}`,
    removes ? 'removed' : 'not removed',
  ];
  return {
    detail: [`${done.join(', ')}, in ${Math.round(performance.now() - started)} ms`, noReceipt]
      .filter((text) => text !== '')
      .join('; '),
    advice: [rows > 1 ? TWICE_ADVICE : '', noReceipt === '' ? '' : RECEIPT_ADVICE]
      .filter((text) => text !== '')
      .join(' '),
    identity,
  };
}

/** Without receipts, rows can be written all the same. Without an identity, nobody asks for them. */
async function receiptTrouble(
  sink: TriedSink,
  identity: string | undefined,
  timeoutMs: number,
): Promise<string> {
  try {
    await bounded(timeoutMs, async (signal) => sink.receipt?.('check', signal));
    return '';
  } catch (error) {
    if (identity === undefined) return '';
    return `it keeps no receipts: ${errorText(error)}`;
  }
}

async function write(sink: TriedSink, point: Point, signal: AbortSignal): Promise<void> {
  const outcome = await sink.writePoints([point], signal);
  switch (outcome.kind) {
    case 'written':
      return;
    case 'retry':
    case 'refused':
      throw new SinkError(outcome.reason, outcome.message);
    case 'partial': {
      const { message = 'the store did not take the probe point' } =
        outcome.rejected[0] ?? outcome.unidentified ?? {};
      throw new SinkError('unknown', message);
    }
    default:
      outcome satisfies never;
  }
}

/** Resolves when the store has the point, to how often it has it. */
async function find(
  sink: TriedSink,
  point: Point,
  reads: ReadBack,
  { timeoutMs, patienceMs = PATIENCE_MS }: TrialOptions,
): Promise<number> {
  const count = () => bounded(timeoutMs, (signal) => rowsOf(sink, point, reads, signal));
  const until = performance.now() + patienceMs;
  const atOnce = await count();
  if (atOnce > 0) return atOnce;
  do {
    if (performance.now() >= until) throw new SinkError('unknown', NOT_THERE, NOT_THERE_ADVICE);
    await sleep(Math.min(LOOK_EVERY_MS, patienceMs));
  } while ((await count()) === 0);
  await sleep(Math.min(SECOND_WRITE_MS, patienceMs));
  return await count();
}

async function rowsOf(sink: TriedSink, wanted: Point, reads: ReadBack, signal: AbortSignal): Promise<number> {
  const range = { from: wanted.windowStart, to: wanted.windowStart + wanted.windowMs };
  // If `read` scans everything that the store holds, a large store would not answer in time.
  const found = reads === 'keys' ? sink.lookUp([wanted], signal) : sink.read(range, signal);
  let rows = 0;
  for await (const { series, sum } of found) {
    if (series.id !== wanted.series.id) continue;
    if (sum !== wanted.sum) throw new SinkError('unknown', `the probe point has the sum ${sum} in the store`);
    rows += 1;
  }
  return rows;
}

async function bounded<T>(timeoutMs: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const answered = new AbortController();
  const late = sleep(timeoutMs + LAST_WORD_MS, undefined, { signal: answered.signal }).then((): never => {
    throw new SinkError('timeout', `no answer within ${timeoutMs} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([call(AbortSignal.timeout(timeoutMs)), late]);
  } finally {
    answered.abort();
  }
}
