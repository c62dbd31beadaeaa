/**
 * FANOUT_EFFORT: how much the tests with random cases do, as a share of what they do in `npm test`. `npm run dev` and
 * `npm run test:unit` ask for a fiftieth, so that they take seconds.
 */
const EFFORT = Number(process.env.FANOUT_EFFORT ?? 1);

/** The share of a number of cases, or of a time budget. At least 1. */
export function effort(whole: number): number {
  return Math.max(1, Math.round(whole * EFFORT));
}
