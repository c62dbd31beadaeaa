/** Sums of counters that are too large to be exact: a double has 53 bits for whole numbers. */
import type { Series } from '../aggregate/point.ts';
import { COUNTER } from '../aggregate/sample.ts';
import type { ClosedWindow } from '../aggregate/window.ts';

/** Adds such points of a window to `counted`, and tells the first of all. `isGiven`: which points count. */
export function lookForRounded(
  window: ClosedWindow,
  counted: { roundedSums: number },
  tell: (series: Series, sum: number) => void,
  isGiven: (index: number) => boolean = () => true,
): void {
  for (let i = 0; i < window.size; i++) {
    if (Math.abs(window.sumOf(i)) <= Number.MAX_SAFE_INTEGER || window.typeOf(i) !== COUNTER) continue;
    if (!isGiven(i)) continue;
    counted.roundedSums += 1;
    if (counted.roundedSums > 1) continue;
    const { series, sum } = window.point(i);
    tell(series, sum);
  }
}
