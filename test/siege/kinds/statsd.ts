import { partly } from '../counts.ts';
import { published, repeated } from './kind.ts';

const PER_SECOND = 50;
const VALUES = 2_000;
const LINES = [
  'hostile.statsd:1:2:3|c|#a:b',
  `hostile.statsd:${Array.from({ length: VALUES }, (_, i) => i).join(':')}|ms|#a:b`,
  'hostile.statsd:1|c|@0.1',
  'hostile.statsd:1|c|@7',
  'hostile.statsd:1|s',
  'hostile.statsd:+1|g',
  '_e{1,1}:a|b',
  'noise',
];

export default published({
  tries: 'StatsD with thousands of values in a line, and with everything in it that is no metric',
  perSecond: PER_SECOND,
  messages: repeated([
    {
      payload: LINES.join('\n'),
      counts: partly(
        { bad_sample_rate: 1, set: 1, delta_gauge: 1, not_a_metric: 1, not_statsd: 1 },
        { 'samples: counter': 4, 'samples: timer': VALUES },
      ),
    },
  ]),
});
