import { samples } from '../counts.ts';
import { type Message, published } from './kind.ts';

const PER_SECOND = 500;
/** Every so many messages one is an array. */
const ARRAY_EVERY = 2_000;
const ELEMENTS = 5_000;
const CHARACTERS = 24;

/** The same series in yet another spelling: each bit says how a character is written. */
function spelling(number: number): string {
  const characters = Array.from({ length: CHARACTERS }, (_, bit) => ((number >> bit) & 1 ? '\\u0061' : 'a'));
  return `{"name":"hostile.similar","type":"counter","value":1,"tags":{"a":"${characters.join('')}"}}`;
}

function arrayOf(from: number): Message {
  const elements = Array.from({ length: ELEMENTS }, (_, i) => spelling(from + i));
  return { payload: `[${elements.join(',')}]`, counts: samples('counter', ELEMENTS) };
}

export default published({
  tries: 'one series in ever new spellings, all of which look alike, to fill the table of spellings',
  perSecond: PER_SECOND,
  *messages() {
    for (let i = 0, number = 0; ; i++) {
      const isArray = i % ARRAY_EVERY === 0;
      yield isArray ? arrayOf(number) : { payload: spelling(number), counts: samples('counter') };
      number += isArray ? ELEMENTS : 1;
    }
  },
});
