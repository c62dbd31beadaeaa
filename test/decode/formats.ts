/** Shared by the tests of the formats. */

import type { MetricType } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import type { Decoder } from '../../src/decode/decoder.ts';
import { type DecoderSettings, makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';

export interface Heard {
  readonly name: string;
  readonly type: MetricType;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly value: number;
  /** NaN if the message has none. */
  readonly time: number;
  readonly weight: number;
}

/** The result of a message: its rejection if it was rejected as a whole; otherwise samples, then rejections. */
export interface Given {
  readonly rejection: InputRejection | undefined;
  readonly elements: readonly (InputRejection | Heard)[];
}

export const SETTINGS: DecoderSettings = {
  metricsFormat: 'auto',
  metricsCounters: undefined,
  maxMessageBytes: 1_048_576,
};

/** One decoder for all messages. Each of them is surrounded by bytes that have a meaning in the format. */
export function decoding(settings: Partial<DecoderSettings>, table = new SeriesTable(1000)) {
  const decoder = makeDecoder(table, { ...SETTINGS, ...settings });
  return (message: string | Uint8Array): Given => decodeOne(decoder, table, message);
}

function decodeOne(decoder: Decoder, table: SeriesTable, message: string | Uint8Array): Given {
  const bytes = Buffer.from(message as string);
  const before = Buffer.from('a\\');
  const chunk = Buffer.concat([before, bytes, Buffer.from('1"=|#\n,b c=2 3\n')]);
  const elements: (InputRejection | Heard)[] = [];
  let rejection: InputRejection | undefined;
  const handler: Parameters<Decoder['flush']>[0] = {
    sample: ({ series, value, eventTime, weight }) => {
      const { name, type, dimensions } = table.series(series);
      elements.push({
        name,
        type,
        dimensions: Object.fromEntries(dimensions),
        value,
        time: eventTime,
        weight,
      });
    },
    rejected: (reason, _, count) => elements.push(...Array<InputRejection>(count).fill(reason)),
    rejectedMessage: (reason) => {
      if (rejection !== undefined) throw new Error('rejected twice');
      rejection = reason;
    },
  };
  decoder.take({ ...wholeMessage(chunk), start: before.length, end: before.length + bytes.length }, handler);
  decoder.flush(handler);
  return { rejection, elements };
}
