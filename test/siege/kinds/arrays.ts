import { samples } from '../counts.ts';
import { type Message, published } from './kind.ts';

const PER_SECOND = 0.5;
/** A megabyte, the limit of a message. */
const ELEMENTS = 11_000;

/** As many elements as fit into a message, all of them new series. */
function arrayOf(message: number): Message {
  const elements = Array.from(
    { length: ELEMENTS },
    (_, i) => `{"name":"hostile.array.${message}","type":"counter","value":1,"tags":{"element":"${i}"}}`,
  );
  return { payload: `[${elements.join(',')}]`, counts: samples('counter', ELEMENTS) };
}

export default published({
  tries: 'a megabyte of new series in one message, to hold the thread that decodes',
  perSecond: PER_SECOND,
  *messages() {
    for (let i = 0; ; i++) yield arrayOf(i);
  },
});
