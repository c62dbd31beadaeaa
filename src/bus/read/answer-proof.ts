/**
 * Looks whether all that the server sends comes through. Where JetStream's API is imported from another account, and
 * its export is not made for streams of answers, only the first answer to each request does: the server counts the
 * others as delivered, and says that nothing is pending.
 */
import type { NatsConnection } from 'nats';
import { StreamUnfit } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { describeStream, type StreamConfigured } from '../stream.ts';
import { tryReading } from './trial.ts';

/** After a trial that told nothing, such as where no other consumer may be made. */
const RETRY_MS = 60_000;
/** One answer can be lost with a connection. */
const TRIALS = 2;

/** By connection: those on which more than one answer came. They outlive the sources. */
const proven = new WeakSet<NatsConnection>();

export class AnswerProof {
  readonly #bus: Bus;
  readonly #core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>;
  readonly #now: () => number;
  #nextAt = Number.NEGATIVE_INFINITY;

  constructor(
    bus: Bus,
    core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
    now: () => number,
  ) {
    this.#bus = bus;
    this.#core = core;
    this.#now = now;
  }

  /** Whether nobody knows yet, and it can be tried. */
  get isDue(): boolean {
    return !proven.has(this.#bus.connection) && this.#now() >= this.#nextAt;
  }

  given(): void {
    proven.add(this.#bus.connection);
  }

  /** Rejects with a `StreamUnfit` if only one answer comes. Other trouble shows elsewhere. */
  async find(): Promise<void> {
    this.#nextAt = this.#now() + RETRY_MS;
    for (let trial = 1; trial <= TRIALS; trial++) {
      // Somebody may have changed the stream meanwhile.
      const facts = await describeStream(this.#bus, this.#core).catch(() => undefined);
      if (facts === undefined || facts.messages === 0) return;
      try {
        await tryReading(this.#bus, facts, 1);
        this.given();
        return;
      } catch (error) {
        if (!(error instanceof StreamUnfit)) return;
        if (trial === TRIALS) throw error;
      }
    }
  }
}
