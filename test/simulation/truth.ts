/** What every store must hold: the oracle's answer for the whole stream. */
import type { Point } from '../../src/aggregate/point.ts';
import {
  expectedOwnWindows,
  expectedWindows,
  type OracleMessage,
  type OracleSettings,
} from '../aggregate/oracle.ts';

export function keyOf({ windowStart, series, instance }: Point): string {
  return `${windowStart} ${series.id} ${instance}`;
}

export class Truth {
  readonly byKey = new Map<string, Point>();
  /** In ascending order of their start. */
  readonly windows: readonly (readonly [start: number, points: readonly Point[]])[];
  /** In bytes as a lane's backlog counts them. */
  readonly largestWindowBytes: number;

  /** `ownMs`: how long the windows of the sink are, if it has windows of its own. */
  constructor(messages: readonly OracleMessage[], settings: OracleSettings, ownMs?: number) {
    const windows =
      ownMs === undefined
        ? expectedWindows(messages, settings)
        : expectedOwnWindows(messages, settings, ownMs);
    this.windows = [...windows];
    for (const [, points] of this.windows) for (const point of points) this.byKey.set(keyOf(point), point);
    this.largestWindowBytes = Math.max(0, ...this.windows.map(([, points]) => backlogBytes(points)));
  }

  /** The windows that start in [from, to), of the slice `index` of `of`. */
  *between(from: number, to: number, slice: string): Generator<readonly [number, readonly Point[]]> {
    const [index, of] = slice.split('/').map(Number);
    for (const window of this.windows) {
      const [start, [point]] = window;
      if (start < from || start >= to) continue;
      if ((start / point!.windowMs) % of! === index) yield window;
    }
  }
}

/** The memory that a point is assumed to take besides the text of its series. */
const POINT_MEMORY_BYTES = 120;

function backlogBytes(points: readonly Point[]): number {
  const bytes = ({ series }: Point) => POINT_MEMORY_BYTES + series.name.length + series.dimensionsJson.length;
  return points.reduce((sum, point) => sum + bytes(point), 0);
}

const VALUES = [
  'count',
  'sum',
  'min',
  'max',
  'last',
  'p50',
  'p90',
  'p95',
  'p99',
  'windowMs',
  'instance',
] as const;

/** Describes a difference between the two, down to the last bit; undefined if there is none. */
export function difference(actual: Point, expected: Point): string | undefined {
  for (const key of VALUES) {
    if (!Object.is(actual[key], expected[key])) return `${key} is ${actual[key]}, not ${expected[key]}`;
  }
  for (const key of ['name', 'type', 'dimensionsJson'] as const) {
    if (actual.series[key] !== expected.series[key]) return `${key} is ${actual.series[key]}`;
  }
  return undefined;
}

export function nameOf({ series }: Point): string {
  return `${series.type} ${series.name}${series.dimensionsJson}`;
}
