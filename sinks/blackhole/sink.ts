/**
 * The template for a sink: takes every batch and keeps nothing. Copy the folder to begin a new sink. It also shows what
 * the service costs without a store.
 */
import { setTimeout } from 'node:timers/promises';
import {
  type Batch,
  defineSink,
  type Sink,
  type StoredPoint,
  setting,
  type WriteOutcome,
} from '../../src/sink/index.ts';

const settings = {
  delay: setting.duration({ meaning: 'how long each write takes', default: '0ms' }),
};

export default defineSink({
  kind: 'blackhole',
  summary: 'takes everything and keeps nothing: a template, and a measure of the cost without a store',
  settings,
  readBack: 'none',
  limits: { maxPoints: 10_000, maxBytes: 16_000_000, inFlight: 1 },
  trial: { settings: (config) => config, byHand: () => 'nothing is left' },
  sharesThread: true,
  create: (config): Sink => ({
    async open() {},
    async write(_batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
      if (config.delay > 0) await setTimeout(config.delay, undefined, { signal });
      return { kind: 'written' };
    },
    async *read(): AsyncGenerator<StoredPoint> {},
    async remove() {},
    async drop() {},
    async trials() {
      return [];
    },
    async close() {},
  }),
});
