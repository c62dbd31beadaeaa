/** (f) What each sink's encoder costs per point, without client and store. */

import { encodeItem } from '../../sinks/dynamodb/encode.ts';
import { encodePoint } from '../../sinks/influxdb/encode.ts';
import { toRow as toRedshiftRow } from '../../sinks/redshift/encode.ts';
import { toRow as toSqliteRow } from '../../sinks/sqlite/encode.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { manyPoints } from '../conformance/points.ts';
import { type Figure, figure } from './measure.ts';

const POINTS = 100_000;

const ENCODERS: Readonly<Record<string, (point: Point) => unknown>> = {
  influxdb: encodePoint,
  redshift: (point) => toRedshiftRow(point, false),
  dynamodb: (point) => encodeItem(point, undefined),
  sqlite: (point) => toSqliteRow(point, false),
};

export function measureEncoding(runs: number): Figure[] {
  const series = manyPoints(POINTS).map((point) => point.series);
  return Object.entries(ENCODERS).map(([sink, encode]) => {
    const costs: number[] = [];
    for (let run = 0; run <= runs; run++) {
      // As in a sink's thread: windows bring new points of the same series, which is one object there.
      const points = manyPoints(POINTS, run).map((point, i) => ({ ...point, series: series[i]! }));
      const before = process.threadCpuUsage();
      for (const point of points) encode(point);
      const { user, system } = process.threadCpuUsage(before);
      // The first run lets the engine compile what is hot.
      if (run > 0) costs.push(((user + system) * 1000) / POINTS);
    }
    return figure(`f ${sink}`, `encoding for ${sink}`, 'ns/point', costs);
  });
}
