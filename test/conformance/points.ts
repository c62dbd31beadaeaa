/** The points that the conformance suite writes, and how it compares them with what a store holds. */
import {
  ALL_FIELDS,
  FIELDS,
  type Field,
  type MetricType,
  type Point,
  type PointValues,
} from '../../src/aggregate/point.ts';
import { makeSeries } from '../../src/aggregate/series.ts';
import type { Sink, StoredPoint, WindowRange } from '../../src/sink/contract.ts';

export const WINDOW_MS = 10_000;
/** 2026-11-23T01:30:00Z: within an hour that some time zones have twice. */
export const START = 1_795_397_400_000;
export const EVERYTHING: WindowRange = { from: 0, to: START + 86_400_000 };

export interface PointParts {
  readonly name?: string;
  readonly type?: MetricType;
  readonly dimensions?: Iterable<readonly [key: string, value: string]>;
  readonly windowStart?: number;
  readonly instance?: string;
  /** Fields that the type does not carry stay null. */
  readonly values?: Partial<Record<Field, number>>;
}

export function makePoint(parts: PointParts = {}): Point {
  const type = parts.type ?? 'counter';
  const entries = ALL_FIELDS.map((field, index) => [
    field,
    FIELDS[type].includes(field) ? (parts.values?.[field] ?? index + 1) : null,
  ]);
  return {
    ...(Object.fromEntries(entries) as PointValues),
    series: makeSeries(parts.name ?? 'requests', type, parts.dimensions ?? [['app', 'api']]),
    windowStart: parts.windowStart ?? START,
    windowMs: WINDOW_MS,
    instance: parts.instance ?? '',
  };
}

/** `count` points, each with a series and values of its own. */
export function manyPoints(count: number, salt = 0): Point[] {
  const types = ['counter', 'gauge', 'timer'] as const;
  return Array.from({ length: count }, (_, index) =>
    makePoint({
      name: `http.${types[index % 3]}`,
      type: types[index % 3]!,
      dimensions: [
        ['app', `app-${index % 7}`],
        ['host', `host-${index}`],
      ],
      values: {
        count: index + 1 + salt,
        sum: (index + salt) / 7,
        min: -index - salt,
        max: index * 1e9 + salt,
      },
    }),
  );
}

/** Texts that are data everywhere and syntax somewhere. */
export const HOSTILE_TEXTS = [
  'two words',
  ' leading and trailing ',
  'a,b',
  'a=b',
  'a,b=c d',
  `double"quote`,
  `single'quote`,
  `''`,
  '""',
  'back`tick',
  'back\\slash',
  'trailing\\',
  'two trailing\\\\',
  'quote after backslash\\"',
  '\\',
  'line\nfeed',
  'trailing line feed\n',
  'carriage\r\nreturn',
  'tab\tstop',
  '\\n is not a line feed',
  '\u001f\u007f\u0085\u2028',
  'Zürich',
  'Zu\u0308rich',
  'ΑΒΓ 北京 عربى',
  '😀👩‍👩‍👧',
  '$1',
  '$$',
  '%s',
  '%41',
  '?',
  ':name',
  '@name',
  '--',
  '/* */',
  "');DROP TABLE points;--",
  '{"json":[1,2]}',
  '[1]',
  '#leading',
  '_leading',
  '__proto__',
  'constructor',
  'toString',
  'null',
  'undefined',
  'true',
  'NaN',
  '0',
  '-1',
  '1i',
  'time',
  '_time',
  'name',
  'type',
  'metric_type',
  'instance',
  'series_id',
  'dimensions',
  'count',
  'sum',
  'pk',
  'sk',
  '_field',
  '_measurement',
  '__name__',
  'select',
  'UPPER',
  'upper',
] as const;

/** Series that a careless encoding would merge into one. */
export const LOOKALIKES: readonly PointParts[] = [
  { dimensions: [] },
  { dimensions: [['a', '1,b=2']] },
  {
    dimensions: [
      ['a', '1'],
      ['b', '2'],
    ],
  },
  { dimensions: [['a,b', '1']] },
  { dimensions: [['a', 'b,1']] },
  { dimensions: [['metric_type', 'counter']] },
  { dimensions: [['metric_type', 'gauge']] },
  { dimensions: [['instance', 'a']] },
  { instance: 'a' },
  { instance: 'b' },
  { type: 'gauge' },
  { type: 'timer' },
  { name: 'requests,app=api', dimensions: [] },
  { name: 'requests#1' },
  { name: 'Requests' },
  { name: 'requests ' },
];

/** A point as a text to compare. Floats differ in it if and only if Object.is tells them apart. */
function describe(point: StoredPoint): string {
  const { series } = point;
  const numbers = ALL_FIELDS.map((field) => (Object.is(point[field], -0) ? '-0' : String(point[field])));
  const parts = [series.name, series.type, series.dimensions, series.dimensionsJson, series.id];
  return `${JSON.stringify(parts)} ${numbers.join(' ')}`;
}

function keyOf(point: StoredPoint): string {
  return `${point.windowStart} ${JSON.stringify(point.instance)} ${JSON.stringify([point.series.name, point.series.type, point.series.dimensions])}`;
}

const SHOWN_DIFFERENCES = 5;
const SHOWN_CHARACTERS = 400;

type IsSame = (stored: number, written: number) => boolean;

/** Returns the point with those numbers of `written` that are the same. */
function withSame(point: StoredPoint, written: StoredPoint, isSame: IsSame): StoredPoint {
  const values = ALL_FIELDS.map((field) => {
    const [own, other] = [point[field], written[field]];
    return [field, own !== null && other !== null && isSame(own, other) ? other : own];
  });
  return { ...point, ...(Object.fromEntries(values) as Pick<StoredPoint, Field>) };
}

/** How `stored` differs from `written`, in words; empty if it does not. The order does not matter. */
export function differences(
  stored: readonly StoredPoint[],
  written: readonly StoredPoint[],
  isSame?: IsSame,
): string[] {
  const found = new Map<string, StoredPoint>();
  const wrong: string[] = [];
  const say = (what: string, key: string, more = '') =>
    wrong.push(`${what}: ${key.slice(0, SHOWN_CHARACTERS)}${more.slice(0, 2 * SHOWN_CHARACTERS)}`);
  for (const point of stored) {
    const key = keyOf(point);
    if (found.has(key)) say('twice', key);
    found.set(key, point);
  }
  for (const point of written) {
    const key = keyOf(point);
    const other = found.get(key);
    const text = other && describe(isSame === undefined ? other : withSame(other, point, isSame));
    if (text === undefined) say('missing', key);
    else if (text !== describe(point)) say('differs', key, `\n  has ${text}\n  not ${describe(point)}`);
    found.delete(key);
  }
  for (const key of found.keys()) say('unexpected', key);
  return wrong.length > SHOWN_DIFFERENCES
    ? [...wrong.slice(0, SHOWN_DIFFERENCES), `and ${wrong.length - SHOWN_DIFFERENCES} more`]
    : wrong;
}

export async function readAll(sink: Sink, range: WindowRange, signal: AbortSignal): Promise<StoredPoint[]> {
  const points: StoredPoint[] = [];
  for await (const point of sink.read(range, signal)) points.push(point);
  return points;
}

/** Writes until nothing is left to be tried again. Resolves to which points were rejected, by index, and why. */
export async function writeAll(
  sink: Sink,
  points: readonly Point[],
  signal: AbortSignal,
): Promise<[index: number, reason: string][]> {
  const rejected: [number, string][] = [];
  for (let left = points; left.length > 0; ) {
    const sent = left;
    const outcome = await sink.write({ points: sent }, signal);
    if (outcome.kind !== 'partial') throw new Error(outcome.kind);
    for (const { index, reason } of outcome.rejected) rejected.push([points.indexOf(sent[index]!), reason]);
    left = outcome.retry.map((index) => sent[index]!);
  }
  return rejected;
}
