import { samples } from '../counts.ts';
import { type Message, published } from './kind.ts';

const PER_SECOND = 3;
/** Of the only tag, which every field of the line has: nearly all that a value may have. */
const TAG_BYTES = 4_000;
/** With this tag, the series of the line come to 64 times its length, the limit: a megabyte would be 64. */
const FIELDS = 70;
const FIELDS_OF_LINE = Array.from({ length: FIELDS }, (_, i) => `f${i}=1`).join(',');

/** A line of 4.5 KB, whose series are 280 KB when spelled out. */
export function lineOf(name: string, number: number): string {
  return `${name},tag=${`${number}`.padStart(TAG_BYTES, 'x')} ${FIELDS_OF_LINE}`;
}

export function linesOf(name: string, from: number, lines: number): Message {
  const payload = Array.from({ length: lines }, (_, i) => lineOf(name, from + i)).join('\n');
  return { payload, counts: samples('gauge', lines * FIELDS) };
}

export default published({
  tries: 'lines of which each is many series with the same long tag, to make much memory out of few bytes',
  perSecond: PER_SECOND,
  *messages() {
    for (let i = 0; ; i++) yield linesOf('hostile.lines', i, 1);
  },
});
