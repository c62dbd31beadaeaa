import type { Decoder, SampleHandler } from './decoder.ts';
import { BAR, CR, EQUALS, HASH, LF, SPACE, TAB } from './line-decoder.ts';
import type { RawMessage } from './raw-message.ts';
import { COMMA, OPEN_ARRAY, OPEN_OBJECT } from './scanner.ts';
import { EVENT } from './statsd.ts';
import type { Steps } from './steps.ts';

export interface Decoders {
  readonly json: Decoder;
  readonly influx: Decoder;
  readonly statsd: Decoder;
}

/**
 * Detects the format of each message from how it begins, ignoring leading white space:
 *
 * - `{` or `[`: JSON;
 * - `#`: line protocol (a comment);
 * - `_e{`: StatsD (an event);
 * - otherwise the first line decides: a bar before any space, comma or equals sign means StatsD (if names may hold tags,
 *   a bar before any space); else an equals sign, which stands before every value, means line protocol;
 * - anything else is read as JSON, and rejected.
 */
export class AutoDecoder implements Decoder {
  readonly #decoders: Decoders;
  readonly #hasNameTags: boolean;

  /** All three must count the same steps. `hasNameTags`: names in StatsD may hold tags. */
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
    const { json, influx, statsd } = this.#decoders;
    return [json, influx, statsd].find(({ isPaused }) => isPaused);
  }

  take(message: RawMessage, handler: SampleHandler): void {
    const { json } = this.#decoders;
    const { bytes, start, end } = message;
    const decoder =
      bytes[start] === OPEN_OBJECT ? json : this.#decoders[formatOf(bytes, start, end, this.#hasNameTags)];
    // The other decoders hand over at once, and no sample may overtake an earlier one.
    if (decoder !== json) json.flush(handler);
    decoder.take(message, handler);
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
  while (i < end && isSpace(bytes[i]!)) i++;
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

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === LF || byte === CR;
}
