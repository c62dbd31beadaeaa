import { Aggregator, type AggregatorOptions } from '../../src/aggregate/aggregator.ts';
import type { MetricType } from '../../src/aggregate/point.ts';
import { SeriesTable } from '../../src/aggregate/series-table.ts';
import type { Tiling } from '../../src/aggregate/tiling.ts';
import type { ClosedWindow } from '../../src/aggregate/window.ts';
import { JsonDecoder } from '../../src/decode/json.ts';
import { decodeMessage } from '../decode/decoded.ts';

export interface Decoded {
  readonly name: string;
  readonly type: MetricType;
  readonly value: number;
  readonly dimensions?: Readonly<Record<string, string>>;
}

/** The window at `start` with these samples, as the service makes it. */
export function closedWindow(
  samples: readonly Decoded[],
  tiling: Tiling,
  options: Partial<AggregatorOptions> = {},
  start = 0,
): ClosedWindow {
  const table = new SeriesTable(1000);
  const decoder = new JsonDecoder(table);
  const aggregator = new Aggregator(table, { tiling, from: Number.NEGATIVE_INFINITY, ...options });
  for (const sample of samples) {
    decodeMessage(decoder, Buffer.from(JSON.stringify(sample)), {
      sample: (each) => aggregator.add(each, start),
      rejected: (reason) => {
        throw new Error(reason);
      },
    });
  }
  return aggregator.closeAll()[0]!;
}
