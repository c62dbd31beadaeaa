/**
 * Publishes as a producer should that has to know what became of its messages: the stream acknowledges each, and what
 * is not acknowledged is published again, with the same id, so that the stream takes it once.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JetStreamClient } from 'nats';
import type { Bus } from './connect.ts';
import { isJetStreamAway, isTransient, reasonInWords } from './errors.ts';
import { jetStreamOptions } from './jetstream-api.ts';

/** Messages that wait for their acknowledgement. A server drops what comes faster than it stores. */
const MAX_IN_FLIGHT = 256;
const ANSWER_TIMEOUT_MS = 5_000;
const RETRY_PAUSE_MS = 500;
/** All attempts together take less than the two minutes for which a stream remembers ids by default. */
const MAX_ATTEMPTS = 12;

/** What became of the messages. */
export interface Acknowledgements {
  acknowledged: number;
  /** Attempts after the first one of a message. */
  repeated: number;
  /** The stream, or the bus, said that it does not take them. */
  refused: number;
  /** Given up without an answer: they may be stored or not. */
  unanswered: number;
  /** The words of the latest refusal. */
  refusal: string | undefined;
}

interface Waiting {
  readonly subject: string;
  readonly payload: Uint8Array;
}

export class AckedPublisher {
  readonly result: Acknowledgements = {
    acknowledged: 0,
    repeated: 0,
    refused: 0,
    unanswered: 0,
    refusal: undefined,
  };
  readonly #bus: Bus;
  readonly #client: JetStreamClient;
  readonly #name = randomUUID();
  #number = 0;
  /** What those who publish have to bound: see `flush`. */
  #waiting: Waiting[] = [];
  #inFlight = 0;
  /** The last message was given up: the next ones are tried once, or every one of them would take as long. */
  #isHopeless = false;
  #settled = Promise.withResolvers<void>();

  constructor(bus: Bus) {
    this.#bus = bus;
    this.#client = bus.connection.jetstream(jetStreamOptions(bus));
  }

  get connected(): boolean {
    return this.#bus.connected;
  }

  whenConnected(signal: AbortSignal): Promise<void> {
    return this.#bus.whenConnected(signal);
  }

  /** Copies the message. Returns true: `result` says what became of it. */
  publish(subject: string, payload: Uint8Array): boolean {
    this.#waiting.push({ subject, payload: payload.slice() });
    this.#fill();
    return true;
  }

  /** Resolves when it is known of every message what became of it. */
  async flush(): Promise<void> {
    while (this.#inFlight > 0) await this.#settled.promise;
  }

  #fill(): void {
    while (this.#inFlight < MAX_IN_FLIGHT) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#inFlight += 1;
      void this.#send(next).then(() => this.#over());
    }
  }

  #over(): void {
    this.#inFlight -= 1;
    this.#fill();
    if (this.#inFlight > 0) return;
    this.#settled.resolve();
    this.#settled = Promise.withResolvers();
  }

  async #send({ subject, payload }: Waiting): Promise<void> {
    this.#number += 1;
    const msgID = `${this.#name}-${this.#number}`;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#client.publish(subject, payload, { msgID, timeout: ANSWER_TIMEOUT_MS });
        this.result.acknowledged += 1;
        this.#isHopeless = false;
        return;
      } catch (error) {
        if (!isTransient(error) && !isJetStreamAway(error)) {
          this.result.refused += 1;
          this.result.refusal = reasonInWords(error);
          return;
        }
        if (this.#isHopeless || attempt === MAX_ATTEMPTS || this.#bus.connection.isClosed()) {
          this.#isHopeless = true;
          this.result.unanswered += 1;
          return;
        }
      }
      await sleep(RETRY_PAUSE_MS);
      this.result.repeated += 1;
    }
  }
}
