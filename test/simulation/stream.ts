/** What producers publish, which is decided before the run begins, and what the stream holds of it at any time. */

import { gzipSync } from 'node:zlib';
import type { Reader } from '../../src/bus/read/source.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { expectedSamples, shapeAt, shapedSamples, windowStart } from '../aggregate/oracle.ts';
import type { Chance } from './chance.ts';
import type { Scenario } from './scenario.ts';

/** One in this many messages is compressed: its reader must get to know this. */
const PACKED_EVERY = 9;

export interface SimMessage {
  readonly sequence: number;
  readonly payload: Uint8Array;
  /** As it was sent, if the producer compressed it. */
  readonly packed: Uint8Array | undefined;
  /** When the server stored it: by the true clock, and by the server's. */
  readonly publishedAt: number;
  readonly streamTime: number;
  readonly subject: string;
  /** What a decoder must make of it (I8). */
  readonly samples: number;
  readonly rejectedMessages: number;
  readonly rejectedSamples: number;
  /** The windows that it has samples for that are counted, by the oracle (I1). */
  readonly windows: readonly number[];
}

/** While a leader is elected, nothing is stored and nothing is delivered. */
const OUTAGE_MS = 2_000;

/** Those of two tenants, and one of nobody. */
const SUBJECTS = ['metrics.a', 'metrics.b', 'metrics'];

const encoder = new TextEncoder();

/** Not JSON, not an object, no type, not a number, no name: none of these is a sample, even if the rest is valid. */
const REJECTED = [
  'hello',
  '{"name":"a","type":"counter","value":1',
  '17',
  '{"name":"a","value":1}',
  '{"name":"a","type":"counter","value":"1"}',
  '{"type":"counter","value":1}',
];

export class SimStream {
  /** What the stream would hold at the end if nothing were removed; `messages[i]` has sequence i + 1. */
  readonly messages: readonly SimMessage[];
  /** What a rollback takes back, and what takes its place, at once or later. */
  readonly parted: { readonly taken: readonly SimMessage[]; readonly put: readonly SimMessage[] };
  readonly #scenario: Scenario;
  /** The messages as they are known at the current time. */
  #current: readonly SimMessage[];
  #last = 0;
  #first = 1;

  /** What the stream held before the rollback, if there is one. */
  get before(): readonly SimMessage[] {
    const { taken } = this.parted;
    return taken.length === 0 ? [] : [...this.messages.slice(0, taken[0]!.sequence - 1), ...taken];
  }

  constructor(chance: Chance, scenario: Scenario) {
    this.#scenario = scenario;
    const { rollback, streamBegins } = scenario;
    this.#current = publish(chance, scenario, streamBegins, 1);
    this.messages = this.#current;
    this.parted = { taken: [], put: [] };
    if (rollback === undefined) return;
    const stored = this.#current.filter(({ publishedAt }) => publishedAt <= rollback.at);
    const kept = stored.slice(0, Math.max(0, stored.length - rollback.depth));
    const resumesAt = rollback.at + (rollback.consumersLive ? OUTAGE_MS : 1);
    // A new leader may have stored other messages in the meantime.
    const since = kept.at(-1)?.publishedAt ?? streamBegins;
    const stamped = publish(chance, scenario, since, kept.length + 1)
      .slice(0, rollback.others)
      .filter(({ publishedAt }) => publishedAt <= rollback.at)
      .map((message) => ({ ...message, publishedAt: resumesAt }));
    const taken = stored.slice(kept.length);
    // No election takes less than a millisecond.
    const isTooSoon = stamped.some(({ streamTime }, i) => streamTime === taken[i]?.streamTime);
    const others = isTooSoon ? [] : stamped;
    const rest = publish(chance, scenario, resumesAt, kept.length + others.length + 1);
    this.messages = [...kept, ...others, ...rest];
    const put = this.messages.slice(kept.length, kept.length + Math.max(taken.length, others.length));
    this.parted = { taken, put };
  }

  /** From now on, the stream has its final history. */
  rollBack(now: number): { readonly after: number; readonly through: number } {
    const through = this.lastSequence(now);
    this.#current = this.messages;
    const after = through - this.parted.taken.length;
    this.#last = after;
    return { after, through };
  }

  /** Sequence of the last message stored by now. */
  lastSequence(now: number): number {
    while (this.#last < this.#current.length && this.#current[this.#last]!.publishedAt <= now) this.#last++;
    return this.#last;
  }

  /** Sequence of the first message that is still there. If there is none: the last sequence + 1. */
  firstSequence(now: number): number {
    const last = this.lastSequence(now);
    const oldest = now - this.#scenario.maxAgeOfMessagesMs;
    while (this.#first <= last && this.at(this.#first).publishedAt < oldest) this.#first++;
    return this.#first;
  }

  at(sequence: number): SimMessage {
    return this.#current[sequence - 1]!;
  }

  /** When the message after `sequence` is published; undefined if there is none. */
  nextAt(sequence: number): number | undefined {
    return this.#current[sequence]?.publishedAt;
  }

  /** The first sequence of all published ones with this stream time or a later one. */
  firstAt(streamTime: number): number {
    const messages = this.#current;
    if (this.#scenario.setBack !== undefined) {
      const index = messages.findIndex((message) => message.streamTime >= streamTime);
      return (index < 0 ? messages.length : index) + 1;
    }
    let low = 0;
    let high = messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (messages[middle]!.streamTime < streamTime) low = middle + 1;
      else high = middle;
    }
    return low + 1;
  }
}

/** What the server's clock shows. */
export function serverTime(now: number, { serverOffsetMs, setBack }: Scenario): number {
  return now + serverOffsetMs - (setBack !== undefined && now >= setBack.at ? setBack.ms : 0);
}

function publish(chance: Chance, scenario: Scenario, from: number, firstSequence: number): SimMessage[] {
  const messages: SimMessage[] = [];
  const meanGap = 1000 / scenario.messagesPerSecond;
  let publishedAt = from;
  while (publishedAt < scenario.streamEnds) {
    const time = serverTime(publishedAt, scenario);
    const text = drawPayload(chance, scenario, time);
    const samples = expectedSamples(text);
    const subject = chance.pick(SUBJECTS);
    const counted = shapedSamples({ payload: text, streamTime: time, subject }, scenario);
    const windows = counted.map(({ eventTime }) => windowStart(eventTime ?? time, time, scenario));
    const elements = text.startsWith('[') ? (JSON.parse(text) as unknown[]).length : undefined;
    messages.push({
      sequence: firstSequence + messages.length,
      payload: encoder.encode(text),
      packed: messages.length % PACKED_EVERY === 0 ? gzipSync(text) : undefined,
      publishedAt,
      streamTime: time,
      subject,
      samples: samples.length,
      rejectedMessages: elements === undefined && samples.length === 0 ? 1 : 0,
      rejectedSamples: elements === undefined ? 0 : elements - samples.length,
      windows: [...new Set(windows)],
    });
    publishedAt += drawGap(chance, meanGap, scenario);
  }
  return messages;
}

/** Bursts within a millisecond, a steady flow, and pauses long enough for windows to close by the clock alone. */
function drawGap(chance: Chance, meanGap: number, { windowMs, latenessMs }: Scenario): number {
  return chance.weighted<() => number>([
    [() => 0, 2],
    [() => chance.int(0, Math.ceil(2 * meanGap)), 10],
    [() => chance.int(0, windowMs), 0.5],
    [() => chance.int(1, 4) * windowMs + latenessMs, 0.1],
  ])();
}

function drawPayload(chance: Chance, scenario: Scenario, time: number): string {
  if (chance.bool(0.04)) return chance.pick(REJECTED);
  if (!chance.bool(0.12)) return drawSample(chance, scenario, time);
  const length = chance.weighted([
    [chance.int(0, 4), 20],
    [chance.int(20, 60), 1],
  ]);
  const elements = Array.from({ length }, () =>
    chance.bool(0.1) ? '{"name":"a","type":"set","value":1}' : drawSample(chance, scenario, time),
  );
  return `[${elements.join(', ')}]`;
}

function drawSample(chance: Chance, scenario: Scenario, time: number): string {
  const type = chance.pick(['counter', 'counter', 'gauge', 'timer']);
  const eventTime = drawEventTime(chance, scenario, time);
  const fields = {
    name: chance.pick(['http.requests', 'queue', 'db']),
    type,
    value: drawValue(chance, scenario, type),
    [chance.pick(['dimensions', 'dimensions', 'dims', 'tags'])]: chance.pick<object>([
      {},
      { app: 'api', status: 200 },
      { app: 'api', status: '200' },
      { status: 500, app: 'web' },
      { app: null },
    ]),
    ...(eventTime === undefined ? {} : { timestamp: new Date(eventTime).toISOString() }),
  };
  return JSON.stringify(fields);
}

function drawValue(chance: Chance, { setBack, rollback }: Scenario, type: string): number {
  if (type === 'timer') return chance.int(1, 1_000_000_000);
  // When a window is recomputed, a sum may become infinite, and the old row would stay: not in such runs.
  const isLarge = type === 'counter' && setBack === undefined && rollback === undefined;
  return chance.weighted<number>([
    [chance.int(-3, 100), 10],
    // The order in which these are added shows in the last bits.
    [chance.next() * 10 ** chance.int(-3, 12), 5],
    // The sum of two of these in a window is infinite: every lane refuses it.
    [isLarge ? 1.7e308 : 0, 1],
  ]);
}

/** Draws event times on both sides of every edge of I1. */
function drawEventTime(chance: Chance, scenario: Scenario, time: number): number | undefined {
  const { windowMs, latenessMs, maxAheadMs } = shapeAt(time, scenario);
  const edge = Math.floor((time - latenessMs) / windowMs) * windowMs;
  return chance.weighted<number | undefined>([
    [time - chance.int(0, 50), 10],
    [undefined, 2],
    [time - chance.int(0, 3 * (windowMs + latenessMs)), 4],
    [time + chance.int(0, 2 * maxAheadMs + 10), 3],
    [time + maxAheadMs + chance.int(-1, 1), 1],
    [edge - chance.int(0, 2) * windowMs + chance.int(-1, 1), 2],
    [time - chance.int(0, 100_000), 0.3],
  ]);
}

/** Hands a message over as its producer sent it. */
export function handOver(
  { payload, packed, subject }: SimMessage,
  reader: Reader,
  streamTime: number,
  sequence: number,
): void {
  const bytes = packed ?? payload;
  const encoding = packed && 'gzip';
  reader.message(wholeMessage(bytes, streamTime, sequence), { subject, encoding });
}
