import { ahead, late } from '../counts.ts';
import { published } from './kind.ts';

const PER_SECOND = 200;
const YEAR_MS = 365 * 86_400_000;

export default published({
  tries: 'timestamps years ahead and behind, to have windows opened, closed or changed',
  perSecond: PER_SECOND,
  *messages() {
    for (;;) {
      const now = Date.now();
      for (const time of [now + YEAR_MS, Date.UTC(9999, 11, 31), now - YEAR_MS, 0]) {
        const timestamp = new Date(time).toISOString();
        const payload = JSON.stringify({ name: 'hostile.clock', type: 'gauge', value: 1, timestamp });
        yield { payload, counts: time > now ? ahead() : late() };
      }
    }
  },
});
