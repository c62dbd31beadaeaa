/** The words of the wire format: the names of the fields and of the types. */
import { TYPE_CODES } from '../aggregate/sample.ts';
import { ascii, type Scanner } from './scanner.ts';

/** The fields of a sample, as bits of a set. */
export const NAME = 1;
export const TYPE = 2;
export const VALUE = 4;
export const DIMENSIONS = 8;
export const TIMESTAMP = 16;
export const UNKNOWN = 0;

/** Words and their codes, by the length of the word. */
type Words = readonly (readonly { readonly text: Uint8Array; readonly code: number }[])[];

export const SAMPLE_MEMBERS = wordsByLength({
  name: NAME,
  type: TYPE,
  value: VALUE,
  dimensions: DIMENSIONS,
  timestamp: TIMESTAMP,
  dims: DIMENSIONS,
  tags: DIMENSIONS,
  labels: DIMENSIONS,
});
export const TYPES = wordsByLength(TYPE_CODES);

/** Returns the code of the word that was just read; undefined if it is not one of `words`. */
export function wordAt(scanner: Scanner, words: Words, start: number, end: number): number | undefined {
  if (scanner.escaped) {
    const spelled = ascii(scanner.text(start, end, true));
    return words[spelled.length]?.find(({ text }) => Buffer.compare(text, spelled) === 0)?.code;
  }
  const candidates = words[end - start];
  if (candidates === undefined) return undefined;
  for (let i = 0; i < candidates.length; i++) {
    if (scanner.spells(start, end, candidates[i]!.text)) return candidates[i]!.code;
  }
  return undefined;
}

function wordsByLength(codes: Readonly<Record<string, number>>): Words {
  const words = Object.entries(codes).map(([word, code]) => ({ text: ascii(word), code }));
  const longest = Math.max(...words.map(({ text }) => text.length));
  return Array.from({ length: longest + 1 }, (_, length) =>
    words.filter(({ text }) => text.length === length),
  );
}
