import { describe, expect, test } from 'vitest';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import { makeDecoder } from '../../src/decode/formats.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { SETTINGS } from './formats.ts';

function decoding(metricsCounters?: readonly string[]) {
  const table = new SeriesTable(10);
  const decoder = makeDecoder(table, { ...SETTINGS, metricsFormat: 'number', metricsCounters });
  return (text: string | Uint8Array, subject?: string) => {
    const given: unknown[] = [];
    const handler: Parameters<typeof decoder.flush>[0] = {
      sample: ({ series, value, eventTime, streamTime, sequence }) => {
        const { name, type, dimensionsJson } = table.series(series);
        given.push(`${type} ${name} ${dimensionsJson} ${value} ${eventTime} ${streamTime} ${sequence}`);
      },
      rejected: () => given.push('an element'),
      rejectedMessage: (reason) => given.push(reason),
    };
    const label = subject === undefined ? undefined : { subject };
    decoder.take(wholeMessage(Buffer.from(text as string), 5, 7), handler, label);
    return given;
  };
}

describe('a bare number', () => {
  const decode = decoding(['jobs.*.done']);

  test.each([
    ['42', 42],
    [' -1.5e3\r\n', -1500],
    ['+.5', 0.5],
    ['-0', 0],
    ['0123', 123],
    ['9007199254740993', 9007199254740992],
  ])('%j is a sample of the series with the name of the subject', (text, value) => {
    expect(decode(text, 'room.temp')).toEqual([`gauge room.temp {} ${value} NaN 5 7`]);
  });

  test('is a counter if its subject is listed, however often it is seen', () => {
    for (let i = 0; i < 3; i++)
      expect(decode('1', 'jobs.a.done')).toEqual(['counter jobs.a.done {} 1 NaN 5 7']);
    expect(decode('1', 'jobs.a.failed')).toEqual(['gauge jobs.a.failed {} 1 NaN 5 7']);
  });

  test.each([
    ['', 'a', 'empty'],
    [' \n', 'a', 'empty'],
    ['1 2', 'a', 'bad_value'],
    ['x', 'a', 'bad_value'],
    ['NaN', 'a', 'bad_value'],
    ['1e999', 'a', 'bad_value'],
    ['{"name":"a","type":"counter","value":1}', 'a', 'bad_value'],
    ['1'.repeat(1_048_577), 'a', 'too_large'],
    ['1', 'a'.repeat(513), 'too_long'],
    ['1', 'é'.repeat(257), 'too_long'],
    ['1', 'a\0', 'bad_name'],
    ['1', '', 'missing_name'],
    ['1', undefined, 'missing_name'],
  ])('%.20j on %.20j is rejected: %s', (text, subject, reason) => {
    expect(decode(text, subject)).toEqual([reason]);
  });

  test('subjects that begin alike are different series, also in a table that is full', () => {
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 50; i++) expect(decode('1', `s${i}`)).toEqual([`gauge s${i} {} 1 NaN 5 7`]);
    }
  });
});
