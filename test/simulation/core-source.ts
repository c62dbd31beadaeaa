/**
 * Plain NATS, as src/bus/read/core.ts reads it: at most once, with the time of arrival; one member of a group gets each
 * message.
 */
import { newSourceStats, type Reader, type Source, type SourceStats } from '../../src/bus/read/source.ts';
import type { Instance } from './instance.ts';
import { handOver, type SimMessage } from './stream.ts';
import type { World } from './world.ts';

const TICK_MS = 250;

export class SimCoreSource implements Source {
  readonly stats: SourceStats = newSourceStats();
  readonly handed = { messages: 0, samples: 0, rejectedMessages: 0, rejectedSamples: 0 };
  readonly #world: World;
  readonly #instance: Instance;
  #reader: Reader | undefined;

  constructor(world: World, instance: Instance) {
    this.#world = world;
    this.#instance = instance;
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    const { coreReaders } = this.#world;
    this.#reader = reader;
    this.stats.reading = true;
    coreReaders.add(this);
    this.#tickLater();
    await new Promise<void>((resolve) => this.#instance.onAbort(signal, resolve));
    coreReaders.delete(this);
    // Messages in flight when the reading ends are still accepted.
    await this.#instance.pause(this.#world.scenario.latencyMs + 1);
    this.#reader = undefined;
  }

  get listens(): boolean {
    return !this.#instance.dead && this.#instance.connection.connected;
  }

  /** The server sends the message, once. */
  send(message: SimMessage): void {
    this.#world.timeline.after(this.#world.chance.int(1, this.#world.scenario.latencyMs), () => {
      if (this.#reader === undefined || !this.#instance.connection.connected) return;
      if (!this.#instance.enters()) return;
      const streamTime = Math.floor(this.#instance.clock.now());
      this.handed.messages += 1;
      this.handed.samples += message.samples;
      this.handed.rejectedMessages += message.rejectedMessages;
      this.handed.rejectedSamples += message.rejectedSamples;
      this.stats.lastStreamTime = streamTime;
      this.#instance.received.push({ payload: message.payload, streamTime, subject: message.subject });
      handOver(message, this.#reader, streamTime, 0);
    });
  }

  #tickLater(): void {
    this.#world.timeline.after(TICK_MS, () => {
      if (this.#reader === undefined || !this.#instance.enters()) return;
      // In core mode, a lane holds nobody back.
      const held = this.#reader.progress(Math.floor(this.#instance.clock.now()));
      if (held !== undefined) this.#world.trace.fail('I7', 'the live path waits for a lane in core mode');
      this.#tickLater();
    });
  }
}
