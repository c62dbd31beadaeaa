/** How a store behaves for a while: what becomes of a write, and with which weight. */

/**
 * What becomes of one write:
 * - take, crawl: applied and acknowledged, soon or after long;
 * - fail-before, fail-after, fail-part: answered with an error, of which none, all or some were applied;
 * - hang: no answer until the lane gives up; deaf: not even then; either may be applied much later;
 * - late: applied, and acknowledged after the lane has given up;
 * - partial: some are to be sent again; throttle: all, not before a while; refuse: the sink itself, until opened anew.
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
