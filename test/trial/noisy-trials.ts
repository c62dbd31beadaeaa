/**
 * Trials as a busy machine measures them, drawn at random. The sizes of the noise are those of trials of InfluxDB,
 * PostgreSQL and SQLite on two cores with a load of 12: a fastest answer to one client comes back within 5 %, a median
 * of a round is often twice as long, and rates of writes and freshness move by a factor.
 */
import { logNormal, type Random } from '../../src/load/random.ts';
import type { TrialResult } from '../../src/trial/result.ts';
import { storeResult, trialResult } from './results.ts';

const QUESTION_IDS = Array.from({ length: 11 }, (_, index) => `question-${index}`);
const CLIENTS = [1, 8, 32] as const;
const ROUNDS = 10;
const ROUND_MS = 100;
/** How much of the machine's load is still there at the next measurement. */
const MEMORY = 0.97;
/** What a store is off by in all of a trial, of each kind of figures: standard deviations of logarithms. */
const OFF = { answers: 0.03, 'answers to several clients': 0.15, ingest: 0.2, freshness: 0.3 } as const;
/** All but what the answers are off by has the tails of Student's t with so many degrees of freedom: heavy ones. */
const FREEDOM = 4;

/** How fast a store answers each question if nothing else goes on, in ms, and how much the machine's load slows it. */
interface Nature {
  readonly id: string;
  readonly ms: readonly number[];
  readonly sensitivity: number;
}

const normal = (random: Random) => Math.log(logNormal(random, 1, 1));

/** Stores of many kinds. `firstMs`: of the first one, what its questions take in the middle. */
export function naturesOf(stores: number, random: Random, firstMs?: number): Nature[] {
  return Array.from({ length: stores }, (_, index) => {
    const middle = index === 0 && firstMs !== undefined ? firstMs : logNormal(random, 2, 1);
    const ms = QUESTION_IDS.map(() => logNormal(random, middle, 0.5));
    return { id: 'abcd'.charAt(index), ms, sensitivity: Math.exp(0.2 * normal(random)) };
  });
}

function heavy(random: Random): number {
  const squares = Array.from({ length: FREEDOM }, () => normal(random) ** 2);
  return normal(random) / Math.sqrt(squares.reduce((sum, one) => sum + one, 0) / FREEDOM);
}

/** The load of a machine that others use too, as the logarithm of how many times as slow it is. */
class Machine {
  readonly #random: Random;
  /** All through a trial. */
  readonly #usual: number;
  #now = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#usual = 0.2 * Math.abs(normal(random));
  }

  load(): number {
    this.#now = MEMORY * this.#now + Math.sqrt(1 - MEMORY ** 2) * normal(this.#random);
    return this.#usual + 0.5 * Math.max(0, this.#now);
  }
}

/** A trial of the stores. `delayMs`: what is put before each answer and write of the store `delayed`. */
export function noisyTrial(
  natures: readonly Nature[],
  random: Random,
  { delayed = '', delayMs = 0 }: { readonly delayed?: string; readonly delayMs?: number } = {},
): TrialResult {
  const machine = new Machine(random);
  const stores = natures.map((nature) => new NoisyStore(nature, nature.id === delayed ? delayMs : 0, random));
  for (let round = 0; round < ROUNDS; round++) for (const store of stores) store.write(machine.load());
  for (let window = 0; window < ROUNDS; window++) for (const store of stores) store.show(machine.load());
  for (let round = 0; round < ROUNDS; round++)
    for (const question of QUESTION_IDS.keys())
      for (const clients of CLIENTS)
        for (const store of stores) store.answer(question, clients, machine.load());
  return trialResult(stores.map((store) => store.result()));
}

class NoisyStore {
  readonly #nature: Nature;
  readonly #delayMs: number;
  readonly #random: Random;
  readonly #off: Readonly<Record<keyof typeof OFF, number>>;
  readonly #rates: number[] = [];
  readonly #fresh: number[] = [];
  /** By question and number of clients. */
  readonly #runs = new Map<string, { fastest: number[]; medians: number[]; answers: number }>();

  constructor(nature: Nature, delayMs: number, random: Random) {
    this.#nature = nature;
    this.#delayMs = delayMs;
    this.#random = random;
    const off = (kind: keyof typeof OFF) => OFF[kind] * heavy(random);
    this.#off = {
      answers: OFF.answers * normal(random),
      'answers to several clients': OFF['answers to several clients'] * normal(random),
      ingest: off('ingest'),
      freshness: off('freshness'),
    };
  }

  /** How many times as slow something is: by the load, by what the store is off by, and by chance. */
  #times(kind: keyof typeof OFF, load: number, chance: number): number {
    return Math.exp(
      this.#nature.sensitivity * load + this.#off[kind] + chance * Math.abs(heavy(this.#random)),
    );
  }

  write(load: number): void {
    this.#rates.push(1_000 / (20 * this.#times('ingest', load, 0.3) + this.#delayMs));
  }

  show(load: number): void {
    this.#fresh.push(10 * this.#times('freshness', load, 0.5) + 2 * this.#delayMs);
  }

  answer(question: number, clients: number, load: number): void {
    const key = `${question}/${clients}`;
    const run = this.#runs.get(key) ?? { fastest: [], medians: [], answers: 0 };
    this.#runs.set(key, run);
    const kind = clients === 1 ? ('answers' as const) : ('answers to several clients' as const);
    // Clients wait for each other, but not for each other's delay.
    const ms = this.#nature.ms[question]! * (clients === 1 ? 1 : clients / 2);
    const median = ms * this.#times(kind, load, 0.3) + this.#delayMs;
    const answers = Math.max(1, Math.round((ROUND_MS * clients) / median));
    // Of many answers, one is hardly disturbed.
    const share = 1 / Math.sqrt(answers);
    const fastest = ms * this.#times(kind, load * share, 0.3 * share) + this.#delayMs;
    run.medians.push(median);
    run.fastest.push(Math.min(fastest, median));
    run.answers += answers;
  }

  result() {
    const { id } = this.#nature;
    const store = storeResult({ id, pointsPerSecond: middle(this.#rates) });
    const rung = { ...store.ingest!.rungs[0]!, rounds: this.#rates };
    return {
      ...store,
      ingest: { ...store.ingest!, rungs: [rung] },
      freshness: { ...store.freshness!, rounds: this.#fresh },
      questions: QUESTION_IDS.map((text, question) => {
        const hot = CLIENTS.map((clients) => {
          const { medians, fastest, answers } = this.#runs.get(`${question}/${clients}`)!;
          const latency = { p50: middle(medians), p95: middle(medians), p99: middle(medians) };
          return { clients, answers, perSecond: 1, ...latency, rounds: medians, fastest };
        });
        return { id: text, asked: { kind: 'equal' as const, rows: 1, cold: 1, hot } };
      }),
    };
  }
}

const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;
