/** Windows for the sink of told.ts. */
import { makeSeries } from '../../../src/aggregate/series.ts';
import { SeriesRecords } from '../../../src/aggregate/series-records.ts';
import { ClosedWindow } from '../../../src/aggregate/window.ts';
import { WindowBatch } from '../../../src/deliver/lane/batch.ts';

/** Counters with these names. */
export function windowOf(
  start: number,
  names: readonly string[],
  records = new SeriesRecords(),
): ClosedWindow {
  const refs = Uint32Array.from(names, (name, i) =>
    records.add(
      makeSeries(name, 'counter', [
        ['10', `${i}`],
        ['9', 'ü"\n'],
      ]),
    ),
  );
  const rows = Uint32Array.from(names, (_, i) => 1 + 2 * i);
  const values = Float64Array.from([0, ...names.flatMap((_, i) => [i + 1, start + i / 3])]);
  return new ClosedWindow({ start, windowMs: 10, instance: 'i', records, refs, rows, values });
}

/** All points of the window. */
export const wholeBatch = (window: ClosedWindow) =>
  new WindowBatch(
    window,
    Uint32Array.from(window.refs, (_, i) => i),
  );
