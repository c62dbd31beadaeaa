/** How often a reader that has caught up with a busy stream sends requests, as seen by a client that watches them. */

import { setTimeout as sleep } from 'node:timers/promises';
import { headers } from 'nats';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { createJetStreamSource } from '../../../src/bus/read/jetstream.ts';
import { ensureStream, manager } from '../../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../../src/servers/nats.ts';
import { deleteStreams } from '../deleted-streams.ts';
import { takingPlain } from '../server-version.ts';
import {
  busAt,
  losing,
  numbers,
  publishNumbers,
  publishStored,
  Recorder,
  settings,
  until,
} from '../support.ts';

interface Asked {
  readonly batch: number;
  readonly no_wait?: boolean;
}

const BURST = 400;
const BURST_EVERY_MS = 10;
const MAX_MESSAGES = 400_000;
const MAX_PAUSES = 10;
/** Longer than a paced request may go without an answer. */
const HANG_MS = 1_000;
/** How many messages are published while it hangs. */
const HELD = 40_000;

let nats: NatsServer;
let bus: Bus;
let producer: Bus;
/** Requests for messages; and with those that only ask whether everything has been read. */
let asked: Asked[];
let askedAtAll: Asked[];
const stop = new AbortController();

beforeAll(async () => {
  nats = await startNats(takingPlain(2 * HELD));
  [bus, producer] = [await busAt(nats.url), await busAt(nats.url)];
  producer.connection.subscribe('$JS.API.CONSUMER.MSG.NEXT.>', {
    callback: (_, message) => {
      const request = message.json<Asked>();
      askedAtAll.push(request);
      if (request.batch > 1) asked.push(request);
    },
  });
});
beforeEach(async () => {
  asked = [];
  askedAtAll = [];
  await ensureStream(bus, settings({ NATS_URL: nats.url }));
});
afterEach(async () => {
  await deleteStreams(nats, (await manager(bus)).streams, ['METRICS']);
});
afterAll(async () => {
  stop.abort();
  await Promise.all([bus.close(), producer.close()]);
  await nats.stop();
});

function read(on: Bus) {
  const reader = new Recorder();
  const end = new AbortController();
  const core = settings({ NATS_URL: nats.url });
  const source = createJetStreamSource(on, core, { start: { kind: 'earliest' } });
  const run = source.run(reader, AbortSignal.any([end.signal, stop.signal]));
  const stopped = () => {
    end.abort();
    return run;
  };
  return { reader, source, end: stopped };
}

/**
 * Publishes numbers until `isEnough`, up to a maximum; returns the next number. Only a reader that has caught up is
 * paced: on a busy machine, the next burst waits for it.
 */
async function publishUntil(reader: Recorder, isEnough: () => boolean, from = 0): Promise<number> {
  let published = from;
  for (; !isEnough() && published < from + MAX_MESSAGES; published += BURST) {
    await publishNumbers(producer, published, published + BURST);
    await sleep(BURST_EVERY_MS);
    while (reader.sequences.length < published - BURST) await sleep(1);
  }
  return published;
}

const atAPace = () => asked.filter((request) => request.no_wait);

test('requests to a busy stream are paced; a quiet one has a request waiting', async () => {
  const { reader, source, end } = read(bus);
  const published = await publishUntil(reader, () => atAPace().length > 20);
  await until('all', () => reader.sequences.length >= published);
  expect(reader.sequences).toEqual(numbers(1, published + 1));
  expect(atAPace().length).toBeGreaterThan(20);
  await until('two wait again', () => asked.length > 1 && asked.slice(-2).every(({ no_wait }) => !no_wait));
  const { length } = asked;
  for (let i = published; i < published + 20; i++) {
    await publishNumbers(producer, i, i + 1);
    await until('the one', () => reader.sequences.length > i);
  }
  // They were delivered as they were published, for the requests that were already waiting.
  expect(asked).toHaveLength(length);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  await end();
});

test('a pause makes no message late: a request that brought nothing at a pace is followed by one that waits', async () => {
  const { reader, end } = read(bus);
  let published = 0;
  const isPaced = ({ batch, no_wait = false }: Asked) => batch > 1 && no_wait;
  const isWaiting = (request: Asked | undefined) => request !== undefined && !request.no_wait;
  const isAtOnce = () => askedAtAll.some((request, i) => isPaced(request) && isWaiting(askedAtAll[i + 1]));
  // A tick in between may make the request, too, but never without asking whether everything has been read.
  for (let pauses = 1; pauses < MAX_PAUSES && !isAtOnce(); pauses++) {
    const { length } = atAPace();
    published = await publishUntil(reader, () => atAPace().length > length, published);
    await until('all', () => reader.sequences.length >= published);
    await until('waiting again', () => asked.at(-1)?.no_wait === undefined);
  }
  expect(isAtOnce()).toBe(true);
  await end();
});

test('a request that the server ends silently is repeated', async () => {
  let swallowed = 0;
  let probe: string | undefined;
  const isSwallowed = (code: number, inbox: string) => {
    // An empty stream too is asked whether everything has been read: the first answer is for that.
    probe ??= inbox;
    if (inbox === probe) return false;
    const isEnd = code === 408 || code === 404;
    if (isEnd) swallowed += 1;
    return isEnd;
  };
  const { reader, source, end } = read(losing(bus, () => false, isSwallowed));
  await until('asked whether all is read', () => probe !== undefined);
  const published = await publishUntil(reader, () => swallowed > 2);
  expect(swallowed).toBeGreaterThan(2);
  await until('what was published', () => reader.sequences.length >= published);
  await publishNumbers(producer, published, published + 100);
  await until('all', () => reader.sequences.length >= published + 100);
  expect(reader.sequences).toEqual(numbers(1, reader.sequences.length + 1));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  await end();
});

test('if a server hangs for a moment, its requests are not taken for ended', async () => {
  const { reader, source, end } = read(bus);
  for (let hangs = 1; hangs <= 3; hangs++) {
    const { length } = atAPace();
    const isPaced = () => atAPace().length > length + 5;
    const published = await publishUntil(reader, isPaced, reader.sequences.length);
    nats.signal('SIGSTOP');
    const more = publishNumbers(producer, published, published + HELD);
    await sleep(HANG_MS);
    nats.signal('SIGCONT');
    await more;
    await until('all', () => reader.sequences.length >= published + HELD);
  }
  expect(reader.sequences).toEqual(numbers(1, reader.sequences.length + 1));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  await end();
});

test('the report of a complete batch, as from nats-server 2.10 on, does not cause more requests', async () => {
  const inboxes = new Set<string>();
  const completed = { headers: headers(409, 'Batch Completed') };
  const subscription = producer.connection.subscribe('$JS.API.CONSUMER.MSG.NEXT.>', {
    callback: (_, message) => {
      if (message.json<Asked>().batch === 1) return;
      // By the time of this report, the reader has counted the messages and sent the next request.
      if (inboxes.has(message.reply!)) producer.connection.publish(message.reply!, '', completed);
      inboxes.add(message.reply!);
    },
  });
  await publishStored(producer, 0, 200_000);
  const { reader, source, end } = read(bus);
  await until('all', () => reader.sequences.length === 200_000);
  // Twenty that were filled, two that wait, and a few more on a busy machine: not twice as many.
  expect(asked.filter((request) => !request.no_wait).length).toBeLessThan(40);
  expect(reader.sequences).toEqual(numbers(1, 200_001));
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  subscription.unsubscribe();
  await end();
});
