import type { Series } from '../../src/aggregate/point.ts';
import type { SeriesTable } from '../../src/aggregate/series-table.ts';
import type { Decoder, SampleHandler } from '../../src/decode/decoder.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import type { InputRejection } from '../../src/decode/rejection.ts';

/** The result of a message: its rejection as a whole, or a sample or a rejection for each element. */
export interface Decoded {
  readonly rejection: InputRejection | undefined;
  readonly elements: readonly (InputRejection | { series: Series; value: number; eventTime: number })[];
}

export function decodeWith(table: SeriesTable, message: string | Uint8Array): Decoded {
  const elements: Decoded['elements'][number][] = [];
  const bytes = typeof message === 'string' ? Buffer.from(message) : message;
  // The bytes around it would make it a different message if they were read.
  const padded = Buffer.concat([Buffer.from('{"name":"'), bytes, Buffer.from('"}]}1 ')]);
  const rejection = decodeMessage(new JsonDecoder(table), padded.subarray(9, 9 + bytes.length), {
    sample: ({ series, value, eventTime }) =>
      elements.push({ series: table.series(series), value, eventTime }),
    rejected: (reason, _, count) => elements.push(...Array<InputRejection>(count).fill(reason)),
  });
  return { rejection, elements };
}

/** The elements in the order that decoders report them: first the samples, then the rejections grouped by reason. */
export function grouped<T>(elements: readonly (T | InputRejection)[]): (T | InputRejection)[] {
  const rejected = elements.filter((element) => typeof element === 'string');
  const reasons = [...new Set(rejected)];
  return [
    ...elements.filter((element) => typeof element !== 'string'),
    ...reasons.flatMap((reason) => rejected.filter((each) => each === reason)),
  ];
}

/** Decodes a single message. If it was rejected as a whole, returns the reason. */
export function decodeMessage(
  decoder: Decoder,
  message: Uint8Array,
  handler: Pick<SampleHandler, 'sample' | 'rejected'>,
): InputRejection | undefined {
  let rejection: InputRejection | undefined;
  const whole = {
    ...handler,
    rejectedMessage: (reason: InputRejection) => {
      rejection = reason;
    },
  };
  decoder.take(wholeMessage(message), whole);
  decoder.flush(whole);
  return rejection;
}

/** A valid message except for one field, which is written as given. Undefined leaves it out. */
export function withField(field: string, json: string | undefined): string {
  const fields: Record<string, string | undefined> = { name: '"a"', type: '"counter"', value: '1' };
  fields[field] = json;
  const members = Object.entries(fields).filter(([, value]) => value !== undefined);
  return `{${members.map(([key, value]) => `"${key}":${value}`).join(',')}}`;
}

export const GOOD = withField('value', '1');
