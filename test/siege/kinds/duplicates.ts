import { NOT_STORED, samples } from '../counts.ts';
import { type Message, published } from './kind.ts';

const PER_SECOND = 500;
const payload = '{"name":"hostile.duplicate","type":"counter","value":1}';
const STORED: Message = { payload, counts: samples('counter') };
/** The stream knows the message by its id, or does not take it, or would have to forget all that it has. */
const REFUSED: readonly Message[] = [
  { 'Nats-Msg-Id': 'hostile' },
  { 'Nats-Rollup': 'all' },
  { 'Nats-Rollup': 'sub' },
  { 'Nats-Expected-Stream': 'OTHER' },
  { 'Nats-Expected-Last-Sequence': '999999999' },
  { 'Nats-Expected-Last-Msg-Id': 'another' },
].map((headers) => ({ payload, headers, counts: NOT_STORED }));

export default published({
  tries: 'the same message again and again, and headers that tell the stream what to do with it',
  perSecond: PER_SECOND,
  *messages() {
    yield { payload, headers: { 'Nats-Msg-Id': 'hostile' }, counts: samples('counter') };
    for (;;) {
      for (const refused of REFUSED) {
        yield STORED;
        yield refused;
      }
    }
  },
});
