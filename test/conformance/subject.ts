/** A sink under test, created as the service creates it and fed as a lane feeds it. */

import { expect } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import { readSettings, type SettingError, type Settings } from '../../src/settings/setting.ts';
import {
  type Batch,
  limitsOf,
  type ReceiptBefore,
  type Rejection,
  type Sink,
  SinkError,
  type SinkLimits,
  type SinkModule,
  type StoredPoint,
  type WindowRange,
  type WriteOutcome,
} from '../../src/sink/contract.ts';
import { pointBytes } from '../../src/sink/rows.ts';
import type { FaultProxy } from '../faults/proxy.ts';
import { differences, readAll } from './points.ts';

/** Variables without their prefix: `{ URL: '...', TABLE: '...' }`. */
export type Variables = Readonly<Record<string, string>>;

/** What the suite must know about a store. */
export interface Harness {
  /** Starts the real server and returns its port. The suite puts its fault proxy in front of it. */
  start(): Promise<number>;
  stop(): Promise<void>;
  /**
   * Settings of a sink whose data (a table, a database, a bucket) nobody else sees. Creates it unless the sink does so
   * itself. The same namespace is the same data. `port` is the server's, or that of the proxy in front of it.
   */
  variables(namespace: string, port: number): Variables | Promise<Variables>;
  /** Texts that no message and no log line may contain. */
  readonly secrets?: readonly string[];
  /** The same settings with credentials that the server does not know. */
  wrongCredentials?(variables: Variables): Variables;
  /** The same settings with a database that does not exist. */
  missing?(variables: Variables): Variables;
  /** Creates the schema of an earlier version, and returns the points in it. */
  older?(namespace: string): Promise<readonly Point[]>;
  /** Creates a schema that the sink cannot use. */
  unusable?(namespace: string): Promise<void>;
  /** Removes what `open` created, while the sink is running. */
  drop?(namespace: string): Promise<void>;
  /** Resolves when what was acknowledged can be read, for a store that takes a while. */
  visible?(): Promise<void>;
  /**
   * Where this store truly differs from what every sink must do.
   * - `keepsNothing`: there is no store; the tests of what is in it, and of faults, are skipped.
   * - `embedded`: there is no network in between, so network faults are not tested; the port is not used.
   * - `answersNothing`: it has no `ask` and no `storage`. `saysNoSize`: it does not say how much it stores.
   * - `hasNoMark`: this kind of server cannot mark a table as one of a trial, so `drop` deletes nothing.
   * - `hasNoIdentity`: it has `identity`, but this kind of server keeps none.
   * - `keepsFirst`: it refuses other values under a key that it holds. `forgetsNothing`: it cannot remove points.
   * - `isSame`: whether a number is what became of another one in this store. Without it, both must be equal.
   * - `compact`: 200 points travel in fewer than 10,000 bytes.
   * - `refuses`: the reason for which a point must be rejected, if this store cannot hold it. Non-finite numbers are
   *   `invalid_value` in every sink: most stores have none, and all must hold the same.
   */
  readonly differs?: {
    readonly keepsNothing?: true;
    readonly embedded?: true;
    readonly keepsFirst?: true;
    readonly forgetsNothing?: true;
    readonly isSame?: (stored: number, written: number) => boolean;
    readonly compact?: true;
    readonly refuses?: (point: Point) => Rejection['reason'] | undefined;
    readonly answersNothing?: true;
    readonly saysNoSize?: true;
    readonly hasNoIdentity?: true;
    readonly hasNoMark?: true;
  };
}

/**
 * How soon a call must settle after it is given up: before any client would give up by itself, but with time to spare
 * on the busiest machine.
 */
export const PROMPT_MS = 60_000;
/** Limit of a test of the suite, whatever the configuration of its author's vitest says. */
export const TEST_MS = 900_000;
/** How often a lane would send a batch before the test gives up. */
const MAX_ATTEMPTS = 50;
const NEVER = new AbortController().signal;

/** One sink. Collects everything that it says, to search it for secrets. */
export class Subject {
  readonly sink: Sink;
  readonly limits: SinkLimits;
  readonly #said: string[];
  readonly #harness: Harness;

  /** `trial`: the name of the table, if it is that of a trial. */
  constructor(module: SinkModule, variables: Variables, said: string[], harness: Harness, trial?: string) {
    this.#harness = harness;
    const env = Object.fromEntries(
      Object.entries(variables).map(([name, value]) => [`SINK_T_${name}`, value]),
    );
    const errors: SettingError[] = [];
    const live = readSettings<Settings>(module.settings, 'SINK_T_', env, errors, []);
    const config = trial === undefined ? live : module.trial!.settings(live, trial);
    expect(errors).toEqual([]);
    const log = (fields: object, message: string) => said.push(`${message} ${JSON.stringify(fields)}`);
    this.sink = module.create(config, { id: 't', log: { info: log, warn: log } });
    this.limits = limitsOf(module, config);
    this.#said = said;
  }

  async open(signal: AbortSignal = NEVER): Promise<void> {
    await this.#listen(this.sink.open(signal));
  }

  async write(points: readonly Point[], signal: AbortSignal = NEVER): Promise<WriteOutcome> {
    return await this.#listen(this.sink.write({ points }, signal));
  }

  async remove(points: readonly Point[]): Promise<void> {
    await this.#listen(this.sink.remove({ points }, NEVER));
  }

  /** Everything that was acknowledged. */
  async read(range: WindowRange, signal: AbortSignal = NEVER): Promise<StoredPoint[]> {
    await this.visible();
    return await this.#listen(readAll(this.sink, range, signal));
  }

  async visible(): Promise<void> {
    await this.#harness.visible?.();
  }

  /** How `stored` differs from `written`, as this store keeps numbers. */
  differences(stored: readonly StoredPoint[], written: readonly StoredPoint[]): string[] {
    return differences(stored, written, this.#harness.differs?.isSame);
  }

  async receipt(writer: string): Promise<number | undefined> {
    return await this.#listen(this.sink.receipt!(writer, NEVER));
  }

  async giveReceipt(
    writer: string,
    time: number,
    known: number | undefined,
  ): Promise<ReceiptBefore | undefined> {
    return await this.#listen(this.sink.giveReceipt!(writer, time, known, NEVER));
  }

  async identity(): Promise<string | undefined> {
    return await this.#listen(Promise.resolve(this.sink.identity?.(NEVER)));
  }

  async #listen<T>(settling: Promise<T>): Promise<T> {
    try {
      const result = await settling;
      if (result !== undefined && !Array.isArray(result)) this.#said.push(JSON.stringify(result));
      return result;
    } catch (error) {
      for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
        this.#said.push(`${cause.stack} ${JSON.stringify(cause)}`);
      }
      throw error;
    }
  }

  /** Writes all points as a lane would: within the limits, several batches at once, again if the sink says so. */
  async deliver(points: readonly Point[]): Promise<{ point: Point; rejection: Rejection }[]> {
    const rejected: { point: Point; rejection: Rejection }[] = [];
    const waiting = batches(points, this.limits);
    const drain = async () => {
      for (let batch = waiting.shift(); batch !== undefined; batch = waiting.shift()) {
        rejected.push(...(await this.#deliverOne(batch.points)));
      }
    };
    await Promise.all(Array.from({ length: this.limits.inFlight }, drain));
    return rejected;
  }

  async #deliverOne(points: readonly Point[]): Promise<{ point: Point; rejection: Rejection }[]> {
    const rejected: { point: Point; rejection: Rejection }[] = [];
    let left = points;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      const outcome = await this.write(left);
      if (outcome.kind === 'written') return rejected;
      if (outcome.kind === 'refused') throw new Error(`refused: ${outcome.message}`);
      if (outcome.kind === 'partial') {
        // Every store of the suite can be asked point by point, so nothing may be lost without a name.
        if (outcome.unidentified) throw new Error(`unidentified: ${outcome.unidentified.message}`);
        const sent = left;
        for (const rejection of outcome.rejected) rejected.push({ point: sent[rejection.index]!, rejection });
        left = outcome.retry.map((index) => sent[index]!);
        if (left.length === 0) return rejected;
      }
    }
    throw new Error(`still not written after ${MAX_ATTEMPTS} attempts`);
  }
}

function batches(points: readonly Point[], limits: SinkLimits): Batch[] {
  const all: { points: Point[] }[] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const point of points) {
    bytes += pointBytes(point);
    const last = all.at(-1);
    if (last === undefined || bytes > limits.maxBytes || last.points.length >= limits.maxPoints) {
      bytes = pointBytes(point);
      all.push({ points: [point] });
    } else {
      last.points.push(point);
    }
  }
  return all;
}

/** What the tests of one suite share. */
export interface Bench {
  readonly harness: Harness;
  /** Whether rows of a trial can be kept apart. */
  isTried(): boolean;
  /** Whether the sink has a setting of this name. */
  hasSetting(key: string): boolean;
  /** A namespace that no test has used. */
  namespace(): string;
  /** A sink that is closed after the test; through the proxy if `proxied`. */
  subject(options?: {
    namespace?: string;
    proxied?: boolean;
    change?: (variables: Variables) => Variables;
    trial?: string;
  }): Promise<Subject>;
  proxy(): FaultProxy;
}

/** Resolves to the SinkError that `settling` must reject with. */
export async function sinkError(settling: Promise<unknown>): Promise<SinkError> {
  const error = await settling.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SinkError);
  return error as SinkError;
}
