/** Long messages are read in several turns: none blocks the thread, and the results are the same. */
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { openPipeline, Pipeline, type PipelineOptions } from '../../src/deliver/pipeline.ts';
import { pointsOf } from '../aggregate/stream.ts';
import { SETTINGS } from '../decode/formats.ts';
import { effort } from '../effort.ts';

const AT_ONCE = { stepsPerTurn: Number.POSITIVE_INFINITY, maxWaitingBytes: 0 };
const ELEMENTS = 20_000;
const START = 1_700_000_000_000;

interface Sent {
  readonly text: string;
  readonly encoding?: string | undefined;
  /** Milliseconds after START. */
  readonly at: number;
  /** The source reports its progress after this message. */
  readonly isLast?: boolean;
}

const PACKERS = {
  gzip: (text: string) => gzipSync(text),
  zstd: (text: string) => zstdCompressSync(text),
  identity: (text: string) => Buffer.from(text),
};

function rig(options: Partial<PipelineOptions> = {}) {
  const table = new SeriesTable(1000);
  const tiling = Tiling.of({ windowMs: 1000, latenessMs: 200, maxAheadMs: 100, maxSeries: 20 });
  const aggregator = new Aggregator(table, { tiling, from: Number.NEGATIVE_INFINITY });
  const told: unknown[] = [];
  const pipeline = new Pipeline({
    decoder: makeDecoder(table, SETTINGS),
    nextTurn: systemClock.nextTurn,
    aggregator,
    sequence: 0,
    onWindows: (windows, boundary, sequence) => {
      told.push(['windows', windows.map(pointsOf), boundary, sequence]);
    },
    onReopened: (starts, sequence) => told.push(['reopened', starts, sequence]),
    onRejected: (reason, message, count) => told.push([reason, Buffer.from(message).toString(), count]),
    ...options,
  });
  let sequence = 0;
  /** As from a socket: the bytes are in the middle of a chunk, which is overwritten after the call. */
  const send = ({ text, encoding, at }: Sent) => {
    const bytes = encoding === undefined ? Buffer.from(text) : PACKERS[encoding as 'gzip'](text);
    const chunk = Buffer.concat([Buffer.from('[1,'), bytes, Buffer.from(']')]);
    sequence += 1;
    const place = { bytes: chunk, start: 3, end: 3 + bytes.length };
    pipeline.message({ ...place, streamTime: START + at, sequence }, { subject: 'metrics', encoding });
    pipeline.flush();
    chunk.fill('x');
  };
  const samples = () => {
    const { counter, gauge, timer } = aggregator.stats;
    return counter + gauge + timer;
  };
  return { pipeline, aggregator, told, send, samples };
}

const element = (name: string) => `{"name":"${name}","type":"counter","value":1}`;
const array = (elements: readonly string[]) => `[${elements.join(',')}]`;

/** Messages of all formats, valid and invalid, with known and new series. */
const texts = fc.oneof(
  fc
    .array(fc.constantFrom(element('a'), element('b'), '{"name":"a"}', '7', '{}', element('\\u0061')), {
      maxLength: 12,
    })
    .map(array),
  fc
    .array(fc.constantFrom(element('a'), element('b'), '{"name":"a"}', '7', '', '{', '{"x":[{'), {
      maxLength: 12,
    })
    .map((lines) => [element('l'), ...lines].join('\n')),
  fc.constantFrom(
    element('a'),
    '{"name":',
    `[${element('c')},]`,
    '',
    `{"x":1,"name":"g","type":"gauge","value":2,"timestamp":"2023-11-14T22:13:19.5Z"}`,
  ),
  fc
    .array(fc.constantFrom('x=1', 'y=2i', 's="a"', 't=true', 'v=', 'z=1e9'), { minLength: 1, maxLength: 8 })
    .map((fields) => `m,k=v ${fields.join(',')}\nm\nn,l=w ${fields.join(',')}`),
  fc
    .array(fc.constantFrom('1', '-2', 'x', '3.5'), { minLength: 1, maxLength: 8 })
    .map(
      (values) =>
        `t:${values.join(':')}|ms|#k:v\n\nu:${values.join(':')}|g\nnothing\nd:${values.join(':')}|c|#`,
    ),
  fc.constantFrom('d:1:2:3|c|#a,a', `d:1:2:3|c|#${'k'.repeat(5000)}:v`),
);
const streams = fc.array(
  fc.record({
    text: texts,
    encoding: fc.constantFrom(undefined, undefined, 'gzip', 'zstd', 'identity'),
    // Negative too, as if the server's clock were set back: windows are reopened.
    step: fc.integer({ min: -1500, max: 900 }),
    isLast: fc.boolean(),
  }),
  { maxLength: 40 },
);

describe('with and without pauses', () => {
  test('the same messages make the same windows, counts and reports', async () => {
    await fc.assert(
      fc.asyncProperty(
        streams,
        fc.constantFrom(1, 7, 100),
        fc.constantFrom(0, 400, 1e6),
        async (drawn, stepsPerTurn, maxWaitingBytes) => {
          const inTurns = rig({ pace: { stepsPerTurn, maxWaitingBytes } });
          const atOnce = rig({ pace: AT_ONCE });
          for (const { pipeline, send } of [inTurns, atOnce]) {
            // When a window is handed out within a batch depends on when samples are handed over: pipeline.test.ts.
            pipeline.completeAfter(Number.POSITIVE_INFINITY);
            let at = 0;
            let most = 0;
            let held: Promise<void> | undefined;
            for (const { step, isLast, ...message } of drawn) {
              at += step;
              most = Math.max(most, at);
              send({ ...message, at });
              // While the reader asks the source to wait, messages in flight still arrive, but no call of progress.
              if (isLast) {
                await held;
                held = pipeline.progress(START + most) ?? undefined;
              }
            }
            await held;
            await pipeline.progress(START + most + 10_000);
          }
          expect(inTurns.told).toEqual(atOnce.told);
          expect(inTurns.pipeline.stats).toEqual(atOnce.pipeline.stats);
          expect(inTurns.aggregator.stats).toEqual(atOnce.aggregator.stats);
          expect(inTurns.pipeline.reportedThrough).toBe(atOnce.pipeline.reportedThrough);
          expect([inTurns.pipeline.waiting, inTurns.pipeline.waitingBytes]).toEqual([0, 0]);
        },
      ),
      { numRuns: effort(300) },
    );
  });
});

test.each([
  ['elements of an array', array(Array(ELEMENTS).fill(element('a')))],
  ['rejected elements', array(Array(ELEMENTS).fill('{"name":"a"}'))],
  ['new series', array(Array.from({ length: ELEMENTS }, (_, i) => element(`n${i}`)))],
  ['lines', Array(ELEMENTS).fill('m x=1').join('\n')],
  ['fields of one line', `m ${Array.from({ length: ELEMENTS }, (_, i) => `f${i}=1`).join(',')}`],
  ['values of one line', `a:${Array(ELEMENTS).fill('1').join(':')}|c`],
  ['rejected values', `a:${Array(ELEMENTS).fill('x').join(':')}|c`],
])('20,000 %s: other work gets a turn in between, after a bounded number of steps', async (_, text) => {
  const STEPS = 1000;
  for (const encoding of [undefined, 'gzip']) {
    const { pipeline, send, samples } = rig({ pace: { stepsPerTurn: STEPS, maxWaitingBytes: 1e6 } });
    let turns = 0;
    let before = 0;
    let most = 0;
    let isOver = false;
    const turn = () => {
      turns += 1;
      most = Math.max(most, samples() - before);
      before = samples();
      if (!isOver) setImmediate(turn);
    };
    setImmediate(turn);
    send({ text, encoding, at: 0 });
    expect(samples()).toBeLessThanOrEqual(STEPS);
    await pipeline.finish();
    isOver = true;
    const rejected = [...pipeline.stats.rejectedSamples.values()].reduce((sum, count) => sum + count, 0);
    expect(samples() + rejected).toBe(ELEMENTS);
    expect(most).toBeLessThanOrEqual(STEPS);
    expect(turns).toBeGreaterThanOrEqual(ELEMENTS / STEPS);
  }
});

test('small messages that are expensive are paced like a long one', async () => {
  const { pipeline, send, samples } = rig({ pace: { stepsPerTurn: 1000, maxWaitingBytes: 1e6 } });
  for (let i = 0; i < 1000; i++) send({ text: element(`n${i}`), at: 0 });
  expect(samples()).toBeLessThan(20);
  await pipeline.finish();
  expect(samples()).toBe(1000);
});

test('series that are folded cost a turn as new ones do, even if their spellings are known', async () => {
  const names = (letter: string) => Array.from({ length: 100 }, (_, i) => element(`${letter}${i}`));
  const tiling = Tiling.of({ windowMs: 1000, latenessMs: 200, maxAheadMs: 100, maxSeries: 100 });
  const { pipeline, aggregator } = openPipeline(
    new SeriesTable(1000),
    { ...SETTINGS, slice: { index: 0, of: 1 }, pace: { stepsPerTurn: 5000, maxWaitingBytes: 1e6 } },
    { tiling, from: 0, instance: '', closedThrough: undefined },
    { nextTurn: systemClock.nextTurn, onWindows() {} },
  );
  const send = (text: string, at: number) =>
    pipeline.message(wholeMessage(Buffer.from(text), START + at, at));
  send(array(names('a')), 0);
  await pipeline.finish();
  send(array(names('b')), 1000);
  await pipeline.finish();
  expect(aggregator.stats.overflowed).toBe(0);
  send(array(names('a')), 1001);
  expect(aggregator.stats.overflowed).toBeLessThan(90);
  await pipeline.finish();
  expect(aggregator.stats.overflowed).toBe(100);
});

test('rejected elements are reported once for each reason', async () => {
  const { pipeline, told, send } = rig();
  send({ text: array(Array.from({ length: ELEMENTS }, (_, i) => (i % 2 ? '7' : '{}'))), at: 0 });
  await pipeline.finish();
  expect(told.map((each) => (each as unknown[])[0])).toEqual(['missing_name', 'not_an_object']);
  expect([...pipeline.stats.rejectedSamples]).toEqual([
    ['missing_name', ELEMENTS / 2],
    ['not_an_object', ELEMENTS / 2],
  ]);
});

test('with a bus that cannot be held back, the waiting bytes are bounded, and nothing is dropped', async () => {
  const maxWaitingBytes = 50_000;
  const { pipeline, told, send, samples } = rig({
    pace: { stepsPerTurn: 100, maxWaitingBytes },
    holdsBack: false,
  });
  let most = 0;
  for (let i = 0; i < 300; i++) {
    send({ text: array(Array(100).fill(element('a'))), encoding: i % 3 ? 'gzip' : undefined, at: i * 100 });
    expect(pipeline.progress(START + i * 100)).toBeUndefined();
    most = Math.max(most, pipeline.waitingBytes);
  }
  expect(most).toBeGreaterThan(maxWaitingBytes / 2);
  expect(most).toBeLessThanOrEqual(maxWaitingBytes);
  await pipeline.finish();
  expect(samples()).toBe(30_000);
  void pipeline.progress(START + 1e6);
  const counted = told.flatMap((each) => ((each as unknown[])[1] as { count: number }[][]).flat());
  expect(counted.reduce((sum, { count }) => sum + count, 0)).toBe(30_000);
});

test('no window is closed in the middle of a message, even if its shape becomes known just then', async () => {
  let know = () => {};
  const { pipeline, told, send } = rig({
    pace: { stepsPerTurn: 1000, maxWaitingBytes: 1e6 },
    untilShaped: () => new Promise((resolve) => (know = resolve)),
  });
  send({ text: element('a'), at: 0 });
  const held = pipeline.progress(START + 5000);
  send({ text: array(Array(ELEMENTS).fill(element('b'))), at: 5000 });
  expect(pipeline.waiting).toBe(1);
  know();
  await held;
  expect(pipeline.reportedThrough).toBe(2);
  expect(told).toEqual([['windows', [[expect.anything()]], expect.anything(), 2]]);
});

test.each([
  ['progress reported while they were being taken', 0],
  ['progress reported after messages that wait', 1],
])(
  'no window is closed in the middle of a message, even if the last windows are taken just then: %s',
  async (_, waiting) => {
    const taking = Promise.withResolvers<void>();
    const handed: unknown[] = [];
    const { pipeline, send } = rig({
      pace: { stepsPerTurn: 9000, maxWaitingBytes: 300_000 },
      holdsBack: false,
      onWindows: (windows, _, sequence) => {
        handed.push([windows.flatMap((window) => pointsOf(window).map(({ count }) => count)), sequence]);
        return handed.length === 1 ? taking.promise : undefined;
      },
    });
    send({ text: element('a'), at: 0 });
    void pipeline.progress(START + 5000);
    for (let i = 0; i < waiting; i++) send({ text: element('b'), at: 5000 });
    void pipeline.progress(START + 20_000);
    // More than may wait: the first of them is begun, but not finished.
    for (let i = 0; i < 2; i++) send({ text: array(Array(5000).fill(element('b'))), at: 5000 });
    expect(pipeline.waitingBytes).toBeGreaterThan(0);
    taking.resolve();
    await pipeline.finish();
    expect(handed).toEqual([
      [[1], 1],
      [[5000 + waiting], 2 + waiting],
    ]);
  },
);

test('after a release, messages that wait are not read', async () => {
  const { pipeline, told, send, samples } = rig({ pace: { stepsPerTurn: 10, maxWaitingBytes: 1e6 } });
  send({ text: array(Array(100).fill(element('a'))), at: 0 });
  send({ text: element('b'), at: 0 });
  const held = pipeline.progress(START + 5000);
  pipeline.release();
  await held;
  const before = samples();
  await systemClock.nextTurn();
  await systemClock.nextTurn();
  expect([samples(), told, pipeline.waiting]).toEqual([before, [], 2]);
});

test('after a release, nothing more reaches the aggregator, and every message is accounted for', () => {
  const { pipeline, samples } = rig();
  const text = Buffer.from(element('a'));
  const take = (sequence: number) => pipeline.message(wholeMessage(text, START, sequence));
  // The decoder keeps the first message for a batch.
  take(1);
  pipeline.release();
  expect(samples()).toBe(1);
  take(2);
  pipeline.flush();
  expect([samples(), pipeline.waiting, pipeline.stats.received]).toEqual([1, 1, 2]);
});

test('an error of a handler in a later turn reaches the source', async () => {
  const onRejected = () => {
    throw new Error('full');
  };
  const { pipeline, send } = rig({ pace: { stepsPerTurn: 10, maxWaitingBytes: 1e6 }, onRejected });
  send({ text: array(Array(100).fill('7')), at: 0 });
  await expect(pipeline.progress(START)).rejects.toThrow('full');
  expect(() => send({ text: element('b'), at: 0 })).toThrow('full');
});
