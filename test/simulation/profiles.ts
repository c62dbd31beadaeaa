/** How a store behaves for a while: the possible outcomes of a write, and their weights. */

/**
 * The outcome of one write:
 * - take, crawl: applied and acknowledged, soon or after a long time;
 * - fail-before, fail-after, fail-part: answered with an error, after none, all or some of the points were applied;
 * - hang: no answer until the lane gives up; deaf: not even then; both may be applied much later;
 * - late: applied, but acknowledged only after the lane has given up;
 * - partial: some points are to be retried; throttle: all of them, after a while;
 * - refuse: the sink itself is refused, until it is opened again.
 */
export type Fate =
  | 'take'
  | 'crawl'
  | 'fail-before'
  | 'fail-after'
  | 'fail-part'
  | 'hang'
  | 'deaf'
  | 'late'
  | 'partial'
  | 'throttle'
  | 'refuse';

export const PROFILES = [
  'healthy',
  'healthy',
  'slow',
  'flaky',
  'down',
  'hanging',
  'deaf',
  'lying',
  'late',
  'throttled',
  'stingy',
  'refusing',
  'anything',
] as const;
export type Profile = (typeof PROFILES)[number];

export const FATES: Readonly<Record<Profile, readonly (readonly [Fate, number])[]>> = {
  healthy: [['take', 1]],
  slow: [['crawl', 1]],
  flaky: [
    ['take', 5],
    ['fail-before', 2],
    ['fail-part', 1],
    ['partial', 2],
  ],
  down: [['fail-before', 1]],
  hanging: [['hang', 1]],
  deaf: [['deaf', 1]],
  lying: [
    ['fail-after', 3],
    ['fail-part', 2],
    ['late', 2],
    ['take', 1],
  ],
  late: [['late', 1]],
  throttled: [
    ['throttle', 3],
    ['take', 1],
  ],
  stingy: [['partial', 1]],
  refusing: [['refuse', 1]],
  anything: [
    ['take', 6],
    ['crawl', 1],
    ['fail-before', 1],
    ['fail-after', 1],
    ['fail-part', 1],
    ['hang', 1],
    ['deaf', 1],
    ['late', 1],
    ['partial', 2],
    ['throttle', 1],
    ['refuse', 1],
  ],
};
