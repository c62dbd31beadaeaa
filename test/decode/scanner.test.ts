import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FAILED, Scanner } from '../../src/decode/scanner.ts';
import { effort } from '../effort.ts';
import { spelled } from './spelled.ts';

function scan<T>(text: string, read: (scanner: Scanner, start: number) => T): T {
  const bytes = new TextEncoder().encode(text);
  const scanner = new Scanner();
  return read(scanner, scanner.load(bytes, 0, bytes.length));
}

function numberIn(text: string): number | undefined {
  return scan(text, (scanner, start) =>
    scanner.readNumber(start) === text.length ? scanner.number : undefined,
  );
}

const TEXTS = effort(30_000);

describe('numbers are the same as those of JSON.parse to the last bit', () => {
  test('doubles in every notation', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.nat(20), (value, places) => {
        for (const text of [
          String(value),
          value.toExponential(),
          value.toExponential(places),
          value.toPrecision(places + 1),
        ]) {
          const json = text.replace('e+', 'e');
          expect([json, numberIn(json)]).toEqual([json, JSON.parse(json) + 0]);
        }
      }),
      { numRuns: effort(3000) },
    );
  });

  test('digits of any length', () => {
    const literal = fc.stringMatching(/^-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?$/);
    fc.assert(
      fc.property(literal, (json) => {
        expect([json, numberIn(json)]).toEqual([json, JSON.parse(json) + 0]);
      }),
      { numRuns: effort(5000) },
    );
  });

  test.each([
    '0',
    '-0',
    '-0.0',
    '0e9',
    '-0E-9',
    '999999999999999',
    '9007199254740993',
    '0.3',
    '5e-324',
    '2.2250738585072011e-308',
    '1e22',
    '123456789012.345',
    '0.000000000000001',
  ])('%s', (json) => expect(numberIn(json)).toBe(JSON.parse(json) + 0));

  test('too large for a double', () => {
    expect(numberIn('1e999')).toBe(Number.POSITIVE_INFINITY);
    expect(numberIn('-1e999')).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe('values', () => {
  const accepted = (text: string) =>
    scan(text, (scanner, start) => {
      const after = scanner.value(start, 0);
      return after !== FAILED && scanner.space(after) === text.length;
    });
  const isJson = (text: string) => {
    try {
      JSON.parse(text);
      return true;
    } catch {
      return false;
    }
  };

  test('any JSON value, spelled in any way, is read to its end', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: 'grapheme-ascii' }), spelled, (value, spell) => {
        expect(accepted(spell(value))).toBe(true);
      }),
      { numRuns: effort(1000) },
    );
  });

  test('a text of JSON tokens is accepted if and only if JSON.parse accepts it', () => {
    const token = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"',
      '1',
      '-',
      '.5',
      'e1',
      'true',
      'null',
      ' ',
      '\\',
      '{}',
      '[]',
      '"b":',
    );
    let good = 0;
    fc.assert(
      fc.property(fc.array(token, { maxLength: 9 }), (tokens) => {
        const text = tokens.join('');
        good += isJson(text) ? 1 : 0;
        expect([text, accepted(text)]).toEqual([text, isJson(text)]);
      }),
      { numRuns: TEXTS },
    );
    expect(good).toBeGreaterThan(TEXTS / 300);
  });
});

test('the next quote is found wherever it is, whatever the bytes before it, if three follow it', () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(bytes, bytes, fc.nat(9), (before, after, start) => {
      const quoted = Uint8Array.of(...before, 0x22, ...after);
      const scanner = new Scanner();
      scanner.load(quoted, 0, quoted.length);
      const first = quoted.indexOf(0x22, start);
      const found = scanner.quote(start);
      if (found !== FAILED || (first >= 0 && first + 4 <= quoted.length)) expect(found).toBe(first);
    }),
    { numRuns: effort(5000) },
  );
});
