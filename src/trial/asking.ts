/** Puts the questions of a trial to a store: first whether the answers are right, and only then how long they take. */
import type { Clock } from '../base/clock.ts';
import { failureInWords, type QueryRow, type Sink } from '../sink/contract.ts';
import { differenceFrom } from './answers.ts';
import type { TrialQuestion } from './questions.ts';
import type { AskedResult, HotRun } from './result.ts';
import { medianOf } from './statistics.ts';
import type { TrialTable } from './tables.ts';
import { latencyOf } from './writing.ts';

/** How many clients ask at once. */
export const CLIENTS = [1, 8, 32] as const;
/** The time of each question and number of clients is cut into so many rounds, spread over the whole stage. */
const MAX_ROUNDS = 10;
/** However slow its answers are, a question gets so many rounds: `diff` compares no fewer. */
const LEAST_ROUNDS = 4;
/** A shorter round is mostly its beginning and its end. */
const MIN_ROUND_MS = 50;
/** More clients are not let loose on a store if all of them would wait for longer than so many times their time. */
const MAX_OVERRUN = 5;
/** A store that takes longer does not answer. */
const ANSWER_TIMEOUT_MS = 60_000;

/** Returns how many rounds there are in that time. */
export function roundsIn(secondsEach: number): number {
  return Math.min(MAX_ROUNDS, Math.max(1, Math.floor((1000 * secondsEach) / MIN_ROUND_MS)));
}

export interface AskingOptions {
  /** For each question and each number of clients, in all rounds together. */
  readonly secondsEach: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Hears of each round that is over. */
  readonly roundOver: () => void;
}

/** The truth, by id of a question. */
export type Truths = ReadonlyMap<string, readonly QueryRow[]>;

/** One question, in one store. */
class Asking {
  readonly question: TrialQuestion;
  readonly table: TrialTable;
  asked: AskedResult | undefined;
  /** By number of clients. */
  readonly latencies = new Map<number, number[]>();
  readonly medians = new Map<number, number[]>();
  readonly fastest = new Map<number, number[]>();
  readonly seconds = new Map<number, number>();

  constructor(question: TrialQuestion, table: TrialTable) {
    this.question = question;
    this.table = table;
  }

  result(): AskedResult {
    const { asked } = this;
    if (asked?.kind !== 'equal') return asked ?? { kind: 'not_asked', why: 'the trial was stopped' };
    return { ...asked, hot: CLIENTS.flatMap((clients) => this.#run(clients) ?? []) };
  }

  /** Whether so many clients would take much longer than their time, by what fewer of them took. */
  isTooSlowFor(clients: number, secondsEach: number): boolean {
    const fewer = CLIENTS.filter((some) => some < clients && this.latencies.has(some)).at(-1);
    if (fewer === undefined) return false;
    const expected = (medianOf(this.latencies.get(fewer)!) * clients) / fewer;
    return expected > MAX_OVERRUN * 1000 * secondsEach;
  }

  #run(clients: number): HotRun | undefined {
    const samples = this.latencies.get(clients) ?? [];
    if (samples.length === 0) return undefined;
    const perSecond = samples.length / this.seconds.get(clients)!;
    const [rounds, fastest] = [this.medians.get(clients)!, this.fastest.get(clients)!];
    return { clients, answers: samples.length, perSecond, ...latencyOf(samples), rounds, fastest };
  }
}

/**
 * Asks every store everything. The rounds go from store to store and from question to question, so that what disturbs
 * the machine for a while does not fall on one of them. Resolves to the answers, by store and question.
 */
export async function askStores(
  tables: readonly TrialTable[],
  questions: readonly TrialQuestion[],
  truths: Truths,
  options: AskingOptions,
): Promise<ReadonlyMap<TrialTable, readonly { readonly id: string; readonly asked: AskedResult }[]>> {
  const all = tables.map((table) => questions.map((question) => new Asking(question, table)));
  for (const asking of all.flat()) await askFirst(asking, truths, options);
  for (let round = 0; round < roundsIn(options.secondsEach); round++) {
    for (const index of questions.keys()) {
      for (const clients of CLIENTS) {
        for (const own of all) {
          if (options.signal.aborted) break;
          await askHot(own[index]!, clients, options);
          options.roundOver();
        }
      }
    }
  }
  return new Map(
    tables.map((table, index) => [
      table,
      all[index]!.map((asking) => ({ id: asking.question.id, asked: asking.result() })),
    ]),
  );
}

/** Asks once, over a new connection, and compares the answer with the truth. */
async function askFirst(asking: Asking, truths: Truths, { clock, signal }: AskingOptions): Promise<void> {
  const { question, table } = asking;
  if (signal.aborted) return;
  try {
    const client = await table.newClient(within(signal));
    if (client.query === undefined) {
      asking.asked = { kind: 'not_asked', why: 'this kind of sink answers no questions' };
      return;
    }
    const before = clock.steady();
    const rows = await client.query(question.query, within(signal));
    const cold = clock.steady() - before;
    const { top, stepMs } = question.query.kind === 'sums' ? question.query : {};
    const difference = differenceFrom(truths.get(question.id)!, rows, {
      top,
      isOverTime: stepMs !== undefined || question.query.kind === 'windows',
    });
    asking.asked =
      difference === undefined
        ? { kind: 'equal', rows: rows.length, cold, hot: [] }
        : { kind: 'different', difference };
  } catch (error) {
    if (!signal.aborted) asking.asked = { kind: 'failed', why: failureInWords(error) };
  }
}

function within(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
}

/** Lets the clients ask for one round, unless slow answers have used up their time. A failure ends the question. */
async function askHot(asking: Asking, clients: number, options: AskingOptions): Promise<void> {
  const { clock, signal, secondsEach } = options;
  if (asking.asked?.kind !== 'equal') return;
  const rounds = asking.medians.get(clients)?.length ?? 0;
  if (rounds >= LEAST_ROUNDS && asking.seconds.get(clients)! >= secondsEach) return;
  if (asking.isTooSlowFor(clients, secondsEach)) return;
  try {
    const sinks = await asking.table.clients(clients, within(signal));
    const started = clock.steady();
    const until = started + (1000 * secondsEach) / roundsIn(secondsEach);
    const samples = await askInTurns(sinks, asking.question, until, options);
    const seconds = (clock.steady() - started) / 1000;
    asking.seconds.set(clients, (asking.seconds.get(clients) ?? 0) + seconds);
    asking.latencies.set(clients, [...(asking.latencies.get(clients) ?? []), ...samples]);
    const fastest = samples.reduce((least, each) => Math.min(least, each), Number.POSITIVE_INFINITY);
    asking.fastest.set(clients, [...(asking.fastest.get(clients) ?? []), fastest]);
    asking.medians.set(clients, [...(asking.medians.get(clients) ?? []), medianOf(samples)]);
  } catch (error) {
    if (!signal.aborted) asking.asked = { kind: 'failed', why: failureInWords(error) };
  }
}

/**
 * Each client asks again as soon as it has its answer. Its time runs from when it could ask, so the time that it waits
 * for this thread counts too: SQLite answers in it. Resolves to the times, in ms. Each client gets an answer, however
 * late: if those that wait longest were left out, a slow store would look fast (coordinated omission).
 */
async function askInTurns(
  clients: readonly Sink[],
  { query }: TrialQuestion,
  until: number,
  { clock, signal }: AskingOptions,
): Promise<number[]> {
  const samples: number[] = [];
  const ask = async (client: Sink) => {
    for (let ready = clock.steady(), answers = 0; ; answers++) {
      await clock.nextTurn();
      if (signal.aborted || (answers > 0 && clock.steady() >= until)) return;
      await client.query!(query, within(signal));
      const now = clock.steady();
      samples.push(now - ready);
      ready = now;
    }
  };
  await Promise.all(clients.map(ask));
  signal.throwIfAborted();
  return samples;
}
