/**
 * What is peculiar about VictoriaMetrics, on a real one if there is one: Debian has only an old version, so `npm test`
 * uses what is on the PATH.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import prometheus from '../../sinks/prometheus/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { trySink } from '../../src/commands/check-sink.ts';
import { freePort, type Server, startProcess, temporaryFolder } from '../../src/servers/server-process.ts';
import type { Sink, WindowRange } from '../../src/sink/contract.ts';
import { EVERYTHING, makePoint, readAll, START, WINDOW_MS } from '../conformance/points.ts';
import { describeConformance } from '../conformance.ts';
import { judged } from '../verify/judged.ts';
import { isOnPath, sinkSettings } from './stand-in.ts';

const PROGRAM = 'victoria-metrics';
/** Fractions keep about 12 digits, and what is closer to zero becomes zero. */
const TOLERANCE = 1e-11;
const LEAST = 1e-307;
const MAX_LABELS = 40;
const MAX_LABEL_BYTES = 4_096;
/** The metric of a field has the name of the point, `_`, and that of the field. */
const MAX_NAME_BYTES = MAX_LABEL_BYTES - 6;
/** The name of the metric, the name, the type, and the label of the test. */
const OWN_LABELS = 4;
const NEVER = new AbortController().signal;
const isThere = isOnPath(PROGRAM);

async function start(flags: readonly string[]): Promise<Server> {
  const folder = temporaryFolder(PROGRAM);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = [
    `-storageDataPath=${folder.path}`,
    `-httpListenAddr=127.0.0.1:${port}`,
    '-retentionPeriod=100y',
  ];
  const ready = async () => (await fetch(`${url}/health`)).ok;
  const server = await startProcess(PROGRAM, [...args, ...flags], ready);
  const stop = async () => {
    await server.stop();
    folder.remove();
  };
  return { url, port, stop };
}

/** Its limits, with the names of the metrics: see the test of them below. */
function isWithinLimits({ series, instance }: Point): boolean {
  const labels = series.dimensions.length + OWN_LABELS + (instance === '' ? 0 : 1);
  return (
    labels <= MAX_LABELS &&
    series.dimensions.every(([, value]) => Buffer.byteLength(value) <= MAX_LABEL_BYTES) &&
    Buffer.byteLength(series.name) <= MAX_NAME_BYTES
  );
}

const title = isThere ? 'VictoriaMetrics' : `VictoriaMetrics (skipped: no ${PROGRAM} on the PATH)`;

describe.skipIf(!isThere)(title, () => {
  let server: Server;
  describeConformance('prometheus', {
    async start() {
      server = await start(['-dedup.minScrapeInterval=1ms']);
      return server.port;
    },
    async stop() {
      await server?.stop();
    },
    async visible() {
      await fetch(`${server.url}/internal/force_flush`);
    },
    variables: (namespace, port) => ({
      URL: `http://127.0.0.1:${port}/api/v1/write`,
      HEADERS: 'authorization=Bearer s3cret',
      LABELS: `job=${namespace}`,
    }),
    secrets: ['s3cret'],
    differs: {
      // Of two values it keeps the larger one.
      keepsFirst: true,
      forgetsNothing: true,
      answersNothing: true,
      isSame: (stored, written) =>
        Math.abs(stored - written) <= Math.max(LEAST, Math.abs(written) * TOLERANCE),
      refuses: (point) => (isWithinLimits(point) ? undefined : 'too_large'),
    },
  });
});

describe.skipIf(!isThere)(`what is peculiar: ${title}`, () => {
  const sinks: Sink[] = [];
  let keeping: Server;
  let merging: Server;
  beforeAll(async () => {
    keeping = await start([]);
    merging = await start(['-dedup.minScrapeInterval=1ms']);
  });
  afterAll(async () => {
    for (const sink of sinks) await sink.close();
    await keeping?.stop();
    await merging?.stop();
  });

  async function opened({ url }: Server, job: string): Promise<Sink> {
    const config = sinkSettings(prometheus, { URL: `${url}/api/v1/write`, LABELS: `job=${job}` });
    const sink = prometheus.create(config as never, { id: 't', log: { info() {}, warn() {} } });
    sinks.push(sink);
    await sink.open(NEVER);
    return sink;
  }

  async function written(server: Server, sink: Sink, points: readonly Point[]): Promise<void> {
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    // It shows a sample a second or two after it has acknowledged it.
    await fetch(`${server.url}/internal/force_flush`);
  }

  const windows = (sum: number) =>
    [0, 1, 2].map((number) =>
      makePoint({ type: 'timer', windowStart: START + number * WINDOW_MS, values: { sum } }),
    );

  it('that keeps a batch twice is different', async () => {
    const sink = await opened(keeping, 'twice');
    const points = windows(1);
    await written(keeping, sink, points);
    await written(keeping, sink, points.slice(0, 2));
    const stored = await readAll(sink, EVERYTHING, NEVER);
    expect(await judged(stored, points)).toEqual({
      equal: 3,
      missing: 0,
      extra: 2,
      different: 0,
      sameDigest: false,
    });
  });

  it('that merges what comes twice is equal, but keeps the larger value', async () => {
    const sink = await opened(merging, 'merged');
    const points = windows(2);
    await written(merging, sink, points);
    await written(merging, sink, points);
    const merged = await judged(await readAll(sink, EVERYTHING, NEVER), points);
    expect(merged).toMatchObject({ equal: 3, extra: 0, sameDigest: true });
    await written(merging, sink, windows(1));
    expect((await readAll(sink, EVERYTHING, NEVER)).map(({ sum }) => sum)).toEqual([2, 2, 2]);
    await written(merging, sink, windows(3));
    expect((await readAll(sink, EVERYTHING, NEVER)).map(({ sum }) => sum)).toEqual([3, 3, 3]);
  });

  it('holds what is within its limits of labels, and what exceeds them is rejected', async () => {
    const sink = await opened(merging, 'labels');
    const dimensions = (count: number) =>
      Array.from({ length: count }, (_, index) => [`k${index}`, 'v'] as [string, string]);
    const fit = [
      makePoint({ name: 'labels', dimensions: dimensions(36) }),
      makePoint({ name: 'value', dimensions: [['k', 'é'.repeat(2048)]] }),
      makePoint({ name: 'key', dimensions: [['k'.repeat(256), 'v']] }),
      makePoint({ name: 'n'.repeat(4090), dimensions: [] }),
    ];
    const unfit = [
      makePoint({ name: 'labels', dimensions: dimensions(37) }),
      makePoint({ name: 'value', dimensions: [['k', `${'é'.repeat(2048)}x`]] }),
      makePoint({ name: 'key', dimensions: [['k'.repeat(257), 'v']] }),
      makePoint({ name: 'n'.repeat(4091), dimensions: [] }),
    ];
    const outcome = await sink.write({ points: [...fit, ...unfit] }, NEVER);
    await fetch(`${merging.url}/internal/force_flush`);
    const reason = 'too_large';
    expect(outcome).toMatchObject({ retry: [], rejected: [4, 5, 6, 7].map((index) => ({ index, reason })) });
    expect(await judged(await readAll(sink, EVERYTHING, NEVER), fit)).toMatchObject({ equal: 4, extra: 0 });
  });

  it.each([
    ['has advice if it keeps twice what comes twice', () => keeping, /read back 2 times/, /-dedup/],
    ['has none if it merges that', () => merging, /read back, not removed/, /^$/],
  ])('%s', async (_, server, detail, advice) => {
    const sink = await opened(server(), 'check');
    const tried = {
      open: (signal: AbortSignal) => sink.open(signal),
      writePoints: (points: readonly Point[], signal: AbortSignal) => sink.write({ points }, signal),
      async *read(range: WindowRange, signal: AbortSignal) {
        yield* sink.read(range, signal);
      },
      async *lookUp() {
        yield* [];
      },
      async remove() {},
    };
    const options = { reads: 'ranges', removes: false, windowMs: WINDOW_MS, timeoutMs: 60_000 } as const;
    const trial = await trySink(tried, options);
    expect(trial.detail).toMatch(detail);
    expect(trial.advice).toMatch(advice);
  });

  it('shows a window of this moment', async () => {
    const sink = await opened(merging, 'now');
    const now = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
    await written(merging, sink, [makePoint({ windowStart: now })]);
    const range = { from: now, to: now + WINDOW_MS };
    expect((await readAll(sink, range, NEVER)).map(({ windowStart }) => windowStart)).toEqual([now]);
  });
});
