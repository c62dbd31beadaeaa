/** Finds rows of a window in a store under other keys than those that the window has. */
import type { Point } from '../../aggregate/point.ts';
import type { ClosedWindow } from '../../aggregate/window.ts';
import { isCheckProbe } from '../../sink/check-probe.ts';
import type { StoredPoint } from '../../sink/contract.ts';
import { type ChosenNames, nameMatcher } from '../name-choices.ts';

/** Returns the starts of the windows that rows belong to, in ascending order. */
export async function heldWindows(stored: AsyncIterable<StoredPoint>): Promise<number[]> {
  const starts = new Set<number>();
  for await (const { windowStart } of rowsOf('', stored)) starts.add(windowStart);
  return [...starts].sort((a, b) => a - b);
}

/**
 * Returns the rows under other keys, as points: `remove` takes these. `window`: undefined if it has no point. Rows of
 * names that the sink does not get (`names`; absent: it gets all) are left alone: others may have been given them.
 */
export async function straysOf(
  stored: AsyncIterable<StoredPoint>,
  window: ClosedWindow | undefined,
  {
    windowMs,
    instance,
    names,
  }: { readonly windowMs: number; readonly instance: string; readonly names?: ChosenNames | undefined },
): Promise<Point[]> {
  const isChosen = nameMatcher(names);
  const keys = new Set<string>();
  for (let i = 0; window !== undefined && i < window.size; i++) keys.add(window.point(i).series.id);
  const strays: Point[] = [];
  for await (const row of rowsOf(instance, stored))
    if (!keys.has(row.series.id) && isChosen(row.series.name)) strays.push({ ...row, windowMs });
  return strays;
}

async function* rowsOf(instance: string, stored: AsyncIterable<StoredPoint>): AsyncGenerator<StoredPoint> {
  for await (const row of stored) if (row.instance === instance && !isCheckProbe(row.series)) yield row;
}
