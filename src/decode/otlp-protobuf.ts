/** OTLP's metrics as protobuf (opentelemetry/proto/metrics/v1/metrics.proto), read in place. */
import type { Dimension } from '../aggregate/series.ts';
import { MAX_DEPTH, MAX_SPELLED_KEYS } from './limits.ts';
import {
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

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
/** A varint has at most ten bytes. */
const MAX_VARINT_SHIFT = 63;
const NANOS_PER_MS = 1_000_000n;
const TWO_32 = 2 ** 32;
const NO_VALUE_FLAG = 1;

/** By the number of the field in `Metric`. */
const KINDS: Readonly<Record<number, OtlpKind>> = {
  5: 'gauge',
  7: 'sum',
  9: 'histogram',
  10: 'exponential',
  11: 'summary',
};
/** The number of the field that holds the attributes of a data point. */
const ATTRIBUTES: Readonly<Record<OtlpKind, number>> = {
  gauge: 7,
  sum: 7,
  histogram: 9,
  exponential: 1,
  summary: 7,
};

class Malformed extends Error {}

/** Walks over the fields of a message. `next` goes on to the next one; what it is, is in the members. */
class Fields {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  #at: number;
  readonly #end: number;
  field = 0;
  wire = 0;
  /** Of a varint, rounded to a double, as if unsigned; or where the value of another kind begins and ends. */
  value = 0;
  /** The upper and the lower half of a varint. */
  high = 0;
  low = 0;
  start = 0;
  end = 0;

  constructor(view: DataView, bytes: Uint8Array, start: number, end: number) {
    this.view = view;
    this.bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  next(): boolean {
    if (this.#at >= this.#end) return false;
    this.#at = this.#varint(this.#at);
    if (this.high !== 0 || this.low < 8) throw new Malformed();
    this.field = this.low >>> 3;
    this.wire = this.low & 7;
    if (this.wire === VARINT) this.#at = this.#varint(this.#at);
    else {
      let length = this.wire === FIXED64 ? 8 : 4;
      if (this.wire === BYTES) {
        this.#at = this.#varint(this.#at);
        length = this.value;
      } else if (this.wire !== FIXED64 && this.wire !== FIXED32) throw new Malformed();
      if (length > this.#end - this.#at) throw new Malformed();
      this.start = this.#at;
      this.#at += length;
      this.end = this.#at;
    }
    return true;
  }

  is(field: number, wire: number): boolean {
    return this.field === field && this.wire === wire;
  }

  /** The fields of the message that this field is. */
  inside(): Fields {
    return new Fields(this.view, this.bytes, this.start, this.end);
  }

  double(at = this.start): number {
    return this.view.getFloat64(at, true);
  }

  unsigned(at = this.start): number {
    return this.view.getUint32(at + 4, true) * TWO_32 + this.view.getUint32(at, true);
  }

  signed(): number {
    return this.view.getInt32(this.start + 4, true) * TWO_32 + this.view.getUint32(this.start, true);
  }

  /** The varint as a signed integer of 64 bits, in digits. */
  get integer(): bigint {
    return BigInt.asIntN(64, (BigInt(this.high) << 32n) | BigInt(this.low));
  }

  /** The varint as `sint32`. */
  get zigzag(): number {
    return (this.low >>> 1) ^ -(this.low & 1);
  }

  #varint(from: number): number {
    const { bytes } = this;
    let low = 0;
    let high = 0;
    for (let i = from, shift = 0; i < this.#end && shift <= MAX_VARINT_SHIFT; i++, shift += 7) {
      const byte = bytes[i]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte >= 0x80) continue;
      this.low = low >>> 0;
      this.high = high >>> 0;
      this.value = this.high * TWO_32 + this.low;
      return i + 1;
    }
    throw new Malformed();
  }
}

const NO_BYTES = new Uint8Array(0);
const PLACES = 3;

export class OtlpProtobuf implements OtlpReader {
  looked = 0;
  /** PLACES numbers for each point: where it begins, where it ends, and the number of its metric. */
  #places = new Int32Array(PLACES * 64);
  #size = 0;
  #metrics: OtlpMetric[] = [];
  #bytes: Uint8Array = NO_BYTES;
  #view: DataView = new DataView(NO_BYTES.buffer);
  #base = 0;
  readonly #text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** Where the attributes of the point last read begin and end, each. */
  readonly #attributes: number[] = [];

  get size(): number {
    return this.#size;
  }

  load(message: RawMessage, attributes: readonly string[]): InputRejection | undefined {
    this.looked = 0;
    this.#size = 0;
    this.#metrics = [];
    this.moved(message);
    try {
      const end = this.#base + message.end - message.start;
      const request = new Fields(this.#view, this.#bytes, this.#base, end);
      while (request.next()) {
        this.looked++;
        if (request.is(1, BYTES)) this.#resource(request.inside(), attributes);
      }
      return undefined;
    } catch (error) {
      if (error instanceof Malformed) return 'not_otlp';
      throw error;
    }
  }

  moved({ bytes, start }: RawMessage): void {
    this.#bytes = new Uint8Array(bytes.buffer);
    this.#view = new DataView(bytes.buffer);
    this.#base = bytes.byteOffset + start;
  }

  release(): void {
    this.#metrics = [];
    this.#bytes = NO_BYTES;
    this.#view = new DataView(NO_BYTES.buffer);
    if (this.#places.length > PLACES * 4096) this.#places = new Int32Array(PLACES * 64);
  }

  metric(point: number): OtlpMetric {
    return this.#metrics[this.#places[PLACES * point + 2]!]!;
  }

  lengthOf(point: number): number {
    return this.#places[PLACES * point + 1]! - this.#places[PLACES * point]!;
  }

  #resource(resource: Fields, globs: readonly string[]): void {
    const scopes: Fields[] = [];
    let own: readonly Dimension[] | InputRejection = [];
    while (resource.next()) {
      this.looked++;
      if (resource.is(1, BYTES)) own = this.#keyValues(resource.inside(), 1);
      else if (resource.is(2, BYTES)) scopes.push(resource.inside());
    }
    for (const scope of scopes) this.#scope(scope, own, globs);
  }

  #scope(scope: Fields, resource: readonly Dimension[] | InputRejection, globs: readonly string[]): void {
    const metrics: Fields[] = [];
    let own: readonly Dimension[] | InputRejection = [];
    while (scope.next()) {
      this.looked++;
      if (scope.is(1, BYTES)) own = this.#scopeAttributes(scope);
      else if (scope.is(2, BYTES)) metrics.push(scope.inside());
    }
    const shared = sharedOf([resource, own], globs);
    for (const metric of metrics) this.#metric(metric, shared);
  }

  #scopeAttributes(scope: Fields): readonly Dimension[] | InputRejection {
    const attributes = this.#keyValues(scope.inside(), 3);
    if (typeof attributes === 'string') return attributes;
    const named: Dimension[] = [];
    for (const fields = scope.inside(); fields.next(); ) {
      const key = fields.is(1, BYTES) ? 'otel.scope.name' : fields.is(2, BYTES) ? 'otel.scope.version' : '';
      if (key === '') continue;
      const text = this.#decode(fields.start, fields.end);
      if (text === undefined) return 'bad_unicode';
      named.push([key, text]);
    }
    return [...named, ...attributes];
  }

  #metric(metric: Fields, shared: OtlpShared): void {
    let name: string | undefined = '';
    let kind: OtlpKind | undefined;
    let data: Fields | undefined;
    while (metric.next()) {
      this.looked++;
      if (metric.wire !== BYTES) continue;
      if (metric.field === 1) name = this.#decode(metric.start, metric.end);
      if (KINDS[metric.field] === undefined) continue;
      kind = KINDS[metric.field];
      data = metric.inside();
    }
    if (data === undefined) return;
    let temporality = 0;
    let isMonotonic = false;
    const first = this.#size;
    const number = this.#metrics.length;
    while (data.next()) {
      this.looked++;
      if (data.is(1, BYTES)) this.#place(data.start, data.end, number);
      else if (data.is(2, VARINT)) temporality = data.low;
      else if (data.is(3, VARINT)) isMonotonic = data.low !== 0;
    }
    if (this.#size === first) return;
    const bad: OtlpShared = { ...shared, rejection: 'bad_unicode' };
    const own = name === undefined ? bad : shared;
    this.#metrics.push({ name: name ?? '', shared: own, kind, temporality, isMonotonic });
  }

  #place(start: number, end: number, metric: number): void {
    const at = PLACES * this.#size++;
    if (at === this.#places.length) {
      const places = new Int32Array(2 * at);
      places.set(this.#places);
      this.#places = places;
    }
    // Relative to where the message begins, which may move.
    this.#places[at] = start - this.#base;
    this.#places[at + 1] = end - this.#base;
    this.#places[at + 2] = metric;
  }

  read(point: number, into: OtlpPoint): InputRejection | undefined {
    const [start, end] = [this.#places[PLACES * point]!, this.#places[PLACES * point + 1]!];
    const kind = this.metric(point).kind!;
    this.#attributes.length = 0;
    into.clear();
    try {
      const fields = new Fields(this.#view, this.#bytes, this.#base + start, this.#base + end);
      while (fields.next()) {
        if (fields.is(ATTRIBUTES[kind], BYTES)) this.#attributes.push(fields.start, fields.end);
        else if (kind === 'gauge' || kind === 'sum') readNumber(fields, into);
        else if (kind === 'histogram') readHistogram(fields, into);
        else if (kind === 'exponential') readExponential(fields, into);
      }
    } catch (error) {
      if (error instanceof Malformed) return 'not_otlp';
      throw error;
    }
    const isTooLong = into.counts.length > MAX_BUCKETS || into.negative.length > MAX_BUCKETS;
    if (this.#attributes.length > 2 * MAX_SPELLED_KEYS) return 'too_many_dimensions';
    return isTooLong || into.bounds.length > MAX_BUCKETS ? 'too_long' : undefined;
  }

  spell(sink: SpellingSink): void {
    sink.text('p');
    for (let i = 0; i < this.#attributes.length; i += 2) {
      const [start, end] = [this.#attributes[i]!, this.#attributes[i + 1]!];
      // So that it can be told where each ends.
      sink.text(`${end - start}:`);
      sink.bytes(this.#bytes, start, end);
    }
  }

  attributes(): readonly Dimension[] | InputRejection {
    const dimensions: Dimension[] = [];
    for (let i = 0; i < this.#attributes.length; i += 2) {
      const dimension = this.#keyValue(this.#attributes[i]!, this.#attributes[i + 1]!);
      if (typeof dimension === 'string') return dimension;
      dimensions.push(dimension);
    }
    return dimensions;
  }

  /** The attributes of a message that has them in this field. */
  #keyValues(fields: Fields, field: number): readonly Dimension[] | InputRejection {
    const dimensions: Dimension[] = [];
    while (fields.next()) {
      this.looked++;
      if (!fields.is(field, BYTES)) continue;
      if (dimensions.length === MAX_SPELLED_KEYS) return 'too_many_dimensions';
      const dimension = this.#keyValue(fields.start, fields.end);
      if (typeof dimension === 'string') return dimension;
      dimensions.push(dimension);
    }
    return dimensions;
  }

  #keyValue(start: number, end: number): Dimension | InputRejection {
    let key: string | undefined = '';
    let value: unknown = '';
    try {
      for (const fields = new Fields(this.#view, this.#bytes, start, end); fields.next(); ) {
        if (fields.is(1, BYTES)) key = this.#decode(fields.start, fields.end);
        else if (fields.is(2, BYTES)) value = this.#anyValue(fields.inside(), 0);
      }
    } catch (error) {
      if (error instanceof Malformed) return 'bad_dimensions';
      throw error;
    }
    if (key === undefined || value === undefined) return 'bad_unicode';
    return [key, typeof value === 'object' ? JSON.stringify(value) : String(value)];
  }

  /** Returns a text, or an array or an object for JSON; undefined if it is not UTF-8. */
  #anyValue(fields: Fields, depth: number): unknown {
    if (depth === MAX_DEPTH) throw new Malformed();
    let value: unknown = '';
    while (fields.next()) {
      if (fields.is(1, BYTES)) value = this.#decode(fields.start, fields.end);
      else if (fields.is(2, VARINT)) value = fields.low !== 0;
      else if (fields.is(3, VARINT)) value = String(fields.integer);
      else if (fields.is(4, FIXED64)) value = String(fields.double() + 0);
      else if (fields.is(5, BYTES)) value = this.#arrayOf(fields.inside(), depth);
      else if (fields.is(6, BYTES)) value = this.#mapOf(fields.inside(), depth);
      else if (fields.is(7, BYTES))
        value = Buffer.from(this.#bytes.subarray(fields.start, fields.end)).toString('base64');
    }
    return value;
  }

  #arrayOf(fields: Fields, depth: number): unknown[] {
    const values: unknown[] = [];
    while (fields.next()) if (fields.is(1, BYTES)) values.push(this.#anyValue(fields.inside(), depth + 1));
    return values;
  }

  #mapOf(fields: Fields, depth: number): object {
    const entries: [string, unknown][] = [];
    while (fields.next()) {
      if (!fields.is(1, BYTES)) continue;
      let key = '';
      let value: unknown = '';
      for (const inner = fields.inside(); inner.next(); ) {
        if (inner.is(1, BYTES)) key = this.#decode(inner.start, inner.end) ?? '';
        else if (inner.is(2, BYTES)) value = this.#anyValue(inner.inside(), depth + 1);
      }
      entries.push([key, value]);
    }
    return Object.fromEntries(entries);
  }

  #decode(start: number, end: number): string | undefined {
    try {
      return this.#text.decode(this.#bytes.subarray(start, end));
    } catch {
      return undefined;
    }
  }
}

function readTime(fields: Fields, into: OtlpPoint): void {
  const ms = Number(fields.view.getBigUint64(fields.start, true) / NANOS_PER_MS);
  if (ms > 0) into.time = ms;
}

function readNumber(fields: Fields, into: OtlpPoint): void {
  if (fields.is(3, FIXED64)) readTime(fields, into);
  else if (fields.is(4, FIXED64)) into.value = fields.double();
  else if (fields.is(6, FIXED64)) into.value = fields.signed();
  else if (fields.is(8, VARINT)) into.hasNoValue = (fields.low & NO_VALUE_FLAG) !== 0;
}

function readHistogram(fields: Fields, into: OtlpPoint): void {
  if (fields.is(3, FIXED64)) readTime(fields, into);
  else if (fields.is(4, FIXED64)) into.count = fields.unsigned();
  else if (fields.is(5, FIXED64)) into.sum = fields.double();
  else if (fields.field === 6) readPacked(fields, into.counts, (at) => fields.unsigned(at));
  else if (fields.field === 7) readPacked(fields, into.bounds, (at) => fields.double(at));
  else if (fields.is(10, VARINT)) into.hasNoValue = (fields.low & NO_VALUE_FLAG) !== 0;
  else if (fields.is(11, FIXED64)) into.min = fields.double();
  else if (fields.is(12, FIXED64)) into.max = fields.double();
}

/** Eight bytes each, packed or not. */
function readPacked(fields: Fields, into: number[], read: (at: number) => number): void {
  if (fields.wire === VARINT || fields.wire === FIXED32) return;
  if ((fields.end - fields.start) % 8 !== 0) throw new Malformed();
  for (let at = fields.start; at < fields.end && into.length <= MAX_BUCKETS; at += 8) into.push(read(at));
}

function readExponential(fields: Fields, into: OtlpPoint): void {
  if (fields.is(3, FIXED64)) readTime(fields, into);
  else if (fields.is(4, FIXED64)) into.count = fields.unsigned();
  else if (fields.is(5, FIXED64)) into.sum = fields.double();
  else if (fields.is(6, VARINT)) into.scale = fields.zigzag;
  else if (fields.is(7, FIXED64)) into.zeroCount = fields.unsigned();
  else if (fields.is(8, BYTES)) into.offset = readBuckets(fields.inside(), into.counts);
  else if (fields.is(9, BYTES)) into.negativeOffset = readBuckets(fields.inside(), into.negative);
  else if (fields.is(10, VARINT)) into.hasNoValue = (fields.low & NO_VALUE_FLAG) !== 0;
  else if (fields.is(12, FIXED64)) into.min = fields.double();
  else if (fields.is(13, FIXED64)) into.max = fields.double();
}

/** Returns the offset. */
function readBuckets(fields: Fields, counts: number[]): number {
  let offset = 0;
  while (fields.next() && counts.length <= MAX_BUCKETS) {
    if (fields.is(1, VARINT)) offset = fields.zigzag;
    else if (fields.is(2, VARINT)) counts.push(fields.value);
    else if (fields.is(2, BYTES)) readVarints(fields, counts);
  }
  return offset;
}

function readVarints(fields: Fields, counts: number[]): void {
  const { bytes, end } = fields;
  let value = 0;
  let factor = 1;
  for (let i = fields.start; i < end && counts.length <= MAX_BUCKETS; i++) {
    value += (bytes[i]! & 0x7f) * factor;
    factor *= 128;
    if (bytes[i]! >= 0x80) continue;
    counts.push(value);
    value = 0;
    factor = 1;
  }
  if (factor !== 1) throw new Malformed();
}
