/** What every kind of hostility is made of: its aim in a sentence, a rate of its own, and an account of what it did. */
import { setTimeout as sleep } from 'node:timers/promises';
import { headers as makeHeaders } from 'nats';
import { Client, type User } from '../../e2e/bus-users.ts';
import { type Counts, Ledger } from '../counts.ts';

/** Where everything is. */
export interface Field {
  readonly bus: { readonly url: string };
  /** Of the service's HTTP server, on 127.0.0.1. */
  readonly httpPort: number;
  /** Own subject of a kind that publishes metrics. */
  readonly subject: string;
}

export const subjectOf = (kind: string) => `metrics.hostile.${kind}`;

export interface Outcome {
  /** Messages, requests or connections, as it says itself. */
  readonly done: number;
  /** What must become of the messages. */
  readonly counts: Counts;
  /** What the server of the bus refused: kinds of it, not times. */
  readonly refused: number;
  /** What must not have been, and how often. */
  readonly wrong: Counts;
}

export interface Kind {
  /** Follows its name and a colon. */
  readonly tries: string;
  /** Left out unless it is named. */
  readonly isExtra?: true;
  /** What the service is also set to. */
  readonly env?: Readonly<Record<string, string>>;
  /** Goes on until `signal` aborts. */
  run(field: Field, signal: AbortSignal): Promise<Outcome>;
}

export interface Message {
  readonly payload: string | Uint8Array;
  readonly counts: Counts;
  readonly headers?: Readonly<Record<string, string>>;
  readonly reply?: string;
}

const TICK_MS = 20;
/** What could not be done in time is made up for, up to this much. */
const MAX_DEBT_MS = 500;

/** Calls `work` this many times a second, in ticks, until `signal` aborts. */
export async function atRate(
  perSecond: number,
  signal: AbortSignal,
  work: () => void,
  afterTick: () => Promise<unknown> = async () => {},
): Promise<void> {
  let due = 0;
  for (let before = performance.now(); !signal.aborted; ) {
    const now = performance.now();
    due = Math.min(due + ((now - before) * perSecond) / 1000, 1 + (MAX_DEBT_MS * perSecond) / 1000);
    before = now;
    for (; due >= 1; due--) work();
    await afterTick();
    await sleep(TICK_MS);
  }
}

export interface PublishedKind {
  readonly tries: string;
  readonly isExtra?: true;
  readonly perSecond: number;
  /** Repeats itself, or has no end. */
  readonly messages: () => Iterator<Message, void>;
}

/** A kind that publishes metrics, as the producer of the example. */
export function published({ tries, isExtra, perSecond, messages }: PublishedKind): Kind {
  return {
    tries,
    ...(isExtra && { isExtra }),
    async run({ bus, subject }, signal) {
      const { connection } = await Client.connect('producer', bus);
      const ledger = new Ledger();
      const source = messages();
      let done = 0;
      const publishNext = () => {
        const { payload, counts, headers, reply } = source.next().value!;
        connection.publish(subject, payload, {
          ...(headers && { headers: headersOf(headers) }),
          ...(reply !== undefined && { reply }),
        });
        ledger.add(counts);
        done++;
      };
      // What the server has not read is no flood, but memory of ours.
      await atRate(perSecond, signal, publishNext, () => connection.flush());
      await connection.close();
      return { done, counts: ledger.counts(), refused: 0, wrong: {} };
    },
  };
}

function headersOf(pairs: Readonly<Record<string, string>>) {
  const made = makeHeaders();
  for (const [name, value] of Object.entries(pairs)) made.append(name, value);
  return made;
}

/** One message after the other, for ever. */
export function repeated(messages: readonly Message[]): () => Iterator<Message, void> {
  return function* () {
    for (;;) yield* messages;
  };
}

export interface Request {
  readonly subject: string;
  readonly body: string;
  readonly reply: string;
}

/** A kind that sends requests as a user of the example, and does not wait for the answers. */
export function requesting(tries: string, user: User, perSecond: number, requests: readonly Request[]): Kind {
  return {
    tries,
    async run({ bus }, signal) {
      const client = await Client.connect(user, bus);
      const { connection } = client;
      let done = 0;
      const ask = () => {
        const { subject, body, reply } = requests[done % requests.length]!;
        connection.publish(subject, body, { reply });
        done++;
      };
      await atRate(perSecond, signal, ask, () => connection.flush());
      await connection.close();
      return { done, counts: {}, refused: client.refused.size, wrong: {} };
    },
  };
}
