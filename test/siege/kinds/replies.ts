import { ELSEWHERE } from '../../e2e/bus-users.ts';
import { samples } from '../counts.ts';
import { published, repeated } from './kind.ts';

const PER_SECOND = 100;
const payload = '{"name":"hostile.reply","type":"counter","value":1}';

export default published({
  tries: 'metrics whose acknowledgement is to be stored, published or obeyed elsewhere',
  perSecond: PER_SECOND,
  messages: repeated(
    [...ELSEWHERE, '_INBOX.fanout.hostile'].map((reply) => ({ payload, reply, counts: samples('counter') })),
  ),
});
