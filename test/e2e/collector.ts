/** OpenTelemetry's own Collector, and the rows that come of what it received. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { programsNamed } from '../../src/servers/programs.ts';
import { freePort, startProcess, temporaryFolder } from '../../src/servers/server-process.ts';

/** Undefined if there is none. CONTRIBUTING.md says how to build one. */
export const COLLECTOR =
  process.env.FANOUT_OTELCOL ?? ['otelcol', 'otelcol-contrib'].flatMap(programsNamed)[0];

export interface Collector {
  /** Takes requests of OTLP over HTTP. */
  readonly url: string;
  /** Stops it, which makes it write all that it has, and returns the requests that it wrote, in order. */
  written(): Promise<readonly WrittenRequest[]>;
  remove(): Promise<void>;
}

type Attributes = readonly { readonly key: string; readonly value: object }[];

/** As the Collector's file exporter writes points. 64-bit integers are texts. */
interface WrittenPoint {
  readonly attributes?: Attributes;
  readonly timeUnixNano: string;
  readonly asInt?: string;
  readonly asDouble?: number;
  readonly count?: string;
  readonly sum?: number;
  readonly min?: number;
  readonly max?: number;
  readonly bucketCounts?: readonly string[];
  readonly explicitBounds?: readonly number[];
  readonly scale?: number;
  readonly zeroCount?: string;
  readonly positive?: WrittenBuckets;
  readonly negative?: WrittenBuckets;
}

interface WrittenBuckets {
  readonly offset?: number;
  readonly bucketCounts?: readonly string[];
}

interface WrittenData {
  readonly aggregationTemporality?: number;
  readonly dataPoints: readonly WrittenPoint[];
}

interface WrittenMetric {
  readonly name: string;
  readonly sum?: WrittenData;
  readonly gauge?: WrittenData;
  readonly histogram?: WrittenData;
  readonly exponentialHistogram?: WrittenData;
}

export interface WrittenRequest {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: Attributes };
    readonly scopeMetrics: readonly { readonly metrics: readonly WrittenMetric[] }[];
  }[];
}

/** A bucket of a histogram, as far as its values can be told. */
export interface Between {
  readonly low: number;
  readonly high: number;
}

export interface WrittenRow {
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
  /** Of a timer: for each measurement, in between what it was. */
  readonly measured: Between[];
}

const DELTA = 1;
const NANOS_PER_MS = 1_000_000n;

export async function startCollector(program: string): Promise<Collector> {
  const folder = temporaryFolder('otelcol');
  const file = join(folder.path, 'metrics.jsonl');
  const address = `127.0.0.1:${await freePort()}`;
  const config = {
    receivers: { otlp: { protocols: { http: { endpoint: address } } } },
    exporters: { file: { path: file } },
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: { metrics: { receivers: ['otlp'], exporters: ['file'] } },
    },
  };
  const url = `http://${address}/v1/metrics`;
  const ready = async () => (await fetch(url)).status > 0;
  const server = await startProcess(program, ['--config', `yaml:${JSON.stringify(config)}`], ready);
  return {
    url,
    async written() {
      await server.stop();
      const lines = readFileSync(file, 'utf8').trim().split('\n');
      return lines.map((line): WrittenRequest => JSON.parse(line));
    },
    async remove() {
      await server.stop('SIGKILL');
      folder.remove();
    },
  };
}

/**
 * What docs/input-formats.md says of OTLP, taken literally. The key of a row is its window, type, name and dimensions,
 * sorted.
 */
export function rowsOfWritten(
  requests: readonly WrittenRequest[],
  windowMs: number,
): Map<string, WrittenRow> {
  const rows = new Map<string, WrittenRow>();
  for (const { resourceMetrics } of requests)
    for (const { resource, scopeMetrics } of resourceMetrics) {
      const service = resource.attributes.filter(({ key }) => key === 'service.name');
      for (const metric of scopeMetrics.flatMap(({ metrics }) => metrics))
        for (const point of dataOf(metric).dataPoints) {
          const start = Math.floor(Number(BigInt(point.timeUnixNano) / NANOS_PER_MS) / windowMs) * windowMs;
          const dimensions = dimensionsOf([...service, ...(point.attributes ?? [])]);
          for (const { type, name, values, ...timer } of samplesOf(metric, point))
            addTo(rows, JSON.stringify([start, type, name, dimensions]), values, timer);
        }
    }
  return rows;
}

const dataOf = ({ sum, gauge, histogram, exponentialHistogram }: WrittenMetric): WrittenData =>
  sum ?? gauge ?? histogram ?? exponentialHistogram ?? { dataPoints: [] };

function samplesOf(metric: WrittenMetric, point: WrittenPoint) {
  const { name, gauge, sum } = metric;
  const isDelta = dataOf(metric).aggregationTemporality === DELTA;
  if (gauge !== undefined || sum !== undefined) {
    const value = point.asDouble ?? Number(point.asInt);
    return [{ type: sum !== undefined && isDelta ? 'counter' : 'gauge', name, values: [value] }];
  }
  if (isDelta) return [{ type: 'timer', name, values: [], timer: point }];
  return [
    { type: 'gauge', name: `${name}.count`, values: [Number(point.count)] },
    { type: 'gauge', name: `${name}.sum`, values: [point.sum ?? 0] },
  ];
}

function addTo(
  rows: Map<string, WrittenRow>,
  key: string,
  values: readonly number[],
  { timer }: { readonly timer?: WrittenPoint },
): void {
  const row = rows.get(key) ?? {
    ...{ count: 0, sum: 0, min: Infinity, max: -Infinity, last: Number.NaN },
    measured: [],
  };
  rows.set(key, row);
  const add = (count: number, sum: number, [min, max]: readonly [number, number]) => {
    row.count += count;
    row.sum += sum;
    row.min = Math.min(row.min, min);
    row.max = Math.max(row.max, max);
  };
  // The times of a series never go back here.
  for (const value of values) {
    add(1, value, [value, value]);
    row.last = value;
  }
  if (timer === undefined) return;
  add(Number(timer.count), timer.sum ?? 0, [timer.min ?? Infinity, timer.max ?? -Infinity]);
  row.measured.push(...measuredIn(timer));
}

function measuredIn(point: WrittenPoint): Between[] {
  const { explicitBounds, bucketCounts, min = -Infinity, max = Infinity } = point;
  const found: Between[] = [];
  const add = (count: string | undefined, low: number, high: number) => {
    const [most, least] = [Math.min(high, max), Math.max(low, min)];
    for (let i = 0; i < Number(count ?? 0); i++) found.push({ low: least, high: most });
  };
  if (explicitBounds !== undefined)
    for (const [i, count] of bucketCounts!.entries())
      add(count, explicitBounds[i - 1] ?? -Infinity, explicitBounds[i] ?? Infinity);
  const base = 2 ** (2 ** -(point.scale ?? 0));
  for (const [sign, buckets] of [
    [1, point.positive],
    [-1, point.negative],
  ] as const)
    for (const [i, count] of (buckets?.bucketCounts ?? []).entries()) {
      const index = (buckets?.offset ?? 0) + i;
      const ends = [sign * base ** index, sign * base ** (index + 1)];
      add(count, Math.min(...ends), Math.max(...ends));
    }
  add(point.zeroCount, 0, 0);
  return found;
}

function dimensionsOf(attributes: Attributes): [key: string, value: string][] {
  const all = new Map<string, string>();
  for (const { key, value } of attributes) {
    const plain = plainOf(value);
    const text = typeof plain === 'object' ? JSON.stringify(plain) : String(plain);
    if (text === '') all.delete(key);
    else all.set(key, text);
  }
  return [...all].sort(([a], [b]) => (a < b ? -1 : 1));
}

function plainOf(value: object): unknown {
  const [[kind, given] = ['', '']] = Object.entries(value);
  switch (kind) {
    case 'arrayValue':
      return ((given as { readonly values?: readonly object[] }).values ?? []).map(plainOf);
    case 'intValue':
      return Number(given);
    default:
      return given;
  }
}
