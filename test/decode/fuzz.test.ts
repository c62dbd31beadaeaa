import { expect, test } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { SampleHandler } from '../../src/decode/decoder.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { REJECTIONS } from '../../src/decode/rejection.ts';
import { effort } from '../effort.ts';
import { decodeMessage, decodeWith } from './decoded.ts';
import { mutated, random } from './mutations.ts';

const SEEDS = [
  '{"name":"http.requests","type":"counter","value":3,"dimensions":{"app":"api","status":200},"timestamp":"2026-11-23T01:30:00.123456789Z"}',
  '[{"name":"a","type":"gauge","value":-1.5e3,"tags":{"k":"\\u00e9\\n"}},{"x":[1,{"y":null}],"name":"b","type":"timer","value":7}]',
  ' { "labels" : { "é" : true } , "value" : 0.25 , "type" : "timer" , "name" : "\\ud83d\\ude00" } ',
];
/** Bytes that have a meaning in JSON, so that mutations get past the first check. */
const TELLING = Buffer.from('{}[]",:\\0189-+.eEutfn \n\u0000\u001f\u007f\u0080\u00ff', 'latin1');
const MUTATIONS = effort(120_000);
const COMPARED = effort(30_000);
const TOGETHER = effort(20_000);

function setUp() {
  const table = new SeriesTable(200);
  const decoder = new JsonDecoder(table);
  const tiling = Tiling.of({ windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 50 });
  const aggregator = new Aggregator(table, { tiling, from: 0 });
  const counts = { received: 0, decoded: 0, rejected: 0, elements: 0, samples: 0, rejectedElements: 0 };
  const decode = (message: Uint8Array) => {
    counts.received++;
    let called = false;
    const rejection = decodeMessage(decoder, message, {
      sample: (sample) => {
        called = true;
        counts.samples++;
        if (!Number.isFinite(sample.value) || Object.is(sample.value, -0))
          throw new Error(`value ${sample.value}`);
        aggregator.add(sample, counts.received);
      },
      rejected: (reason, _, count) => {
        called = true;
        counts.rejectedElements += count;
        if (!REJECTIONS.includes(reason)) throw new Error(reason);
      },
    });
    if (rejection === undefined) counts.decoded++;
    else counts.rejected++;
    if (rejection !== undefined && (called || !REJECTIONS.includes(rejection))) throw new Error(rejection);
    counts.elements += rejection === undefined ? elementsOf(message) : 0;
    return rejection;
  };
  return { decode, counts, aggregator };
}

/** Throws if the message is not JSON, although it was accepted. */
function elementsOf(message: Uint8Array): number {
  const parsed: unknown = JSON.parse(new TextDecoder('utf-8', { ignoreBOM: true }).decode(message));
  return Array.isArray(parsed) ? parsed.length : 1;
}

test('random mutations: nothing throws, only JSON is accepted, and every message and element is counted', () => {
  const next = random(42);
  const { decode, counts, aggregator } = setUp();
  for (let i = 0; i < MUTATIONS; i++) decode(mutated(Buffer.from(SEEDS[next(SEEDS.length)]!), TELLING, next));
  expect(counts.received).toBe(MUTATIONS);
  expect(counts.decoded + counts.rejected).toBe(counts.received);
  expect(counts.samples + counts.rejectedElements).toBe(counts.elements);
  expect(counts.decoded).toBeGreaterThan(MUTATIONS / 40);
  expect(counts.rejectedElements).toBeGreaterThan(MUTATIONS / 120);
  const { counter, gauge, timer } = aggregator.stats;
  expect(counter + gauge + timer).toBe(counts.samples);
  const inWindows = aggregator
    .closeAll()
    .flatMap((window) => Array.from({ length: window.size }, (_, p) => window.point(p).count));
  expect(inWindows.reduce((sum, count) => sum + count, 0)).toBe(counts.samples);
});

test('a message gives the same result whether its series was seen before or not', () => {
  const next = random(3);
  const seen = new SeriesTable(10_000);
  for (const text of SEEDS) decodeWith(seen, text);
  let samples = 0;
  for (let i = 0; i < COMPARED; i++) {
    const message = mutated(Buffer.from(SEEDS[next(4) === 0 ? next(SEEDS.length) : 0]!), TELLING, next);
    decodeWith(seen, message);
    const decoded = decodeWith(seen, message);
    samples += decoded.elements.length;
    expect(decoded).toEqual(decodeWith(new SeriesTable(10), message));
  }
  expect(samples).toBeGreaterThan(COMPARED / 60);
});

test('messages decoded together give the same results as one by one, in the same order', () => {
  const next = random(11);
  // Enough series that lookups are prepared together.
  const table = new SeriesTable(10_000);
  for (let i = 0; i < 5000; i++) decodeWith(table, `{"name":"n${i}","type":"counter","value":1}`);
  const decoder = new JsonDecoder(table);
  let expected: unknown[] = [];
  let found: unknown[] = [];
  let prepared = 0;
  const handler: SampleHandler = {
    expect: (_, count) => {
      prepared += count;
    },
    sample: ({ series, value, eventTime, streamTime, sequence }) =>
      found.push({ series: table.series(series), value, eventTime }, streamTime, sequence),
    rejected: (reason, _, count) => found.push(...Array(count).fill(reason)),
    rejectedMessage: (reason, message) => found.push(reason, Buffer.from(message)),
  };
  for (let i = 0; i < TOGETHER; i++) {
    const known = `{"name":"n${next(6000)}","type":"counter","value":${i}}`;
    const message =
      next(3) > 0 ? Buffer.from(known) : mutated(Buffer.from(SEEDS[next(SEEDS.length)]!), TELLING, next);
    const { rejection, elements } = decodeWith(table, message);
    const each = elements.map((element) => (typeof element === 'string' ? element : [element, i, -i]));
    expected.push(...(rejection === undefined ? each.flat() : [rejection, message]));
    // In the middle of a buffer, as messages arrive from a socket.
    const chunk = Buffer.concat([Buffer.from('{"name":'), message, Buffer.from('}')]);
    decoder.take({ ...wholeMessage(chunk, i, -i), start: 8, end: 8 + message.length }, handler);
    if (next(300) > 0) continue;
    decoder.flush(handler);
    expect(found).toEqual(expected);
    [expected, found] = [[], []];
  }
  expect(prepared).toBeGreaterThan(TOGETHER / 4);
});

test('random bytes', () => {
  const next = random(7);
  const { decode, counts } = setUp();
  for (let i = 0; i < 30_000; i++) {
    decode(
      Uint8Array.from({ length: next(40) }, () => (next(2) ? TELLING[next(TELLING.length)]! : next(256))),
    );
  }
  expect(counts.decoded + counts.rejected).toBe(30_000);
});

test('truncated at every byte', () => {
  const { decode } = setUp();
  for (const text of SEEDS) {
    const message = Buffer.from(text);
    const whole = message.lastIndexOf(text.trimEnd().at(-1)!) + 1;
    expect(decode(message)).toBeUndefined();
    for (let length = 0; length < whole; length++) {
      const blank = message.subarray(0, length).toString().trim() === '';
      expect([length, decode(message.subarray(0, length))]).toEqual([length, blank ? 'empty' : 'not_json']);
    }
  }
});
