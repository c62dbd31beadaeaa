import { METRIC_TYPES, type MetricType, type Series } from '../aggregate/point.ts';
import { FILTERED } from '../aggregate/sample.ts';
import { SeriesTable } from '../aggregate/series-table.ts';
import type { Decoder, SampleHandler } from '../decode/decoder.ts';
import { decompress } from '../decode/encoding.ts';
import { type DecoderSettings, makeDecoder } from '../decode/formats.ts';
import { type MessageLabel, wholeMessage } from '../decode/raw-message.ts';
import type { InputRejection } from '../decode/rejection.ts';

/** How many series to remember. When there are more, forgotten series are parsed again. */
const KEPT_SERIES = 20_000;

export interface TappedSample {
  readonly series: Series;
  readonly type: MetricType;
  readonly value: number;
  /** In ms since 1970; NaN if the message has none. */
  readonly eventTime: number;
  /** See `Sample.weight`. */
  readonly weight: number;
}

/**
 * What the service would read in a message: its samples, and how many parts of it would be rejected for which reason.
 */
export interface Contents {
  readonly samples: readonly TappedSample[];
  readonly rejections: ReadonlyMap<InputRejection, number>;
}

export class TapDecoder {
  readonly #table = new SeriesTable(KEPT_SERIES);
  readonly #maxMessageBytes: number;
  readonly #decoder: Decoder;

  constructor(settings: DecoderSettings) {
    this.#maxMessageBytes = settings.maxMessageBytes;
    this.#decoder = makeDecoder(this.#table, settings);
  }

  /** Decodes a message. `encoding` is the value of its header `Content-Encoding`. */
  decode(payload: Uint8Array, encoding?: string, label?: MessageLabel): Contents {
    const plain = encoding === undefined ? payload : decompress(payload, encoding, this.#maxMessageBytes);
    if (typeof plain === 'string') return { samples: [], rejections: new Map([[plain, 1]]) };
    return this.#decode(plain, label);
  }

  #decode(payload: Uint8Array, label?: MessageLabel): Contents {
    const samples: TappedSample[] = [];
    const rejections = new Map<InputRejection, number>();
    const handler: SampleHandler = {
      sample: ({ series: number, type, value, eventTime, weight }) => {
        if (number === FILTERED) return;
        const series = this.#table.series(number);
        samples.push({ series, type: METRIC_TYPES[type]!, value, eventTime, weight });
      },
      rejected: (reason, _, count) => rejections.set(reason, count),
      rejectedMessage: (reason) => rejections.set(reason, 1),
    };
    this.#decoder.take(wholeMessage(payload), handler, label);
    this.#decoder.flush(handler);
    return { samples, rejections };
  }
}
