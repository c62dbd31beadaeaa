/** Tables of a trial: one in one store, made, written to and asked by connections of its own, and deleted again. */
import type { SinkConfig } from '../config/sink-config.ts';
import { ThreadedSink } from '../deliver/thread/threaded-sink.ts';
import type { Environment, Settings, Values } from '../settings/setting.ts';
import { failureInWords, type Sink } from '../sink/contract.ts';
import { createSink } from '../sink/masked-sink.ts';

export const SILENT = { info() {}, warn() {} };
/** For making and deleting a table, and for whatever else takes a store a while. */
const SLOW_TIMEOUT_MS = 300_000;

export class TrialTable {
  readonly config: SinkConfig;
  readonly #values: Values<Settings>;
  readonly #env: Environment;
  readonly #clients: Sink[] = [];
  readonly #writers: ThreadedSink[] = [];
  /** The first client, which makes the table and deletes it. */
  readonly sink: Sink;

  /** Resolves when the table is made. */
  static async make(config: SinkConfig, name: string, env: Environment): Promise<TrialTable> {
    const table = new TrialTable(config, name, env);
    const signal = AbortSignal.timeout(SLOW_TIMEOUT_MS);
    try {
      await (table.sink.claim?.(signal) ?? table.sink.open(signal));
    } catch (error) {
      await table.close();
      throw error;
    }
    return table;
  }

  /** The one of this name, which is there or not: only to delete it. */
  static named(config: SinkConfig, name: string, env: Environment): TrialTable {
    return new TrialTable(config, name, env);
  }

  private constructor(config: SinkConfig, name: string, env: Environment) {
    this.config = config;
    this.#env = env;
    this.#values = config.module.trial!.settings(config.values, name);
    this.sink = this.#create();
    this.#clients.push(this.sink);
  }

  #create(): Sink {
    const { id, module, timeoutMs } = this.config;
    return createSink({ id, module, values: this.#values, timeoutMs }, SILENT, this.#env);
  }

  /** Resolves to so many clients, each with a connection of its own. */
  async clients(count: number, signal: AbortSignal): Promise<readonly Sink[]> {
    while (this.#clients.length < count) {
      const client = this.#create();
      this.#clients.push(client);
      await client.open(signal);
    }
    return this.#clients.slice(0, count);
  }

  /** Resolves to a client whose connection nobody has used. It stays open until the table is closed. */
  async newClient(signal: AbortSignal): Promise<Sink> {
    const client = this.#create();
    this.#clients.unshift(client);
    await client.open(signal);
    return client;
  }

  /** Resolves to so many writers, each in a thread of its own, as the sinks of the service are. */
  async writers(count: number, signal: AbortSignal): Promise<readonly ThreadedSink[]> {
    const { id, kind, timeoutMs } = this.config;
    while (this.#writers.length < count) {
      const writer = new ThreadedSink({ id, kind, values: this.#values, timeoutMs }, SILENT, {
        readBack: 'none',
      });
      this.#writers.push(writer);
      await writer.open(signal);
    }
    return this.#writers.slice(0, count);
  }

  async closeWriters(): Promise<void> {
    await Promise.all(this.#writers.splice(0).map((writer) => writer.close().catch(() => {})));
  }

  async close(): Promise<void> {
    await this.closeWriters();
    await Promise.all(this.#clients.splice(0).map((client) => client.close().catch(() => {})));
  }

  /** Deletes the table. Resolves to what is left to do by hand; undefined if nothing is. */
  async drop(): Promise<string | undefined> {
    await this.close();
    const last = this.#create();
    try {
      if (last.drop === undefined) return this.byHand();
      await last.drop(AbortSignal.timeout(SLOW_TIMEOUT_MS));
      return undefined;
    } catch (error) {
      return `${this.byHand()} (${failureInWords(error)})`;
    } finally {
      await last.close().catch(() => {});
    }
  }

  /** How to delete the table by hand. */
  byHand(): string {
    return this.config.module.trial!.byHand(this.#values);
  }
}
