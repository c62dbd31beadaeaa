/** Sums of counters that are too large to be exact: a double has 53 bits for whole numbers. */
import { COUNTER } from '../aggregate/sample.ts';
import type { ClosedWindow } from '../aggregate/window.ts';

/** Returns the numbers of such points. */
export function roundedIn(window: ClosedWindow): number[] {
  const rounded: number[] = [];
  for (let i = 0; i < window.size; i++) {
    if (Math.abs(window.sumOf(i)) > Number.MAX_SAFE_INTEGER && window.typeOf(i) === COUNTER) rounded.push(i);
  }
  return rounded;
}
