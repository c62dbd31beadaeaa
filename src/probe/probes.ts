/** Regularly asks every store the same two questions, and for its size, in the thread of its sink. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/error-text.ts';
import type { Answered } from '../deliver/thread/messages.ts';
import type { Question, WindowRange } from '../sink/contract.ts';

/** A store that takes longer counts as not answering. */
const TIMEOUT_MS = 5_000;

const MAX_ERROR_CHARACTERS = 300;
/** How many answers the percentiles are of: ten rounds of both questions. */
const RECENT_ANSWERS = 20;
/** What the storage grew by says little about fewer rows: stores grow in steps. */
const MIN_ROWS = 1000;
/** Likewise a short time. */
const MIN_GROWTH_MS = 600_000;
const DAY_MS = 86_400_000;
const MAX_VERSION_CHARACTERS = 100;

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

/** How long a store took to answer, over its latest answers. */
export interface RecentAnswers {
  readonly p50: number;
  readonly p95: number;
  readonly count: number;
  /** From the first of them to the last. */
  readonly overSeconds: number;
}

export interface ProbeResult {
  /** Null before the first question. */
  readonly sums: QueryResult | null;
  readonly windows: QueryResult | null;
  /** Why the store is not asked: it does not hold what the questions are about. Null if it is. */
  readonly notAsked: string | null;
  /** Null if the store does not report it. */
  readonly storedBytes: number | null;
  /** Null before the first answer. */
  readonly querySeconds: RecentAnswers | null;
  /** Null if nobody can tell. */
  readonly bytesPerRow: number | null;
  /** What the storage grows by; below 0 if it shrinks. Null for the first minutes, or if nobody can tell. */
  readonly bytesPerDay: number | null;
  /** Of the store, in its own words; null if it does not say. */
  readonly version: string | null;
}

export interface ProbedSink {
  readonly id: string;
  readonly sink: {
    ask(question: Question, signal: AbortSignal): Promise<Answered | undefined>;
    storage(signal: AbortSignal): Promise<number | undefined>;
    version(signal: AbortSignal): Promise<string | undefined>;
  };
  /** Whether it was given a name in all windows of the range. */
  readonly holds: (name: string, range: WindowRange) => boolean;
  /** How many rows were written to it since the start of the process. */
  readonly written: () => number;
  /** Whether the store takes what it is given. A store in trouble is left alone. */
  readonly isWell: () => boolean;
}

export interface ProbesOptions {
  /** Time between two rounds of questions; 0: never ask. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly questions: () => { readonly sums: Question; readonly windows: Question } | undefined;
  /** Hears how long each answer took. */
  readonly answered: (sink: string, seconds: number) => void;
}

const NONE: ProbeResult = {
  sums: null,
  windows: null,
  notAsked: null,
  storedBytes: null,
  querySeconds: null,
  bytesPerRow: null,
  bytesPerDay: null,
  version: null,
};

/** What is kept of a store beside its latest result. */
interface Kept {
  /** The latest answers: when they came, by the steady clock, and how long they took. */
  readonly answers: { readonly at: number; readonly seconds: number }[];
  /** The name that they are about. Those about another name do not count among them. */
  about?: string;
  /** The first size that the store told, when, by the steady clock, and how many rows had been written then. */
  first?: { readonly bytes: number; readonly written: number; readonly at: number };
  /** Whether the store was asked for its version since it was last in trouble: it may come back as another. */
  knowsVersion: boolean;
}

export class Probes {
  readonly #options: ProbesOptions;
  readonly #results = new Map<string, ProbeResult>();
  readonly #kept = new Map<string, Kept>();

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
        else this.#keptOf(probed.id).knowsVersion = false;
        await clock.sleep(intervalMs, signal);
      }
    });
    await Promise.all(each);
  }

  #keptOf(id: string): Kept {
    const kept = this.#kept.get(id) ?? { answers: [], knowsVersion: false };
    this.#kept.set(id, kept);
    return kept;
  }

  async #probe({ id, sink, holds, written }: ProbedSink, signal: AbortSignal): Promise<void> {
    const all = this.#options.questions();
    const notAsked = all && [all.windows, all.sums].find((each) => !holds(nameIn(each), each.range));
    const questions = notAsked === undefined ? all : undefined;
    const within = () => AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const sums = questions && (await this.#ask(sink, questions.sums, within()));
    const windows = questions && (await this.#ask(sink, questions.windows, within()));
    const stored = await sink.storage(within()).catch(() => undefined);
    const kept = this.#keptOf(id);
    const version = kept.knowsVersion ? undefined : await sink.version(within()).catch(() => undefined);
    if (signal.aborted) return;
    kept.knowsVersion = true;
    // A third-party sink may return anything.
    const storedBytes = Number.isFinite(stored) ? stored : undefined;
    const before = this.of(id);
    if (all !== undefined) aboutOnly(kept, nameIn(all.sums));
    this.#results.set(id, {
      sums: notAsked === undefined ? (sums ?? before.sums) : null,
      windows: notAsked === undefined ? (windows ?? before.windows) : null,
      notAsked: notAsked === undefined ? null : notAskedText(id, notAsked),
      storedBytes: storedBytes ?? before.storedBytes,
      querySeconds: notAsked === undefined ? this.#recent(id, kept, [sums?.seconds, windows?.seconds]) : null,
      bytesPerDay: this.#bytesPerDay(kept, storedBytes, written()),
      bytesPerRow: bytesPerRow(kept, storedBytes, written()),
      version: typeof version === 'string' ? version.slice(0, MAX_VERSION_CHARACTERS) : before.version,
    });
  }

  #bytesPerDay(kept: Kept, bytes: number | undefined, written: number): number | null {
    const at = this.#options.clock.steady();
    if (bytes === undefined) return null;
    kept.first ??= { bytes, written, at };
    const passed = at - kept.first.at;
    return passed < MIN_GROWTH_MS ? null : ((bytes - kept.first.bytes) / passed) * DAY_MS;
  }

  #recent(
    id: string,
    { answers }: Kept,
    taken: readonly (number | null | undefined)[],
  ): RecentAnswers | null {
    const at = this.#options.clock.steady();
    for (const seconds of taken) {
      if (typeof seconds !== 'number') continue;
      answers.push({ at, seconds });
      this.#options.answered(id, seconds);
    }
    answers.splice(0, answers.length - RECENT_ANSWERS);
    if (answers.length === 0) return null;
    const sorted = answers.map(({ seconds }) => seconds).sort((a, b) => a - b);
    const rank = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!;
    const overSeconds = (at - answers[0]!.at) / 1000;
    return { p50: rank(0.5), p95: rank(0.95), count: sorted.length, overSeconds };
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
      const message = errorText(error);
      const timedOut = signal.aborted ? `no answer within ${TIMEOUT_MS} ms` : message;
      return { ...about, seconds: null, rows: null, error: timedOut.slice(0, MAX_ERROR_CHARACTERS) };
    }
  }
}

/** What the store grew by for each row since its size was first known: what was in it before does not count. */
function bytesPerRow({ first }: Kept, bytes: number | undefined, written: number): number | null {
  if (bytes === undefined || first === undefined) return null;
  const rows = written - first.written;
  const grown = bytes - first.bytes;
  return rows >= MIN_ROWS && grown > 0 ? grown / rows : null;
}

/** Forgets answers about another name: of stores that were asked about different names, none is the faster. */
function aboutOnly(kept: Kept, name: string): void {
  if (kept.about !== name) kept.answers.length = 0;
  kept.about = name;
}

const nameIn = (question: Question) => (question.kind === 'sums' ? question.name : question.series.name);

function notAskedText(id: string, question: Question): string {
  const minutes = (question.range.to - question.range.from) / 60_000;
  return `it did not get ${nameIn(question)} in all of the last ${minutes} minutes (SINK_${id.toUpperCase()}_NAMES)`;
}

function questionText(question: Question): string {
  const minutes = (question.range.to - question.range.from) / 60_000;
  if (question.kind === 'sums')
    return `sum of ${question.name} over the last ${minutes} minutes, by ${question.dimension}`;
  const { name, dimensions } = question.series;
  const of = dimensions.map(([key, value]) => `${key}=${value}`).join(', ');
  return `the last ${minutes} minutes of ${name}${of === '' ? '' : ` with ${of}`}, in windows`;
}
