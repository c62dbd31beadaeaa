/** A message as `tail` shows it, one line for each sample. Nothing in it acts on a terminal. */
import { printable, printableJson } from '../base/printable.ts';
import { REJECTION_TEXTS } from '../decode/rejection.ts';
import { type Filters, hasFilters, matchesFilters } from './filters.ts';
import type { TapDecoder } from './tap-decoder.ts';

/** How many bytes to show of a message that is not a sample. */
const SHOWN_BYTES = 200;

export interface Received {
  readonly payload: Uint8Array;
  readonly subject: string;
  /** Time of arrival, or stream time, in ms since 1970. */
  readonly time: number;
  /** Sequence in the stream, if the message was read from there. */
  readonly sequence: number | undefined;
  readonly encoding?: string | undefined;
  readonly contentType?: string | undefined;
  readonly increment?: string | undefined;
}

/** What `tail` shows of a message. */
export interface Shown extends Filters {
  /** Only what is rejected. */
  readonly rejected?: true;
}

/** Returns the lines of a message. With filters, rejected parts are left out, because they have no series to match. */
export function linesOf(message: Received, decoder: TapDecoder, shown: Shown, asJson: boolean): string[] {
  const { samples, rejections } = decoder.decode(message.payload, message.encoding, message);
  const { subject, sequence } = message;
  const time = new Date(message.time).toISOString();
  const lines = samples
    .filter(({ series }) => !shown.rejected && matchesFilters(shown, series))
    .map(({ series, type, value, eventTime, weight }) => {
      const { name, dimensions, dimensionsJson } = series;
      const times = weight === 1 ? '' : ` (${weight} times)`;
      if (!asJson) return printable(`${time} ${subject} ${type} ${name} ${value}${times} ${dimensionsJson}`);
      const event_time = Number.isNaN(eventTime) ? null : new Date(eventTime).toISOString();
      const sample = { name, type, value, dimensions: Object.fromEntries(dimensions), event_time };
      const weighed = weight === 1 ? sample : { ...sample, weight };
      return printableJson({ time, subject, sequence, ...weighed });
    });
  if (rejections.size === 0 || hasFilters(shown)) return lines;
  const start = Buffer.from(message.payload.subarray(0, SHOWN_BYTES)).toString('utf8');
  for (const rejected of rejections.keys()) {
    const why = REJECTION_TEXTS[rejected];
    lines.push(
      asJson
        ? printableJson({ time, subject, sequence, rejected, why, message: start })
        : printable(`${time} ${subject} rejected, ${rejected} (${why}): ${start}`),
    );
  }
  return lines;
}
