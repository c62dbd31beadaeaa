/** Regularly asks every store the same two questions, and for its size, in the thread of its sink. */
import type { Clock } from '../base/clock.ts';
import type { Answered } from '../deliver/thread/messages.ts';
import type { Question } from '../sink/contract.ts';

/** A store that takes longer counts as not answering. */
const TIMEOUT_MS = 5_000;

const MAX_ERROR_CHARACTERS = 300;

/** The latest result of one question. */
export interface QueryResult {
  /** The question in words. */
  readonly question: string;
  /** RFC 3339. */
  readonly at: string;
  /** Null if there was no answer: see `error`. */
  readonly seconds: number | null;
  readonly rows: number | null;
  readonly error: string | null;
}

export interface ProbeResult {
  /** Null before the first question. */
  readonly sums: QueryResult | null;
  readonly windows: QueryResult | null;
  /** Null if the store does not report it. */
  readonly storedBytes: number | null;
}

export interface ProbedSink {
  readonly id: string;
  readonly sink: {
    ask(question: Question, signal: AbortSignal): Promise<Answered | undefined>;
    storage(signal: AbortSignal): Promise<number | undefined>;
  };
  /** Whether the store takes what it is given. A store in trouble is left alone. */
  readonly isWell: () => boolean;
}

export interface ProbesOptions {
  /** Time between two rounds of questions; 0: never ask. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly questions: () => { readonly sums: Question; readonly windows: Question } | undefined;
}

const NONE: ProbeResult = { sums: null, windows: null, storedBytes: null };

export class Probes {
  readonly #options: ProbesOptions;
  readonly #results = new Map<string, ProbeResult>();

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  of(sink: string): ProbeResult {
    return this.#results.get(sink) ?? NONE;
  }

  /** Asks until the signal aborts. No store waits for another, and they are not all asked at the same moment. */
  async run(sinks: readonly ProbedSink[], signal: AbortSignal): Promise<void> {
    const { intervalMs, clock } = this.#options;
    if (intervalMs === 0) return;
    const each = sinks.map(async (probed, index) => {
      await clock.sleep((intervalMs * (index + 1)) / (sinks.length + 1), signal);
      while (!signal.aborted) {
        if (probed.isWell()) await this.#probe(probed, signal);
        await clock.sleep(intervalMs, signal);
      }
    });
    await Promise.all(each);
  }

  async #probe({ id, sink }: ProbedSink, signal: AbortSignal): Promise<void> {
    const questions = this.#options.questions();
    const within = () => AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const sums = questions && (await this.#ask(sink, questions.sums, within()));
    const windows = questions && (await this.#ask(sink, questions.windows, within()));
    const stored = await sink.storage(within()).catch(() => undefined);
    if (signal.aborted) return;
    // A third-party sink may return anything.
    const storedBytes = Number.isFinite(stored) ? stored : undefined;
    const before = this.of(id);
    this.#results.set(id, {
      sums: sums ?? before.sums,
      windows: windows ?? before.windows,
      storedBytes: storedBytes ?? before.storedBytes,
    });
  }

  /** Resolves to undefined if the sink cannot answer questions at all. */
  async #ask(
    sink: ProbedSink['sink'],
    question: Question,
    signal: AbortSignal,
  ): Promise<QueryResult | undefined> {
    const about = { question: questionText(question), at: new Date(this.#options.clock.now()).toISOString() };
    try {
      const answered = await sink.ask(question, signal);
      return answered && { ...about, ...answered, error: null };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const timedOut = signal.aborted ? `no answer within ${TIMEOUT_MS} ms` : message;
      return { ...about, seconds: null, rows: null, error: timedOut.slice(0, MAX_ERROR_CHARACTERS) };
    }
  }
}

function questionText(question: Question): string {
  const minutes = (question.range.to - question.range.from) / 60_000;
  if (question.kind === 'sums')
    return `sum of ${question.name} over the last ${minutes} minutes, by ${question.dimension}`;
  const { name, dimensions } = question.series;
  const of = dimensions.map(([key, value]) => `${key}=${value}`).join(', ');
  return `the last ${minutes} minutes of ${name}${of === '' ? '' : ` with ${of}`}, in windows`;
}
