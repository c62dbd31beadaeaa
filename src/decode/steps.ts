/**
 * What decoding costs, in steps: counted, not timed, so that the same messages pause at the same places on every
 * machine. A step is about a quarter of a microsecond: an element, a line, a field or a value of a known series.
 */

/** What a decoder may still do before it pauses. Whoever wants pauses refills it; at first there is no limit. */
export class Steps {
  left = Number.POSITIVE_INFINITY;
}

/**
 * A spelling that is not in the table takes this many steps, and one more for each of its bytes: it is parsed, sorted,
 * hashed and stored, which takes 10 to 15 us without dimensions, and 70 us with 40 short ones (200 bytes). Making a
 * series into which others are folded takes as many.
 */
export const NEW_SPELLING_STEPS = 60;
/** Rules that are looked at for a new spelling. */
export const GLOBS_PER_STEP = 4;
/** Why something is not a sample is found by reading it again. */
export const REJECTED_STEPS = 4;
/** An element or a field that is only found and not yet read. */
export const FOUND_STEPS = 0.25;
/** Reading takes a step for this many bytes, whatever they hold. So does unpacking, for the bytes that come of it. */
export const BYTES_PER_STEP = 32;
