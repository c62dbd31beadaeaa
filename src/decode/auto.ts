import type { Decoder, SampleHandler } from './decoder.ts';
import { BAR, CR, EQUALS, HASH, LF, SPACE, TAB } from './line-decoder.ts';
import { isOtlpJson } from './otlp-json.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import { COMMA, OPEN_ARRAY, OPEN_OBJECT } from './scanner.ts';
import { EVENT } from './statsd.ts';
import type { Steps } from './steps.ts';

/** What the metrics of a resource may begin with: the resource, those of a scope, the URL of a schema. */
const OTLP_FIELDS = [0x0a, 0x12, 0x1a];

export interface Decoders {
  readonly json: Decoder;
  readonly influx: Decoder;
  readonly statsd: Decoder;
  readonly otlp: Decoder;
}

/**
 * Detects the format of each message from how it begins, ignoring leading white space:
 *
 * - a header `Content-Type` with `protobuf` in it, or fields of protobuf that begin as OTLP's: OTLP;
 * - `{"resourceMetrics"`: OTLP as JSON;
 * - `{` or `[`: JSON;
 * - `#`: line protocol (a comment);
 * - `_e{`: StatsD (an event);
 * - otherwise the first line decides: a bar before any space, comma or equals sign means StatsD (if names may hold
 *   tags, a bar before any space); else an equals sign, which stands before every value, means line protocol;
 * - anything else is read as JSON, and rejected.
 */
export class AutoDecoder implements Decoder {
  readonly #decoders: Decoders;
  readonly #hasNameTags: boolean;

  /** All of them must count the same steps. `hasNameTags`: names in StatsD may hold tags. */
  constructor(decoders: Decoders, hasNameTags: boolean) {
    this.#decoders = decoders;
    this.#hasNameTags = hasNameTags;
  }

  get steps(): Steps {
    return this.#decoders.json.steps;
  }

  get isPaused(): boolean {
    return this.#paused !== undefined;
  }

  get #paused(): Decoder | undefined {
    const { json, influx, statsd, otlp } = this.#decoders;
    return [json, influx, statsd, otlp].find(({ isPaused }) => isPaused);
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    const { json } = this.#decoders;
    // Nearly all messages begin so. The decoder of JSON passes on what is OTLP.
    const decoder = message.bytes[message.start] === OPEN_OBJECT ? json : this.#decoderOf(message, label);
    // The other decoders hand over at once, and no sample may overtake an earlier one.
    if (decoder !== json) json.flush(handler);
    decoder.take(message, handler, label);
  }

  #decoderOf({ bytes, start, end }: RawMessage, label: MessageLabel | undefined): Decoder {
    if (label?.contentType !== undefined && /protobuf/i.test(label.contentType)) return this.#decoders.otlp;
    return this.#decoders[formatOf(bytes, start, end, this.#hasNameTags)];
  }

  resume(message: RawMessage, handler: SampleHandler): void {
    this.#paused?.resume(message, handler);
  }

  flush(handler: SampleHandler): void {
    this.#decoders.json.flush(handler);
  }
}

/** Returns the format that the bytes from `start` to `end` look like. */
export function formatOf(bytes: Uint8Array, start: number, end: number, hasNameTags = false): keyof Decoders {
  let i = start;
  if (isOtlpProtobuf(bytes, start, end)) return 'otlp';
  while (i < end && isSpace(bytes[i]!)) i++;
  if (i < end && isOtlpJson(bytes, i, end)) return 'otlp';
  if (i === end || bytes[i] === OPEN_OBJECT || bytes[i] === OPEN_ARRAY) return 'json';
  if (bytes[i] === HASH) return 'influx';
  if (EVENT.every((byte, k) => i + k < end && bytes[i + k] === byte)) return 'statsd';
  let separated = false;
  let hasEquals = false;
  for (; i < end && bytes[i] !== LF; i++) {
    const byte = bytes[i];
    if (byte === BAR && !separated) return 'statsd';
    if (byte === EQUALS) hasEquals = true;
    if (byte === SPACE || (byte === COMMA && !hasNameTags)) separated = true;
    if (hasEquals && (separated || !hasNameTags)) return 'influx';
  }
  return hasEquals ? 'influx' : 'json';
}

/**
 * Whether the message is nothing but fields with the number 1, of which the first begins with a field that OTLP has
 * there. Such a field begins with a line feed, so a text may begin so too. Its lengths do not then come out even.
 */
function isOtlpProtobuf(bytes: Uint8Array, start: number, end: number): boolean {
  if (start === end || bytes[start] !== LF) return false;
  let i = start;
  while (i < end) {
    if (bytes[i++] !== LF) return false;
    let length = 0;
    let factor = 1;
    for (; i < end && bytes[i]! >= 0x80 && factor < 2 ** 28; i++, factor *= 128)
      length += (bytes[i]! & 0x7f) * factor;
    if (i === end) return false;
    length += bytes[i++]! * factor;
    if (length < 2 || i >= end || !OTLP_FIELDS.includes(bytes[i]!)) return false;
    i += length;
  }
  return i === end;
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === LF || byte === CR;
}
