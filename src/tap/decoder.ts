import { METRIC_TYPES, type MetricType, type Series } from '../aggregate/point.ts';
import { SeriesTable } from '../aggregate/series-table.ts';
import type { SampleHandler } from '../decode/decoder.ts';
import { JsonDecoder } from '../decode/json.ts';
import type { Rejection } from '../decode/rejection.ts';

/** Series that are remembered; of more, those that were not seen lately are read anew. */
const KEPT_SERIES = 20_000;

export interface Heard {
  readonly series: Series;
  readonly type: MetricType;
  readonly value: number;
  /** In ms since 1970; NaN where the message has none. */
  readonly eventTime: number;
}

/** A message as the service would take it: its samples, and why parts of it would be rejected. */
export interface Contents {
  readonly samples: readonly Heard[];
  readonly rejections: readonly Rejection[];
}

export class TapDecoder {
  readonly #table = new SeriesTable(KEPT_SERIES);
  readonly #decoder: JsonDecoder;

  constructor(maxMessageBytes: number) {
    this.#decoder = new JsonDecoder(this.#table, { maxMessageBytes });
  }

  decode(payload: Uint8Array): Contents {
    const samples: Heard[] = [];
    const rejections: Rejection[] = [];
    const handler: SampleHandler = {
      sample: ({ series, type, value, eventTime }) => {
        samples.push({ series: this.#table.series(series), type: METRIC_TYPES[type]!, value, eventTime });
      },
      rejected: (reason) => rejections.push(reason),
      rejectedMessage: (reason) => rejections.push(reason),
    };
    this.#decoder.take(payload, 0, payload.length, 0, 0, handler);
    this.#decoder.flush(handler);
    return { samples, rejections };
  }
}
