import { samples } from '../counts.ts';
import { published } from './kind.ts';

const PER_SECOND = 200;
/** Every so many messages one is as long as the limits allow. */
const LONG_EVERY = 20;
/** Under the limit of 4,096 for a value, of 64 dimensions and of 32 KiB for all of a series together. */
const LONG = { dimensions: 8, bytes: 3_800 };
const SHORT = { dimensions: 8, bytes: 100 };

export default published({
  tries: 'a new series with every message, some as long as the limits allow, to fill the memory',
  perSecond: PER_SECOND,
  *messages() {
    for (let i = 0; ; i++) {
      const { dimensions, bytes } = i % LONG_EVERY === 0 ? LONG : SHORT;
      const tags = Array.from({ length: dimensions }, (_, k) => [`k${k}`, `${i}`.padStart(bytes, 'x')]);
      const sample = { name: `hostile.new.${i}`, type: 'counter', value: 1, tags: Object.fromEntries(tags) };
      yield { payload: JSON.stringify(sample), counts: samples('counter') };
    }
  },
});
