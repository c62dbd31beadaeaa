/** Every store that this machine can run: rows a second, and our CPU per point, as ratios to SQLite, in turns. */
import type { Point } from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import { loadConfig } from '../../src/config/config.ts';
import type { SinkConfig } from '../../src/config/sink-config.ts';
import { limitsOf, type Sink } from '../../src/sink/contract.ts';
import { createSink } from '../../src/sink/masked-sink.ts';
import { startServers } from '../soak/stores.ts';
import { type Figure, figure } from './measure.ts';

const SERIES = 2_000;
const WINDOWS = 10;
const WINDOW_MS = 10_000;
/** DynamoDB's emulator takes a hundredth of what the others take. */
const SLOW = { windows: 1, ids: ['dynamodb'] } as const;
const BASE = 'sqlite';
const NEVER = new AbortController().signal;
const SILENT = { info() {}, warn() {} };

interface Cost {
  readonly pointsPerSecond: number;
  readonly nanosPerPoint: number;
}

/** `measureSinks` rejects if a sink does not take everything. */
export async function measureSinks(rounds: number, tell: (line: string) => void): Promise<Figure[]> {
  const stores = await startServers();
  try {
    for (const [name, value] of Object.entries(stores.env))
      if (name.startsWith('AWS_')) process.env[name] = value;
    const { sinks } = await loadConfig(stores.env);
    const costs = new Map(sinks.map(({ id }) => [id, [] as Cost[]]));
    const start = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS - (rounds + 2) * WINDOWS * WINDOW_MS;
    // The first round is not counted: tables are made, and connections opened.
    for (let round = 0; round <= rounds; round++) {
      for (const sink of sinks) {
        const cost = await write(sink, start + round * WINDOWS * WINDOW_MS);
        if (round > 0) costs.get(sink.id)!.push(cost);
      }
    }
    const base = costs.get(BASE)!;
    return [...costs].flatMap(([id, each]) => {
      tell(`${id}: ${each.map(({ pointsPerSecond }) => pointsPerSecond.toFixed(0)).join(' ')} points/s`);
      const ratios = (of: (cost: Cost) => number) => each.map((cost, i) => of(cost) / of(base[i]!));
      return [
        figure(
          '',
          `${id}: rows a second, of those of ${BASE}`,
          'times',
          ratios((cost) => cost.pointsPerSecond),
        ),
        figure(
          '',
          `${id}: our CPU per point, of that of ${BASE}`,
          'times',
          ratios((cost) => cost.nanosPerPoint),
        ),
      ];
    });
  } finally {
    await stores.stop();
  }
}

/** Writes the windows from `start` on, as many batches at once as the sink takes. */
async function write(config: SinkConfig, start: number): Promise<Cost> {
  const { id, module, values } = config;
  const sink = createSink({ id, module, values }, SILENT, process.env);
  const limits = limitsOf(module, values);
  await sink.open(NEVER);
  const windows = (SLOW.ids as readonly string[]).includes(id) ? SLOW.windows : WINDOWS;
  const batches: Point[][] = [];
  for (let window = 0; window < windows; window++) {
    const points = pointsOf(start + window * WINDOW_MS);
    for (let i = 0; i < points.length; i += limits.maxPoints)
      batches.push(points.slice(i, i + limits.maxPoints));
  }
  const began = performance.now();
  const before = process.cpuUsage();
  const drain = async () => {
    for (let batch = batches.shift(); batch !== undefined; batch = batches.shift())
      await deliver(sink, batch);
  };
  await Promise.all(Array.from({ length: limits.inFlight }, drain));
  const { user, system } = process.cpuUsage(before);
  const seconds = (performance.now() - began) / 1000;
  await sink.close();
  const points = windows * SERIES;
  return { pointsPerSecond: points / seconds, nanosPerPoint: ((user + system) * 1000) / points };
}

async function deliver(sink: Sink, points: readonly Point[]): Promise<void> {
  for (let left = points; left.length > 0; ) {
    const outcome = await sink.write({ points: left }, NEVER);
    if (outcome.kind === 'written') return;
    if (outcome.kind === 'refused') throw new Error(outcome.message);
    if (outcome.kind === 'partial' && outcome.rejected.length > 0)
      throw new Error(outcome.rejected[0]!.message);
    if (outcome.kind === 'partial') left = outcome.retry.map((index) => left[index]!);
  }
}

const series = Array.from({ length: SERIES }, (_, i) =>
  makeSeries('http.requests', 'counter', [
    ['app', `app-${i % 20}`],
    ['host', `host-${i % 50}`],
    ['route', `/api/v1/resource/${i}`],
  ]),
);

function pointsOf(windowStart: number): Point[] {
  const none = { min: null, max: null, last: null, p50: null, p90: null, p95: null, p99: null };
  return series.map((each, i) => ({
    series: each,
    windowStart,
    windowMs: WINDOW_MS,
    instance: '',
    count: 10 + (i % 7),
    sum: 100.5 + i,
    ...none,
  }));
}
