import { expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { inputOf, isKnownInput, makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { SETTINGS } from './formats.ts';

const table = new SeriesTable(10);
// Gauges and counters by subject are settings of other formats.
const decoder = makeDecoder(table, { ...SETTINGS, metricsFormat: 'counter', metricsCounters: ['other'] });

function decode(increment: string | undefined, subject = 'orders.eu', body = '{"val":"12"}') {
  const given: unknown[] = [];
  const handler: Parameters<typeof decoder.flush>[0] = {
    sample: ({ series, value, eventTime, streamTime, sequence }) => {
      const { name, type, dimensionsJson } = table.series(series);
      given.push(`${type} ${name} ${dimensionsJson} ${value} ${eventTime} ${streamTime} ${sequence}`);
    },
    rejected: () => given.push('an element'),
    rejectedMessage: (reason) => given.push(reason),
  };
  decoder.take(wholeMessage(Buffer.from(body), 5, 7), handler, { subject, increment });
  return given;
}

test.each([
  ['1', 1],
  ['+5', 5],
  ['-3', -3],
  ['0', 0],
  ['-0', 0],
  ['007', 7],
  [' 4 ', 4],
  ['9007199254740993', 9007199254740992],
  ['123456789012345678901234567890', 1.2345678901234568e29],
])('an increment of %j counts, and the total in the body does not', (increment, value) => {
  const expected = [`counter orders.eu {} ${value} NaN 5 7`];
  expect(decode(increment)).toEqual(expected);
  // As plain NATS has it, before a server has added it up.
  expect(decode(increment, 'orders.eu', '')).toEqual(expected);
});

test.each([
  [undefined, 'a', 'missing_increment'],
  ['', 'a', 'bad_value'],
  ['+', 'a', 'bad_value'],
  ['1.5', 'a', 'bad_value'],
  ['1e3', 'a', 'bad_value'],
  ['1,2', 'a', 'bad_value'],
  ['0x10', 'a', 'bad_value'],
  ['9'.repeat(400), 'a', 'bad_value'],
  ['1', '', 'missing_name'],
  ['1', 'a'.repeat(513), 'too_long'],
  ['1', 'a\0', 'bad_name'],
])('%.20j on %.20j is rejected: %s', (increment, subject, reason) => {
  expect(decode(increment, subject)).toEqual([reason]);
});

test('it is part of the shape of windows', () => {
  const shape = inputOf({ metricsFormat: 'counter', metricsCounters: undefined });
  expect(shape).toEqual({ format: 'counter' });
  expect(isKnownInput(shape)).toBe(true);
});
