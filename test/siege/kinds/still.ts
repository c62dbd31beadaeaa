import { once } from 'node:events';
import type { Kind } from './kind.ts';

/** Longer than a window: the lane fills up, and has to read the stream again. */
const DELAY = '20s';

const kind: Kind = {
  tries: 'a third store that stands still, so that its lane holds what it cannot write',
  env: {
    SINK_STILL_ENABLED: 'true',
    SINK_STILL_KIND: 'blackhole',
    SINK_STILL_DELAY: DELAY,
    SINK_STILL_TIMEOUT: '60s',
  },
  async run(_field, signal) {
    if (!signal.aborted) await once(signal, 'abort');
    return { done: 0, counts: {}, refused: 0, wrong: {} };
  },
};
export default kind;
