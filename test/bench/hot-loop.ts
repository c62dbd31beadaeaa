/** (e) A process that decodes and aggregates, without a bus: CPU time per message. */

import { Aggregator } from '../../src/aggregate/aggregator.ts';
import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import { systemClock } from '../../src/base/clock.ts';
import { FrameSubject } from '../../src/bus/frame-subject.ts';
import { type DecoderSettings, makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { Pipeline } from '../../src/deliver/pipeline.ts';
import { APPS, BenchMessages, type Mix } from './messages.ts';

/** As a socket delivers them: about this many bytes at a time, with those of the protocol in between. */
const CHUNK_BYTES = 65_536;
const MAX_MESSAGE_BYTES = 512;
const FRAME_BYTES = 90;
const NOW = 1_795_000_000_000;
const MAX_SERIES = 1_000_000;
/** The defaults. */
const PLAIN = { metricsFormat: 'auto', metricsCounters: undefined, maxMessageBytes: 1_048_576 } as const;
/** Every rule, such that there are as many series as without. */
const SHAPED = {
  ...PLAIN,
  metricsNames: ['http.*', '!http.debug.*'],
  metricsDropDimensions: ['*: pid, pod', 'db.*: *'],
  metricsKeepDimensions: ['http.*: app, host, route, status, tenant'],
  metricsRename: ['http.requests=http.calls, old.*=new.*', '*: status=code'],
  metricsSubjectDimensions: ['metrics.{tenant}.>'],
} as const;
const MIN_MESSAGES = 1_000_000;

export interface HotLoopResult {
  readonly nanosPerMessage: number;
  readonly bytesPerMessage: number;
}

interface Chunk {
  readonly bytes: Buffer;
  /** Start and end of each message. */
  readonly places: readonly number[];
  /** Start and end of the subject of each. */
  readonly subjects: readonly number[];
}

function render(series: number, mix: Mix, count: number): Chunk[] {
  const messages = new BenchMessages(series, mix);
  const chunks: Chunk[] = [];
  for (let written = 0; written < count; ) {
    const bytes = Buffer.alloc(CHUNK_BYTES);
    const places: number[] = [];
    const subjects: number[] = [];
    for (let at = 0; at + MAX_MESSAGE_BYTES < CHUNK_BYTES && written < count; written++) {
      const end = messages.write(bytes, at, NOW);
      places.push(at, end);
      const subject = bytes.write(`metrics.tenant-${messages.lastSeries % APPS}.http`, end, 'latin1');
      subjects.push(end, end + subject);
      at = end + FRAME_BYTES;
    }
    chunks.push({ bytes, places, subjects });
  }
  return chunks;
}

function pipelineOf(settings: DecoderSettings): Pipeline {
  const tiling = Tiling.of({
    windowMs: 10_000,
    latenessMs: 2000,
    maxAheadMs: 1000,
    maxSeries: MAX_SERIES,
    sketchScale: SKETCH_SCALE,
  });
  const table = new SeriesTable(MAX_SERIES);
  const aggregator = new Aggregator(table, { tiling, from: Number.NEGATIVE_INFINITY });
  const { nextTurn } = systemClock;
  return new Pipeline({
    decoder: makeDecoder(table, settings),
    nextTurn,
    aggregator,
    sequence: 0,
    onWindows() {},
  });
}

function pass(pipeline: Pipeline, chunks: readonly Chunk[]): number {
  let messages = 0;
  const subject = new FrameSubject();
  for (const { bytes, places, subjects } of chunks) {
    const message = wholeMessage(bytes, NOW, 1);
    for (let i = 0; i < places.length; i += 2) {
      message.start = places[i]!;
      message.end = places[i + 1]!;
      subject.isAt(bytes, subjects[i]!, subjects[i + 1]!);
      pipeline.message(message, subject);
    }
    messages += places.length / 2;
  }
  pipeline.flush();
  return messages;
}

const [, , series, mix, rules] = process.argv;
const chunks = render(Number(series), mix as Mix, Math.max(MIN_MESSAGES / 2, 2 * Number(series)));
const bytes = chunks.reduce((sum, { places }) => {
  for (let i = 0; i < places.length; i += 2) sum += places[i + 1]! - places[i]!;
  return sum;
}, 0);
const pipeline = pipelineOf(rules === 'every rule' ? SHAPED : PLAIN);
const inOnePass = pass(pipeline, chunks);
// New series are read in turns. From here on there are none.
await pipeline.finish();

process.on('message', () => {
  const before = process.cpuUsage();
  let messages = 0;
  while (messages < MIN_MESSAGES) messages += pass(pipeline, chunks);
  const { user, system } = process.cpuUsage(before);
  const result: HotLoopResult = {
    nanosPerMessage: ((user + system) * 1000) / messages,
    bytesPerMessage: bytes / inOnePass,
  };
  process.send!(result);
});
process.on('disconnect', () => process.exit());
process.send!('ready');
