import { published } from './kind.ts';
import { linesOf } from './line-protocol.ts';

const PER_SECOND = 0.5;
/** A megabyte. */
const LINES = 230;

export default published({
  tries:
    'a megabyte of such lines, 64 MB when spelled out, which is beyond every budget: others are folded with it',
  isExtra: true,
  perSecond: PER_SECOND,
  *messages() {
    for (let i = 0; ; i += LINES) yield linesOf('hostile.beyond', i, LINES);
  },
});
