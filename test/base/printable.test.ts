import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { matchesGlob } from '../../src/aggregate/glob.ts';
import { printable, printableJson } from '../../src/base/printable.ts';
import { effort } from '../effort.ts';
import { workOf } from '../work.ts';

/** Several times what it takes. Trying every way to match would never end. */
const MAX_WORK = 500;

test('a glob matches what the regular expression that it stands for matches', () => {
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
    { numRuns: effort(2000) },
  );
});

test('a glob that is made to be slow is not', () => {
  const slow = () => expect(matchesGlob(`${'*a'.repeat(30)}*b`, 'a'.repeat(4096))).toBe(false);
  expect(workOf(slow, MAX_WORK)).toBeLessThan(MAX_WORK);
});

test('escapes what acts on a terminal, and leaves everything else as it is', () => {
  expect(printable('\x1b]0;owned\x07\u009b31m\r\n\t\u202etxt.exe\ud800x')).toBe(
    '\\u001b]0;owned\\u0007\\u009b31m\\u000d\\u000a\\u0009\\u202etxt.exe\\ud800x',
  );
  expect(printable('http.requests ü 漢字 😀')).toBe('http.requests ü 漢字 😀');
});

const INVISIBLE = [
  ['a soft hyphen', '\u00ad', '\\u00ad'],
  ['a zero width space', '\u200b', '\\u200b'],
  ['a joiner', '\u200d', '\\u200d'],
  ['a word joiner', '\u2060', '\\u2060'],
  ['an invisible times', '\u2062', '\\u2062'],
  ['an annotation', '\ufff9', '\\ufff9'],
  ['a tag', '\u{e0061}', '\\udb40\\udc61'],
  ['a filler', '\u3164', '\\u3164'],
  ['a variation selector', '\ufe0f', '\\ufe0f'],
  ['a grapheme joiner', '\u034f', '\\u034f'],
] as const;

test.each(INVISIBLE)('%s is escaped, so that two names never look alike', (_, character, shown) => {
  expect(printable(`a${character}b`)).toBe(`a${shown}b`);
  const json = printableJson({ name: `a${character}b` });
  expect(json).toContain(shown);
  expect(JSON.parse(json)).toEqual({ name: `a${character}b` });
});

test('the dashboard shows names by the same rule', async () => {
  const { setText, setAttribute } = await import(
    fileURLToPath(new URL('../../src/observe/page/dom.js', import.meta.url))
  );
  const attributes = new Map<string, string>();
  const element = {
    textContent: '',
    getAttribute: (name: string) => attributes.get(name) ?? null,
    setAttribute: (name: string, value: string) => attributes.set(name, value),
  };
  for (const text of [
    'plain ü 漢字 😀',
    '\u202etxt',
    ...INVISIBLE.map(([, character]) => `a${character}b`),
  ]) {
    setText(element, text);
    expect(element.textContent).toBe(printable(text));
    setAttribute(element, 'title', text);
    expect(attributes.get('title')).toBe(printable(text));
  }
});
