/**
 * How thorough the tests are that draw their cases at random, as a share of what `npm test` does: FANOUT_EFFORT.
 * `npm run dev` and `npm run test:unit` ask for a fiftieth, so that their answer comes in seconds.
 */
const EFFORT = Number(process.env.FANOUT_EFFORT ?? 1);

/** Of a number of cases, or of a time budget. At least 1. */
export function effort(whole: number): number {
  return Math.max(1, Math.round(whole * EFFORT));
}
