/** What a trial knows of one store so far, and the tables that it made there. */
import type { SinkConfig } from '../config/sink-config.ts';
import type { Environment } from '../settings/setting.ts';
import { failureInWords, limitsOf, readBackOf, type SinkLimits } from '../sink/contract.ts';
import {
  type Backfill,
  type Freshness,
  failureRemark,
  type Ingest,
  type Money,
  type ProofResult,
  type QuestionResult,
  type Room,
  type StoreResult,
} from './result.ts';
import { TrialTable } from './tables.ts';

/** A store with more writers than this is not tried: each takes a thread and 40 MB. */
const MAX_WRITERS = 8;

type Results = {
  -readonly [K in keyof StoreResult]: StoreResult[K];
};

export class TrialStore {
  readonly config: SinkConfig;
  readonly limits: SinkLimits;
  readonly result: Results;
  /** The table that the questions are put to. */
  table: TrialTable | undefined;
  /** Rows that it must hold, as far as they were written. */
  rows = 0;
  readonly #name: string;
  readonly #env: Environment;
  readonly #tables = new Set<TrialTable>();
  readonly #remarks: string[] = [];
  #failed = false;

  constructor(config: SinkConfig, name: string, endpoint: string, env: Environment) {
    this.config = config;
    this.limits = limitsOf(config.module, config.values);
    this.#name = name;
    this.#env = env;
    this.result = {
      id: config.id,
      kind: config.kind,
      version: null,
      isReadable: readBackOf(config.module, config.values) !== 'none',
      endpoint,
      ingest: null as Ingest | null,
      backfill: null as Backfill | null,
      questions: [] as readonly QuestionResult[],
      freshness: null as Freshness | null,
      room: null as Room | null,
      money: null as Money | null,
      proof: null as ProofResult | null,
      remarks: this.#remarks,
    };
    if (config.names.length > 0)
      this.remark(`SINK_${config.id.toUpperCase()}_NAMES is left out of account: it is tried with all names`);
    if (config.windowMs !== undefined)
      this.remark(
        `SINK_${config.id.toUpperCase()}_WINDOW is left out of account: it is tried with windows of WINDOW`,
      );
  }

  get hasFailed(): boolean {
    return this.#failed;
  }

  /** The numbers of writers to try. A sink that takes one write at a time has one. */
  get ladder(): readonly number[] {
    if (this.limits.inFlight === 1) return [1];
    return [1, 2, 4, 8].filter((writers) => writers <= MAX_WRITERS);
  }

  /** How many writers write what is only to be written. */
  get writers(): number {
    return this.result.ingest?.writers ?? Math.min(this.limits.inFlight, MAX_WRITERS);
  }

  /** Makes a table. `purpose` is a part of its name: letters and digits. */
  async make(purpose: string): Promise<TrialTable> {
    const table = await TrialTable.make(this.config, `${this.#name}${purpose}`, this.#env);
    this.#tables.add(table);
    return table;
  }

  async drop(table: TrialTable): Promise<void> {
    this.#tables.delete(table);
    const left = await table.drop();
    if (left !== undefined) this.remark(`left in the store: ${left}`);
  }

  /** Deletes what is left, or says how to if it is to be kept. */
  async end(keep: boolean): Promise<void> {
    for (const table of this.#tables) {
      if (!keep || table !== this.table) {
        await this.drop(table);
        continue;
      }
      await table.close();
      this.remark(`kept, as asked for; to delete it: ${table.byHand()}`);
    }
  }

  remark(text: string): void {
    if (!this.#remarks.includes(text)) this.#remarks.push(text);
  }

  /** Does a part of the trial. If it fails, the store is left out of what follows. */
  async attempt(what: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    if (this.#failed || signal.aborted) return;
    try {
      await work();
    } catch (error) {
      if (signal.aborted) return;
      this.#failed = true;
      this.remark(failureRemark(what, failureInWords(error)));
    }
  }
}
