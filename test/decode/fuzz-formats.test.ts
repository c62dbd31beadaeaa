/**
 * Random mutations of messages of all formats, the same ones in every run. FANOUT_FUZZ_MESSAGES sets how many
 * (default: 200,000).
 */

import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import type { Sample } from '../../src/aggregate/sample.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { Decoder, SampleHandler } from '../../src/decode/decoder.ts';
import { FORMATS, type Format, makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { type InputRejection, REJECTIONS } from '../../src/decode/rejection.ts';
import { Pipeline } from '../../src/deliver/pipeline.ts';
import { effort } from '../effort.ts';
import { mutated, random } from './mutations.ts';
import { protobuf, request, text } from './otlp-messages.ts';

const MESSAGES = Number(process.env.FANOUT_FUZZ_MESSAGES ?? effort(200_000));
/** This share of messages is compressed before the mutation. It is small because unpacking is much more expensive. */
const COMPRESSED_PERCENT = 2;
const MAX_MESSAGE_BYTES = 2000;
const EVERY_MESSAGES = 1000;
/** Few enough steps that nearly every message takes several turns. */
const PACE = { stepsPerTurn: 3, maxWaitingBytes: 100_000 };
const MAX_SECONDS = 3 * 3600;
const START = 1_700_000_000_000;
/** Rejections that mutations of such short messages do not reach. */
const BEYOND: readonly InputRejection[] = [
  'empty',
  'too_large',
  'too_deep',
  'too_many_dimensions',
  'too_long',
  // These come from a header.
  'delete_marker',
  'schedule',
  'missing_increment',
];

const histogram = {
  aggregationTemporality: 1,
  dataPoints: [{ count: 3, sum: 9, bucketCounts: [1, 2], explicitBounds: [4] }],
};
const points = [
  { asDouble: 1, timeUnixNano: 7_000_000, attributes: [text('a', 'b')] },
  { asInt: 2, flags: 1 },
];
const OTLP = request([
  { name: 'g', gauge: { dataPoints: points } },
  { name: 's', sum: { aggregationTemporality: 1, dataPoints: points } },
  { name: 'h', histogram },
  { name: 'q', summary: { dataPoints: [{ count: 1 }] } },
]);
const SEEDS: readonly (string | Uint8Array)[] = [
  '{"name":"http.requests","type":"counter","value":3,"dimensions":{"app":"api","status":200},"timestamp":"2026-11-23T01:30:00.123456789Z"}',
  '[7,{"name":"a","type":"gauge","value":-1.5e3,"tags":{"k":"\\u00e9\\n"}},{"x":[1,{"y":null}],"name":"b","type":"timer","value":7}]',
  'cpu,cpu=cpu0,host=web\\ 1 usage_idle=98.5,usage_user=1i,active=true,text="a \\"b\\", c" 1556813561098765432',
  '# comment\nnet,if=eth0 rx=18446744073709551615u,value=1e3\r\n\n  disk,path=/a\\,b free=-.5,used=9i -1\n',
  'http.requests:1|c|@0.1|#route:/v1,cached',
  'lat:320:298.5:-1|ms|@0.3|#route:/v1|c:abc|T1656581400\nusers:42|s\r\n\ntemp:+4|g\n_e{1,1}:a|b\nmem:12|g|#a:b,c:d',
  '{"name":"a","type":"counter","value":1}\n{"name":"b","type":"gauge","value":}\r\n\n{"name":"c"}\n[1]',
  ' -12.5e1\n',
  JSON.stringify(OTLP),
  protobuf(OTLP),
  ' +1200345 ',
];
/** Bytes that have a meaning in some format, so that mutations get past the first check. */
const TELLING = Buffer.from('{}[]",:\\0189-+.eEutfnisgcmhd=|#@T_ \n\r\t\u0000\u007f\u0080\u00ff', 'latin1');

/** The SEEDS that are in each format. */
const OF_FORMAT: Record<Format, readonly number[]> = {
  auto: [0, 1, 2, 3, 4, 5, 6, 8, 9],
  json: [0, 1, 6],
  influx: [2, 3],
  statsd: [4, 5],
  number: [7],
  otlp: [8, 9],
  // What counts is in a header: it gets the same text.
  counter: [10],
};

/** A pipeline, and independent counts of what its decoder did. */
function rig(metricsFormat: Format) {
  const table = new SeriesTable(200);
  const tiling = Tiling.of({ windowMs: 1000, latenessMs: 0, maxAheadMs: 0, maxSeries: 50 });
  const aggregator = new Aggregator(table, { tiling, from: 0 });
  const settings = { metricsFormat, metricsCounters: ['net.*'], maxMessageBytes: MAX_MESSAGE_BYTES };
  const decoder = makeDecoder(table, settings);
  const counted = { decoded: 0, samples: 0, rejected: 0, sampled: 0, pauses: 0 };
  let before = 0;
  let isRejected = false;
  const watch = (handler: SampleHandler): SampleHandler => ({
    sample: (sample) => {
      counted.samples++;
      check(sample);
      handler.sample(sample);
    },
    rejected: (reason, message, count) => {
      counted.rejected += count;
      handler.rejected(reason, message, count);
    },
    rejectedMessage: (reason, message) => {
      isRejected = true;
      handler.rejectedMessage(reason, message);
    },
  });
  const end = (handler: SampleHandler) => {
    if (decoder.isPaused) {
      counted.pauses++;
      return;
    }
    decoder.flush(handler);
    if (!isRejected) counted.decoded++;
    else if (counted.samples + counted.rejected !== before)
      throw new Error('part of a rejected message was kept');
  };
  const watched: Decoder = {
    steps: decoder.steps,
    needsSubject: decoder.needsSubject === true,
    get isPaused() {
      return decoder.isPaused;
    },
    take: (message, handler, label) => {
      before = counted.samples + counted.rejected;
      isRejected = false;
      decoder.take(message, watch(handler), label);
      end(watch(handler));
    },
    resume: (message, handler) => {
      decoder.resume(message, watch(handler));
      end(watch(handler));
    },
    flush: () => {},
  };
  const check = ({ value, weight }: Sample) => {
    if (weight !== 1) counted.sampled++;
    const isGood = Number.isFinite(value * weight) && !Object.is(value, -0) && weight >= 1;
    if (!isGood) throw new Error(`value ${value}, weight ${weight}`);
  };
  const options = {
    decoder: watched,
    nextTurn: async () => {},
    pace: PACE,
    maxMessageBytes: MAX_MESSAGE_BYTES,
    aggregator,
    sequence: 0,
    onWindows() {},
  };
  return { format: metricsFormat, pipeline: new Pipeline(options), aggregator, counted };
}

const total = (counts: Iterable<number>) => [...counts].reduce((sum, count) => sum + count, 0);

test(
  `${MESSAGES} mutated messages of all formats: nothing throws, and everything is counted`,
  async () => {
    const next = random(2026);
    const rigs = FORMATS.map((format) => rig(format));
    const br = SEEDS.map((seed) => Buffer.from(seed as string));
    const packed = {
      br,
      gzip: SEEDS.map((seed) => gzipSync(seed)),
      zstd: SEEDS.map((seed) => zstdCompressSync(seed)),
    };
    for (let i = 0; i < MESSAGES; i++) {
      const { format, pipeline } = rigs[next(rigs.length)]!;
      const own = OF_FORMAT[format];
      const pick = next(4) > 0 ? own[next(own.length)]! : next(SEEDS.length);
      const encoding =
        next(100) < COMPRESSED_PERCENT ? (['gzip', 'zstd', 'br'] as const)[next(3)] : undefined;
      const seed = encoding === undefined ? Buffer.from(SEEDS[pick] as string) : packed[encoding][pick]!;
      const message = mutated(seed, TELLING, next);
      const increment = message.toString('latin1');
      pipeline.message(wholeMessage(message, START + i, i + 1), { subject: 'metrics', encoding, increment });
      if (i % EVERY_MESSAGES === 0) await pipeline.progress(START + i);
    }
    for (const { pipeline } of rigs) await pipeline.finish();
    const seen = new Set<string>();
    for (const { format, pipeline, aggregator, counted } of rigs) {
      const { rejectedMessages, rejectedSamples, received } = pipeline.stats;
      for (const reason of [...rejectedMessages.keys(), ...rejectedSamples.keys()]) seen.add(reason);
      expect(total(rejectedMessages.values()) + counted.decoded).toBe(received);
      expect(total(rejectedSamples.values())).toBe(counted.rejected);
      expect(counted.samples).toBeGreaterThan(received / 40);
      // A number is one step.
      if (format !== 'number' && format !== 'counter') expect(counted.pauses).toBeGreaterThan(received / 10);
      const { counter, gauge, timer, ignored, reopened } = aggregator.stats;
      expect(counter + gauge + timer).toBe(counted.samples);
      expect(ignored + reopened).toBe(0);
      const inWindows = aggregator
        .closeAll()
        .flatMap((window) => Array.from({ length: window.size }, (_, p) => window.point(p).count));
      expect(total(inWindows)).toBeGreaterThan(0);
    }
    expect(total(rigs.map(({ pipeline }) => pipeline.stats.received))).toBe(MESSAGES);
    expect(total(rigs.map(({ counted }) => counted.sampled))).toBeGreaterThan(0);
    const never = REJECTIONS.filter((reason) => !seen.has(reason) && !BEYOND.includes(reason));
    expect(never).toEqual([]);
  },
  MAX_SECONDS * 1000,
);
