import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printable } from '../../src/base/printable.ts';
import { matchesGlob } from '../../src/decode/glob.ts';
import { workOf } from '../work.ts';

/** Several times what it is; what tries all ways is without end. */
const MAX_WORK = 500;

test('a glob matches as the regular expression that it stands for', () => {
  const letters = fc.constantFrom('a', 'b', '.');
  const pattern = fc.array(fc.oneof(letters, fc.constantFrom('*', '?')), { maxLength: 8 });
  const text = fc.array(letters, { maxLength: 10 });
  fc.assert(
    fc.property(pattern, text, (parts, given) => {
      const spelled = new Map([
        ['*', '.*'],
        ['?', '.'],
        ['.', '\\.'],
      ]);
      const source = parts.map((part) => spelled.get(part) ?? part).join('');
      expect(matchesGlob(parts.join(''), given.join(''))).toBe(
        new RegExp(`^${source}$`, 's').test(given.join('')),
      );
    }),
    { numRuns: 2000 },
  );
});

test('a glob made to be slow is not', () => {
  const slow = () => expect(matchesGlob(`${'*a'.repeat(30)}*b`, 'a'.repeat(4096))).toBe(false);
  expect(workOf(slow, MAX_WORK)).toBeLessThan(MAX_WORK);
});

test('nothing that acts on a terminal is left, and everything else is', () => {
  expect(printable('\x1b]0;owned\x07\u009b31m\r\n\t\u202etxt.exe\ud800x')).toBe(
    '\\u001b]0;owned\\u0007\\u009b31m\\u000d\\u000a\\u0009\\u202etxt.exe\\ud800x',
  );
  expect(printable('http.requests ü 漢字 😀')).toBe('http.requests ü 漢字 😀');
});
