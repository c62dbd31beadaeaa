import { COUNTER, GAUGE, TIMER, UNKNOWN_SERIES } from '../aggregate/sample.ts';
import { identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import { MAX_SPELLING_BYTES } from '../aggregate/spelling-table.ts';
import { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { MAX_LINE_SPREAD, MAX_MESSAGE_BYTES } from './limits.ts';
import { CR, LF, type LineOptions, SPACE, TAB } from './line-decoder.ts';
import { takeHistogram } from './otlp-buckets.ts';
import { OtlpJson } from './otlp-json.ts';
import {
  CUMULATIVE,
  DELTA,
  merged,
  type OtlpMetric,
  OtlpPoint,
  type OtlpReader,
  type SpellingSink,
} from './otlp-points.ts';
import { OtlpProtobuf } from './otlp-protobuf.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import { RejectedElements } from './rejected-elements.ts';
import type { InputRejection } from './rejection.ts';
import { OPEN_OBJECT } from './scanner.ts';
import { Shaping } from './shaping.ts';
import { BYTES_PER_STEP, FOUND_STEPS, NEW_SPELLING_STEPS, REJECTED_STEPS, Steps } from './steps.ts';

/** Globs for the attributes of resources and scopes that become dimensions, if no setting says it. */
export const OTLP_ATTRIBUTES: readonly string[] = ['service.name'];

export interface OtlpOptions extends LineOptions {
  /** Globs for the attributes of resources and scopes that become dimensions. */
  readonly attributes: readonly string[];
}

const NOBODY: SampleHandler = { sample() {}, rejected() {}, rejectedMessage() {} };

/**
 * OpenTelemetry's metrics, as protobuf or as JSON. Sums with delta temporality are counters, gauges are gauges, and
 * histograms with delta temporality are timers. What is cumulative is a gauge of its running total: nothing is kept
 * across windows, so it cannot be turned into increments. For a sum that also falls, a gauge is what it should be.
 *
 * All data points are found first, then each is read by itself. A point that is not a sample is rejected alone.
 */
export class OtlpDecoder implements Decoder {
  readonly steps: Steps;
  readonly #table: SeriesTable;
  readonly #maxMessageBytes: number;
  readonly #attributes: readonly string[];
  readonly #shaping: Shaping;
  readonly #protobuf = new OtlpProtobuf();
  readonly #json = new OtlpJson();
  #reader: OtlpReader = this.#protobuf;
  readonly #sample = new DecodedSample();
  readonly #point = new OtlpPoint();
  readonly #spelling = new SpellingBuffer();
  readonly #rejected = new RejectedElements();
  #handler = NOBODY;
  #messageBytes = 0;
  /** The next point; -1 if no message is being read. */
  #next = -1;
  /** Bytes of dimensions that points got from their resources and scopes. */
  #spread = 0;

  constructor(table: SeriesTable, options: OtlpOptions) {
    this.#table = table;
    this.steps = options.steps ?? new Steps();
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    this.#attributes = options.attributes;
    this.#shaping = options.shaping ?? new Shaping(table);
  }

  get isPaused(): boolean {
    return this.#next >= 0;
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    const { bytes, start, end } = message;
    const reason = this.#load(message, label?.contentType);
    if (reason !== undefined) {
      this.#reader.release();
      handler.rejectedMessage(reason, bytes.subarray(start, end));
      return;
    }
    this.#next = 0;
    this.#spread = 0;
    this.#messageBytes = end - start;
    this.#sample.streamTime = message.streamTime;
    this.#sample.sequence = message.sequence;
    this.#sample.comesFrom(this.#shaping.origin);
    this.#goOn(message, handler);
  }

  resume(message: RawMessage, handler: SampleHandler): void {
    this.#reader.moved(message);
    this.#goOn(message, handler);
  }

  flush(): void {}

  #load(message: RawMessage, contentType: string | undefined): InputRejection | undefined {
    const { bytes, start, end } = message;
    if (end - start > this.#maxMessageBytes) return 'too_large';
    this.steps.left -= 1 + (end - start) / BYTES_PER_STEP;
    let first = start;
    while (first < end && isSpace(bytes[first]!)) first++;
    if (first === end) return 'empty';
    const isJson = contentType === undefined ? bytes[start] === OPEN_OBJECT : /\bjson\b/i.test(contentType);
    this.#reader = isJson ? this.#json : this.#protobuf;
    let reason = this.#reader.load(message, this.#attributes);
    if (reason === 'not_otlp' && !isJson && bytes[first] === OPEN_OBJECT) {
      this.#reader = this.#json;
      reason = this.#reader.load(message, this.#attributes);
    }
    this.steps.left -= FOUND_STEPS * this.#reader.looked;
    return reason;
  }

  #goOn({ bytes, start, end }: RawMessage, handler: SampleHandler): void {
    this.#handler = handler;
    const { steps } = this;
    while (this.#next < this.#reader.size && steps.left > 0) {
      steps.left -= 1 + this.#reader.lengthOf(this.#next) / BYTES_PER_STEP;
      const reason = this.#read(this.#next++);
      if (reason === undefined) continue;
      steps.left -= REJECTED_STEPS;
      this.#rejected.add(reason);
    }
    this.#handler = NOBODY;
    if (this.#next < this.#reader.size) return;
    this.#next = -1;
    this.#reader.release();
    this.#rejected.hand(handler, bytes.subarray(start, end));
  }

  /** Hands over what a data point comes to. Returns why it is not a sample. */
  #read(number: number): InputRejection | undefined {
    const reader = this.#reader;
    const metric = reader.metric(number);
    const { shared, kind, temporality, isMonotonic } = metric;
    if (shared.rejection !== undefined) return shared.rejection;
    if (kind === undefined) return 'bad_type';
    if (kind === 'summary') return 'summary';
    const point = this.#point;
    const reason = reader.read(number, point);
    if (reason !== undefined) return reason;
    if (point.hasNoValue) return 'no_recorded_value';
    this.#spread += shared.text.length;
    if (this.#spread > MAX_LINE_SPREAD * this.#messageBytes) return 'too_long';
    if (kind === 'gauge') return this.#hand(metric, '', GAUGE, point.value, 1);
    if (temporality !== DELTA && temporality !== CUMULATIVE) return 'bad_type';
    const isDelta = temporality === DELTA;
    if (!isDelta && (kind !== 'sum' || isMonotonic)) this.#handler.cumulative?.();
    if (kind === 'sum') return this.#hand(metric, '', isDelta ? COUNTER : GAUGE, point.value, 1);
    if (isDelta) return this.#takeTimer(metric, kind === 'exponential');
    const rejection = this.#hand(metric, '.count', GAUGE, point.count, 1);
    return (
      rejection ?? (Number.isNaN(point.sum) ? undefined : this.#hand(metric, '.sum', GAUGE, point.sum, 1))
    );
  }

  #takeTimer(metric: OtlpMetric, isExponential: boolean): InputRejection | undefined {
    let isFirst = true;
    let rejection: InputRejection | undefined;
    const reason = takeHistogram(this.#point, isExponential, (value, weight) => {
      this.steps.left -= 1;
      // All of them have one series.
      if (isFirst) rejection = this.#find(metric, '', TIMER);
      isFirst = false;
      if (rejection === undefined) this.#handOver(value, weight);
    });
    return reason ?? rejection;
  }

  #hand(
    metric: OtlpMetric,
    suffix: string,
    type: number,
    value: number,
    weight: number,
  ): InputRejection | undefined {
    if (!Number.isFinite(value)) return 'bad_value';
    const rejection = this.#find(metric, suffix, type);
    if (rejection === undefined) this.#handOver(value + 0, weight);
    return rejection;
  }

  #handOver(value: number, weight: number): void {
    const sample = this.#sample;
    sample.value = value;
    sample.weight = weight;
    this.#handler.sample(sample);
  }

  #find(metric: OtlpMetric, suffix: string, type: number): InputRejection | undefined {
    const sample = this.#sample;
    const spelling = this.#spelling;
    sample.eventTime = this.#point.time;
    sample.type = type;
    spelling.begin();
    spelling.text(metric.name);
    spelling.text(suffix);
    sample.nameStart = 0;
    sample.nameLength = spelling.length;
    // No other format has a spelling that begins and ends so.
    spelling.text('\x01');
    spelling.text(metric.shared.text);
    this.#reader.spell(spelling);
    spelling.text('\x01');
    sample.view = spelling.view;
    sample.dimensionsStart = sample.nameLength;
    sample.dimensionsLength = spelling.length - sample.nameLength;
    sample.series = this.#table.find(sample);
    return sample.series === UNKNOWN_SERIES ? this.#learn(metric, suffix) : undefined;
  }

  #learn(metric: OtlpMetric, suffix: string): InputRejection | undefined {
    const sample = this.#sample;
    this.steps.left -= NEW_SPELLING_STEPS + sample.nameLength + sample.dimensionsLength;
    if (metric.name === '') return 'missing_name';
    const own = this.#reader.attributes();
    if (typeof own === 'string') return own;
    const dimensions = merged([metric.shared.dimensions, own]);
    if (typeof dimensions === 'string') return dimensions;
    return this.#shaping.add(sample, identify(metric.name + suffix, dimensions));
  }
}

/** The bytes of a spelling. Of one that is too long to be kept, only the length counts. */
class SpellingBuffer implements SpellingSink {
  readonly #bytes = Buffer.alloc(MAX_SPELLING_BYTES);
  readonly view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, MAX_SPELLING_BYTES);
  length = 0;

  begin(): void {
    this.length = 0;
  }

  bytes(from: Uint8Array, start: number, end: number): void {
    const length = end - start;
    if (this.length + length <= MAX_SPELLING_BYTES) this.#bytes.set(from.subarray(start, end), this.length);
    this.length += length;
  }

  text(text: string): void {
    const length = Buffer.byteLength(text);
    if (this.length + length <= MAX_SPELLING_BYTES) this.#bytes.write(text, this.length);
    this.length += length;
  }
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === LF || byte === CR;
}
