/** The charts of an instance's page, in the bucket of the checkpoints. Nothing depends on them. */
import type { Config } from '../../config/config.ts';
import type { Bus } from '../connect.ts';
import { Bucket } from './bucket.ts';

export class KeptCharts {
  readonly #bus: Bus;
  readonly #bucket: Bucket;
  readonly #key: string;

  /** The bucket must exist. */
  constructor(bus: Bus, { pipeline, slice }: Pick<Config['core'], 'pipeline' | 'slice'>) {
    this.#bus = bus;
    this.#bucket = new Bucket(bus, 1);
    // Two words, because the keys of checkpoints have three. A standby has the same key, and much the same charts.
    this.#key = `charts.${pipeline}_${slice.index}-${slice.of}`;
  }

  /** Resolves to undefined if there are none. Rejects with a `BusError`. */
  load(): Promise<string | undefined> {
    return this.#bucket.call(`reading ${this.#key}`, async (bucket) => {
      const entry = await bucket.get(this.#key);
      return entry?.operation === 'PUT' ? entry.string() : undefined;
    });
  }

  /** Rejects if that does not work now. */
  async save(text: string): Promise<void> {
    // Nobody waits for it.
    if (!this.#bus.connected) throw new Error('the bus is away');
    await this.#bucket.call(`writing ${this.#key}`, (bucket) => bucket.put(this.#key, text));
  }
}
