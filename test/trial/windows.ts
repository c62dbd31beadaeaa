/** Windows from points, as the aggregator would make them. */
import { FIELDS, type Point } from '../../src/aggregate/point.ts';
import { SeriesRecords } from '../../src/aggregate/series-records.ts';
import { ClosedWindow } from '../../src/aggregate/window.ts';

/** A window for each start, with the points in their order. */
export function windowsOf(points: readonly Point[]): ClosedWindow[] {
  const records = new SeriesRecords();
  const byStart = Map.groupBy(points, ({ windowStart }) => windowStart);
  return [...byStart]
    .sort(([a], [b]) => a - b)
    .map(([start, some]) => {
      const values: number[] = [];
      const rows = some.map((point) => {
        const row = values.length;
        for (const field of FIELDS[point.series.type]) values.push(point[field] ?? 0);
        return row;
      });
      return new ClosedWindow({
        start,
        windowMs: some[0]!.windowMs,
        instance: '',
        records,
        refs: Uint32Array.from(some, ({ series }) => records.add(series)),
        rows: Uint32Array.from(rows),
        values: Float64Array.from(values),
      });
    });
}
