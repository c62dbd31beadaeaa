/**
 * OTLP's metrics as JSON: by the specification, and as SDKs write it. So 64-bit integers and times may be texts,
 * numbers or two halves, enums numbers or names, keys in snake case; fields that are not known mean nothing.
 */
import type { Dimension } from '../aggregate/series.ts';
import { MAX_DEPTH, MAX_SPELLED_KEYS, MIN_BYTES_PER_OBJECT } from './limits.ts';
import { CR, LF, SPACE, TAB } from './line-decoder.ts';
import {
  CUMULATIVE,
  DELTA,
  MAX_BUCKETS,
  type OtlpKind,
  type OtlpMetric,
  type OtlpPoint,
  type OtlpReader,
  type OtlpShared,
  type SpellingSink,
  sharedOf,
} from './otlp-points.ts';
import type { RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import { ascii, FAILED, OPEN_ARRAY, OPEN_OBJECT, Scanner } from './scanner.ts';

type Json = Readonly<Record<string, unknown>>;

const KINDS: readonly (readonly [member: string, kind: OtlpKind])[] = [
  ['gauge', 'gauge'],
  ['sum', 'sum'],
  ['histogram', 'histogram'],
  ['exponentialHistogram', 'exponential'],
  ['summary', 'summary'],
];
const TEMPORALITIES: Readonly<Record<string, number>> = {
  AGGREGATION_TEMPORALITY_DELTA: DELTA,
  AGGREGATION_TEMPORALITY_CUMULATIVE: CUMULATIVE,
};
const NO_VALUE_FLAG = 1;
const NANOS_PER_MS = 1_000_000;
/** As a double, a time of today in nanoseconds is at most this much off. */
const ROUNDED_NANOS = 128;
const TWO_32 = 2 ** 32;
/** Few are always allowed. */
const MIN_OPENED = 1000;
const DIGITS = /^-?\d{1,20}$/;
const NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const LONE_SURROGATE = /\p{Surrogate}/u;

const OTLP_KEYS = ['"resourceMetrics"', '"resource_metrics"'].map(ascii);

/** Whether it is an object of which the first key is that of OTLP. */
export function isOtlpJson(bytes: Uint8Array, start: number, end: number): boolean {
  if (start === end || bytes[start] !== OPEN_OBJECT) return false;
  let i = start + 1;
  while (i < end && isSpace(bytes[i]!)) i++;
  return OTLP_KEYS.some((key) => i + key.length <= end && key.every((byte, k) => bytes[i + k] === byte));
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === LF || byte === CR;
}

class NotOtlp extends Error {}

export class OtlpJson implements OtlpReader {
  looked = 0;
  #points: Json[] = [];
  #metricOf: number[] = [];
  #metrics: OtlpMetric[] = [];
  #perPoint = 0;
  #attributes: readonly unknown[] = [];
  readonly #text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  readonly #scanner = new Scanner();

  get size(): number {
    return this.#points.length;
  }

  load({ bytes, start, end }: RawMessage, globs: readonly string[]): InputRejection | undefined {
    this.release();
    this.looked = 0;
    if (opened(bytes, start, end) > MIN_OPENED + (end - start) / MIN_BYTES_PER_OBJECT) return 'too_long';
    let text: string;
    try {
      text = this.#text.decode(bytes.subarray(start, end));
    } catch {
      return 'bad_unicode';
    }
    const scanner = this.#scanner;
    const begin = scanner.load(bytes, start, end);
    // JSON.parse takes any depth, but what works on its result does not.
    if (scanner.value(begin, 0) === FAILED) return scanner.tooDeep ? 'too_deep' : 'not_json';
    try {
      const request = JSON.parse(text) as unknown;
      if (!isObject(request)) return 'not_otlp';
      for (const resource of objects(get(request, 'resourceMetrics'))) this.#resource(resource, globs);
      this.#perPoint = (end - start) / (this.size + 1);
      return undefined;
    } catch (error) {
      if (error instanceof SyntaxError) return 'not_json';
      if (error instanceof NotOtlp) return 'not_otlp';
      throw error;
    }
  }

  moved(): void {}

  release(): void {
    this.#points = [];
    this.#metricOf = [];
    this.#metrics = [];
    this.#attributes = [];
  }

  metric(point: number): OtlpMetric {
    return this.#metrics[this.#metricOf[point]!]!;
  }

  lengthOf(): number {
    return this.#perPoint;
  }

  #resource(resource: Json, globs: readonly string[]): void {
    this.looked++;
    const own = attributesOf(get(resource, 'resource'));
    for (const scopeMetrics of objects(get(resource, 'scopeMetrics'))) {
      this.looked++;
      const scope = get(scopeMetrics, 'scope');
      const named: Dimension[] = isObject(scope)
        ? (['name', 'version'] as const).flatMap((key) =>
            typeof scope[key] === 'string' ? [[`otel.scope.${key}`, scope[key]] as const] : [],
          )
        : [];
      const attributes = attributesOf(scope);
      const shared = sharedOf(
        [own, typeof attributes === 'string' ? attributes : [...named, ...attributes]],
        globs,
      );
      for (const metric of objects(get(scopeMetrics, 'metrics'))) this.#metric(metric, shared);
    }
  }

  #metric(metric: Json, shared: OtlpShared): void {
    this.looked++;
    const found = KINDS.find(([member]) => isObject(get(metric, member)));
    if (found === undefined) return;
    const data = get(metric, found[0]) as Json;
    const said = get(data, 'aggregationTemporality') ?? 0;
    const temporality = typeof said === 'string' ? (TEMPORALITIES[said] ?? Number(said)) : Number(said);
    const name = get(metric, 'name') ?? '';
    if (typeof name !== 'string') throw new NotOtlp();
    for (const point of objects(get(data, 'dataPoints'))) {
      this.looked++;
      this.#points.push(point);
      this.#metricOf.push(this.#metrics.length);
    }
    const own: OtlpShared = LONE_SURROGATE.test(name) ? { ...shared, rejection: 'bad_unicode' } : shared;
    const isMonotonic = get(data, 'isMonotonic') === true;
    this.#metrics.push({ name, shared: own, kind: found[1], temporality, isMonotonic });
  }

  read(point: number, into: OtlpPoint): InputRejection | undefined {
    const from = this.#points[point]!;
    const { kind } = this.metric(point);
    into.clear();
    const attributes = get(from, 'attributes') ?? [];
    if (!Array.isArray(attributes)) return 'bad_dimensions';
    if (attributes.length > MAX_SPELLED_KEYS) return 'too_many_dimensions';
    this.#attributes = attributes;
    const time = timeOf(get(from, 'timeUnixNano'));
    if (time === undefined) return 'bad_timestamp';
    into.time = time;
    into.hasNoValue = (Number(get(from, 'flags') ?? 0) & NO_VALUE_FLAG) !== 0;
    if (kind === 'gauge' || kind === 'sum')
      into.value = numberOf(get(from, 'asInt') ?? get(from, 'asDouble'));
    else readCounts(from, into);
    if (kind === 'histogram') return readExplicit(from, into);
    return kind === 'exponential' ? readExponential(from, into) : undefined;
  }

  spell(sink: SpellingSink): void {
    sink.text('j');
    sink.text(JSON.stringify(this.#attributes));
  }

  attributes(): readonly Dimension[] | InputRejection {
    return keyValues(this.#attributes);
  }
}

/** Returns how many objects and arrays there are, at most. */
function opened(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let i = start; i < end; i++) if (bytes[i] === OPEN_OBJECT || bytes[i] === OPEN_ARRAY) count++;
  return count;
}

function readCounts(from: Json, into: OtlpPoint): void {
  into.count = numberOf(get(from, 'count') ?? 0);
  into.sum = numberOf(get(from, 'sum'));
  into.min = numberOf(get(from, 'min'));
  into.max = numberOf(get(from, 'max'));
}

function readExplicit(from: Json, into: OtlpPoint): InputRejection | undefined {
  return (
    readNumbers(get(from, 'bucketCounts'), into.counts) ??
    readNumbers(get(from, 'explicitBounds'), into.bounds)
  );
}

function readExponential(from: Json, into: OtlpPoint): InputRejection | undefined {
  into.scale = numberOf(get(from, 'scale') ?? 0);
  into.zeroCount = numberOf(get(from, 'zeroCount') ?? 0);
  const [positive, negative] = [get(from, 'positive') ?? {}, get(from, 'negative') ?? {}];
  if (!isObject(positive) || !isObject(negative)) return 'bad_value';
  into.offset = numberOf(get(positive, 'offset') ?? 0);
  into.negativeOffset = numberOf(get(negative, 'offset') ?? 0);
  return (
    readNumbers(get(positive, 'bucketCounts'), into.counts) ??
    readNumbers(get(negative, 'bucketCounts'), into.negative)
  );
}

function readNumbers(from: unknown, into: number[]): InputRejection | undefined {
  if (from === undefined || from === null) return undefined;
  if (!Array.isArray(from)) return 'bad_value';
  if (from.length > MAX_BUCKETS) return 'too_long';
  for (const each of from) into.push(numberOf(each));
  return undefined;
}

/** Returns milliseconds, rounded down; NaN if there is no time, undefined if it is not one. */
function timeOf(nanos: unknown): number | undefined {
  if (nanos === undefined || nanos === null || nanos === 0 || nanos === '0' || nanos === '')
    return Number.NaN;
  if (typeof nanos === 'string' && DIGITS.test(nanos)) return Number(BigInt(nanos) / BigInt(NANOS_PER_MS));
  const number = numberOf(nanos);
  const rounded = number > Number.MAX_SAFE_INTEGER ? number + ROUNDED_NANOS : number;
  const ms = Math.floor(rounded / NANOS_PER_MS);
  return ms >= 0 && ms <= 2 ** 64 / NANOS_PER_MS ? ms : undefined;
}

/** Returns NaN for what is no number. */
function numberOf(value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'string') return NUMBER.test(value) ? Number(value) : Number.NaN;
  // Two halves, as older SDKs for JavaScript write 64 bits.
  if (isObject(value) && typeof value.low === 'number' && typeof value.high === 'number')
    return value.high * TWO_32 + (value.low >>> 0);
  return Number.NaN;
}

function attributesOf(holder: unknown): readonly Dimension[] | InputRejection {
  const attributes = isObject(holder) ? (get(holder, 'attributes') ?? []) : [];
  return Array.isArray(attributes) ? keyValues(attributes) : 'bad_dimensions';
}

function keyValues(attributes: readonly unknown[]): readonly Dimension[] | InputRejection {
  if (attributes.length > MAX_SPELLED_KEYS) return 'too_many_dimensions';
  try {
    return readKeyValues(attributes);
  } catch (error) {
    if (error instanceof NotOtlp) return 'bad_dimensions';
    throw error;
  }
}

function readKeyValues(attributes: readonly unknown[]): Dimension[] | InputRejection {
  const dimensions: Dimension[] = [];
  for (const attribute of attributes) {
    if (!isObject(attribute) || typeof attribute.key !== 'string') return 'bad_dimensions';
    const value = anyValue(attribute.value, 0);
    if (value === undefined) return 'bad_dimensions';
    const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
    if (LONE_SURROGATE.test(attribute.key) || LONE_SURROGATE.test(text)) return 'bad_unicode';
    dimensions.push([attribute.key, text]);
  }
  return dimensions;
}

/** Returns a text, or an array or an object for JSON; undefined if it is none of them. */
function anyValue(value: unknown, depth: number): unknown {
  if (value === undefined || value === null) return '';
  if (!isObject(value) || depth === MAX_DEPTH) return undefined;
  const text = get(value, 'stringValue') ?? get(value, 'bytesValue');
  if (typeof text === 'string') return text;
  const boolean = get(value, 'boolValue');
  if (typeof boolean === 'boolean') return boolean;
  const integer = get(value, 'intValue') ?? undefined;
  if (integer !== undefined) return integerText(integer);
  const double = get(value, 'doubleValue') ?? undefined;
  if (double !== undefined) return typeof double === 'number' ? String(double + 0) : String(double);
  const array = get(value, 'arrayValue');
  if (isObject(array)) return objects(get(array, 'values')).map((each) => anyValue(each, depth + 1));
  const map = get(value, 'kvlistValue');
  if (!isObject(map)) return '';
  const entries = objects(get(map, 'values')).map((each) => [
    String(each.key ?? ''),
    anyValue(each.value, depth + 1),
  ]);
  return Object.fromEntries(entries) as object;
}

function integerText(integer: unknown): string | undefined {
  if (typeof integer === 'string') return DIGITS.test(integer) ? String(BigInt(integer)) : undefined;
  const number = numberOf(integer);
  return Number.isFinite(number) ? String(number + 0) : undefined;
}

/** Returns the member, however its name is written. */
function get(object: Json, camel: string): unknown {
  if (Object.hasOwn(object, camel)) return object[camel];
  const snake = SNAKE.get(camel);
  return snake !== undefined && Object.hasOwn(object, snake) ? object[snake] : undefined;
}

const SNAKE: ReadonlyMap<string, string> = new Map(
  [
    'resourceMetrics',
    'scopeMetrics',
    'exponentialHistogram',
    'aggregationTemporality',
    'isMonotonic',
    'dataPoints',
    'timeUnixNano',
    'asInt',
    'asDouble',
    'bucketCounts',
    'explicitBounds',
    'zeroCount',
    'stringValue',
    'boolValue',
    'intValue',
    'doubleValue',
    'bytesValue',
    'arrayValue',
    'kvlistValue',
  ].map((camel) => [camel, camel.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]),
);

function objects(list: unknown): readonly Json[] {
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list) || !list.every(isObject)) throw new NotOtlp();
  return list;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
