/** Writes the same samples in each format. */
import type { MetricType } from '../../src/aggregate/point.ts';
import { protobuf, request, text } from './otlp-messages.ts';

export interface Sent {
  /** In line protocol, the part after the last dot is the field. */
  readonly name: string;
  readonly type: MetricType;
  readonly value: number;
  readonly dimensions: Readonly<Record<string, string>>;
  /** Event time, since 1970. Undefined: none is given. */
  readonly seconds: number | undefined;
}

const STATSD_TYPES = { counter: 'c', gauge: 'g', timer: 'ms' } as const;

export const WRITERS = {
  json: (samples: readonly Sent[]): string => {
    const objects = samples.map(({ seconds, ...fields }) =>
      seconds === undefined ? fields : { ...fields, timestamp: new Date(seconds * 1000).toISOString() },
    );
    return JSON.stringify(objects.length === 1 ? objects[0] : objects);
  },
  jsonLines: (samples: readonly Sent[]): string => lines(samples, (sample) => WRITERS.json([sample])),
  /** Counters only if the settings list their names; no timers. */
  influx: (samples: readonly Sent[]): string => lines(samples, influxLine),
  statsd: (samples: readonly Sent[]): string => lines(samples, statsdLine),
  otlp: (samples: readonly Sent[]): Uint8Array => protobuf(otlpRequest(samples)),
  otlpJson: (samples: readonly Sent[]): string => JSON.stringify(otlpRequest(samples)),
} as const;

/** A metric for each sample. A timer is a histogram of one value. */
function otlpRequest(samples: readonly Sent[]): object {
  const metrics = samples.map(({ name, type, value, dimensions, seconds }) => {
    const point = {
      ...(seconds === undefined ? {} : { timeUnixNano: `${seconds}000000000` }),
      attributes: Object.entries(dimensions).map(([key, of]) => text(key, of)),
    };
    const number = { ...point, asDouble: value };
    if (type === 'gauge') return { name, gauge: { dataPoints: [number] } };
    if (type === 'counter') return { name, sum: { aggregationTemporality: 1, dataPoints: [number] } };
    const histogram = {
      ...point,
      count: 1,
      sum: value,
      min: value,
      max: value,
      bucketCounts: [1],
      explicitBounds: [],
    };
    return { name, histogram: { aggregationTemporality: 1, dataPoints: [histogram] } };
  });
  return request(metrics, []);
}

function lines(samples: readonly Sent[], write: (sample: Sent) => string): string {
  return samples.map((sample) => `${write(sample)}\n`).join('');
}

function influxLine({ name, value, dimensions, seconds }: Sent): string {
  const escaped = (text: string) => text.replace(/[,= ]/g, '\\$&');
  const dot = name.lastIndexOf('.');
  const [measurement, field] = dot < 0 ? [name, 'value'] : [name.slice(0, dot), name.slice(dot + 1)];
  const tags = Object.entries(dimensions).map(([key, of]) => `,${escaped(key)}=${escaped(of)}`);
  const time = seconds === undefined ? '' : ` ${seconds}000000000`;
  return `${escaped(measurement)}${tags.join('')} ${escaped(field)}=${value}${time}`;
}

function statsdLine({ name, type, value, dimensions, seconds }: Sent): string {
  const tags = Object.entries(dimensions).map(([key, of]) => `${key}:${of}`);
  const time = seconds === undefined ? '' : `|T${seconds}`;
  return `${name}:${value}|${STATSD_TYPES[type]}${tags.length === 0 ? '' : `|#${tags}`}${time}`;
}
