/** The truth and the service's own code, computed from the same messages, must agree to the last bit. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';
import { MAX_TRAFFIC_MESSAGE_BYTES, Traffic } from '../../src/load/traffic.ts';
import { Truth, type TruthRow, type WindowSettings } from '../../src/verify/truth.ts';
import { decodeMessage } from '../decode/decoded.ts';
import { effort } from '../effort.ts';

const NOW = Date.UTC(2026, 10, 23, 1, 30);
const MAX_SERIES = 10_000;

interface Message {
  readonly payload: Uint8Array;
  readonly streamTime: number;
}

type Row = [number, string, string, number, number, number | null, number | null, number | null];

function fromTruth({ windowStart, series, count, sum, min, max, last }: TruthRow): Row {
  return [windowStart!, series.id, series.dimensionsJson, count, sum, min, max, last];
}

function tilingOf(settings: readonly WindowSettings[]): Tiling {
  return new Tiling(settings.map((each) => ({ from: -Infinity, ...each, maxSeries: MAX_SERIES })));
}

function byService(messages: readonly Message[], settings: readonly WindowSettings[]) {
  const table = new SeriesTable(MAX_SERIES);
  const aggregator = new Aggregator(table, { tiling: tilingOf(settings), from: -Infinity });
  const decoder = new JsonDecoder(table);
  let rejected = 0;
  for (const { payload, streamTime } of messages) {
    const handler = {
      sample: (sample: Parameters<Aggregator['add']>[0]) => aggregator.add(sample, streamTime),
      rejected: (_reason: InputRejection, _message: Uint8Array, count: number) => {
        rejected += count;
      },
    };
    if (decodeMessage(decoder, payload, handler) !== undefined) rejected++;
  }
  const rows: Row[] = [];
  for (const window of aggregator.closeAll()) {
    for (let i = 0; i < window.size; i++) {
      const { series, count, sum, min, max, last } = window.point(i);
      rows.push([window.start, series.id, series.dimensionsJson, count, sum, min, max, last]);
    }
  }
  rows.sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1));
  const { late, ahead, counter, gauge, timer } = aggregator.stats;
  return { rows, late, ahead, rejected, samples: { counter, gauge, timer } };
}

function byTruth(messages: readonly Message[], settings: readonly WindowSettings[]) {
  const truth = new Truth(...settings);
  for (const { payload, streamTime } of messages) truth.add(payload, streamTime);
  const { late, ahead, rejected, samples } = truth;
  return { rows: [...truth.rows()].map(fromTruth), late, ahead, rejected, samples };
}

it('truth and service agree on realistic traffic', () => {
  const windows = { windowMs: 1_000, latenessMs: 300, maxAheadMs: 200 };
  const types = { counter: 2, gauge: 1, timer: 1 };
  const traffic = new Traffic({ seed: 5, series: 300, skew: 1, types, late: 0.05, ahead: 0.05, windows });
  const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
  const messages = Array.from({ length: 20_000 }, (_, i) => {
    const end = traffic.write(target, 0, NOW + i);
    return { payload: Buffer.from(target.subarray(0, end)), streamTime: NOW + i + (i % 5) };
  });
  expect(byTruth(messages, [windows])).toEqual(byService(messages, [windows]));
});

const value = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.constantFrom(0, -0, 1e16, -1e16, 0.1),
);
const dimensionValue = fc.oneof(
  fc.constantFrom('', '1', 'true', 'ü<&>', '"\\\n'),
  fc.constantFrom(null, 1, true, false, 0.5, -0),
);
const sample = fc.record(
  {
    name: fc.constantFrom('n', 'm', 'http.requests', ''),
    type: fc.constantFrom('counter', 'gauge', 'timer', 'set'),
    value,
    dimensions: fc.dictionary(fc.constantFrom('a', 'b', 'ü', '10', '9'), dimensionValue, { maxKeys: 3 }),
    offset: fc.integer({ min: -400, max: 400 }),
    nanoseconds: fc.integer({ min: 0, max: 999_999 }),
    hasTimestamp: fc.boolean(),
  },
  { noNullPrototype: true },
);
const traffic = fc.array(
  fc.record({
    samples: fc.array(sample, { minLength: 1, maxLength: 3 }),
    step: fc.integer({ min: 0, max: 60 }),
  }),
  { maxLength: 60 },
);
const shape = fc.record({
  windowMs: fc.constantFrom(100, 70),
  latenessMs: fc.constantFrom(0, 30, 150),
  maxAheadMs: fc.constantFrom(0, 50),
});
/** A boundary of both windows. */
const COMMON_MS = 700;
const CHANGE = Math.ceil(NOW / COMMON_MS) * COMMON_MS;
const settings = fc
  .array(shape, { minLength: 1, maxLength: 3 })
  .map((shapes) =>
    shapes.map((each, i) => (i === 0 ? each : { ...each, from: CHANGE + (i - 1) * COMMON_MS })),
  );

it('truth and service agree on random messages and settings', () => {
  fc.assert(
    fc.property(traffic, settings, (sent, windows) => {
      let streamTime = NOW;
      const messages = sent.map(({ samples, step }) => {
        streamTime += step;
        const objects = samples.map(({ offset, nanoseconds, hasTimestamp, ...fields }) => {
          const iso = new Date(streamTime + offset).toISOString();
          const timestamp = iso.replace('Z', `${String(nanoseconds).padStart(6, '0')}Z`);
          return { ...fields, ...(hasTimestamp ? { timestamp } : {}) };
        });
        const payload = Buffer.from(JSON.stringify(objects.length === 1 ? objects[0] : objects));
        return { payload, streamTime };
      });
      expect(byTruth(messages, windows)).toEqual(byService(messages, windows));
    }),
    { numRuns: effort(300) },
  );
});
