import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TimestampReader } from '../../src/decode/timestamp.ts';
import { expectedTime } from '../aggregate/oracle.ts';
import { effort } from '../effort.ts';

/** Shared by all tests: what it read before must not matter. */
const reader = new TimestampReader();

function parse(text: string): number {
  // The bytes around the text must not be read.
  const bytes = new TextEncoder().encode(`0${text}0`);
  return reader.read(new DataView(bytes.buffer), 1, bytes.length - 1);
}

const digits = (n: number, length = 2) => String(n).padStart(length, '0');

test.each([
  ['1970-01-01T00:00:00Z', 0],
  ['1969-12-31T23:59:59.9995Z', -1],
  ['1969-12-31T23:59:59.999Z', -1],
  ['1969-12-31T23:59:59.0001Z', -1000],
  ['2026-11-23T01:30:00.123456789Z', Date.UTC(2026, 10, 23, 1, 30, 0, 123)],
  ['2026-11-23t01:30:00.9z', Date.UTC(2026, 10, 23, 1, 30, 0, 900)],
  ['2026-11-23T01:30:00.12Z', Date.UTC(2026, 10, 23, 1, 30, 0, 120)],
  [`2026-11-23T01:30:00.${'9'.repeat(400)}Z`, Date.UTC(2026, 10, 23, 1, 30, 0, 999)],
  ['2026-11-23T01:30:00+05:30', Date.UTC(2026, 10, 22, 20, 0, 0)],
  ['2026-11-23T01:30:00-00:00', Date.UTC(2026, 10, 23, 1, 30, 0)],
  ['2026-12-31T23:59:60Z', Date.UTC(2027, 0, 1)],
  ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
  ['2000-02-29T00:00:00Z', Date.UTC(2000, 1, 29)],
  ['0001-01-01T00:00:00Z', -62_135_596_800_000],
  ['0000-01-01T00:00:00Z', -62_167_219_200_000],
  ['9999-12-31T23:59:59.999Z', 253_402_300_799_999],
])('%s', (text, expected) => {
  expect(parse(text)).toBe(expected);
});

test.each([
  '',
  '2026-11-23',
  '2026-11-23T01:30:00',
  '2026-11-23 01:30:00Z',
  '2026-11-23T01:30Z',
  '2026-11-23T01:30:00.Z',
  '2026-11-23T01:30:00,5Z',
  '2026-11-23T01:30:00.5',
  '2026-11-23T01:30:00ZZ',
  '2026-11-23T01:30:00+0530',
  '2026-11-23T01:30:00+05',
  '2026-11-23T01:30:00+24:00',
  '2026-11-23T01:30:00+05:60',
  '2026-11-23T01:30:00*05:30',
  '2026-00-23T01:30:00Z',
  '2026-13-23T01:30:00Z',
  '2026-11-00T01:30:00Z',
  '2026-11-31T01:30:00Z',
  '2026-02-29T01:30:00Z',
  '1900-02-29T01:30:00Z',
  '2026-11-23T24:00:00Z',
  '2026-11-23T01:60:00Z',
  '2026-11-23T01:30:61Z',
  '2026/11/23T01:30:00Z',
  '20a6-11-23T01:30:00Z',
  '-026-11-23T01:30:00Z',
  '12026-11-23T01:30:00Z',
  '2026-11-23T01-30:00Z',
  '2026-11-23T01:30-00Z',
])('"%s" is not a timestamp', (text) => {
  expect(parse(text)).toBeNaN();
});

test('a remembered minute is not mistaken for another one, nor a bad one for a good one', () => {
  for (const text of [
    '2026-11-23T01:30:00Z',
    '2026-11-23T01:31:00Z',
    '2025-11-23T01:31:00Z',
    '2026-12-23T01:31:00Z',
  ]) {
    expect(parse(text)).toBe(Date.parse(text));
    expect(parse(text.replace(':00Z', ':59.5Z'))).toBe(Date.parse(text) + 59_500);
    for (const bad of [text.replace('-23T', '-32T'), text.replace('T01', 'T24')]) {
      expect(parse(bad)).toBeNaN();
      expect(parse(bad)).toBeNaN();
    }
  }
});

test('a fraction has digits only, at any place', () => {
  for (const time of ['2026-11-23T01:30:00.123456789', '2026-11-23T01:30:00.12345678901'])
    for (let at = time.indexOf('.') + 1; at < time.length; at++)
      for (let byte = 0; byte < 128; byte++) {
        const other = String.fromCharCode(byte);
        const text = `${time.slice(0, at)}${other}${time.slice(at + 1)}Z`;
        const expected = /\d/.test(other) ? expectedTime(text) : Number.NaN;
        if (!Object.is(parse(text), expected)) expect([text, parse(text)]).toEqual([text, expected]);
      }
});

test('any time in any zone is the same as with Date', () => {
  const time = fc.record({
    date: fc.date({
      noInvalidDate: true,
      min: new Date(-62_167_132_800_000),
      max: new Date(253_402_214_399_999),
    }),
    fraction: fc.option(fc.stringMatching(/^[0-9]{1,12}$/)),
    sign: fc.constantFrom('+', '-'),
    hours: fc.nat(23),
    minutes: fc.nat(59),
    utc: fc.constantFrom('Z', 'z', undefined, undefined),
  });
  fc.assert(
    fc.property(time, ({ date, fraction, sign, hours, minutes, utc }) => {
      const zone = utc ?? `${sign}${digits(hours)}:${digits(minutes)}`;
      const text = `${date.toISOString().slice(0, 19)}${fraction === null ? '' : `.${fraction}`}${zone}`;
      expect(parse(text)).toBe(expectedTime(text));
    }),
    { numRuns: effort(2000) },
  );
});

test('every day of 800 years', () => {
  for (let time = Date.UTC(1600, 0, 1); time < Date.UTC(2400, 0, 1); time += 86_400_000) {
    const text = new Date(time).toISOString();
    if (parse(text) !== time) expect([text, parse(text)]).toEqual([text, time]);
  }
});
