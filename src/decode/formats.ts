import type { SeriesTable } from '../aggregate/series-table.ts';
import { AutoDecoder } from './auto.ts';
import type { Decoder } from './decoder.ts';
import { JsonDecoder } from './json.ts';
import { LineProtocolDecoder } from './line-protocol.ts';
import { StatsdDecoder } from './statsd.ts';
import { Steps } from './steps.ts';

/** The wire formats. `auto` detects that of each message from how it begins. */
export const FORMATS = ['auto', 'json', 'influx', 'statsd'] as const;
export type Format = (typeof FORMATS)[number];

/** The settings on which the meaning of a message depends. */
export interface DecoderSettings {
  readonly metricsFormat: Format;
  /** Globs for the names of the series that are counters in line protocol. */
  readonly metricsCounters: readonly string[] | undefined;
  readonly maxMessageBytes: number;
}

export function makeDecoder(table: SeriesTable, settings: DecoderSettings): Decoder {
  const { metricsFormat, metricsCounters: counters = [], maxMessageBytes } = settings;
  const options = { maxMessageBytes, steps: new Steps() };
  const json = new JsonDecoder(table, options);
  const influx = new LineProtocolDecoder(table, { ...options, counters });
  const statsd = new StatsdDecoder(table, options);
  switch (metricsFormat) {
    case 'auto':
      return new AutoDecoder({ json, influx, statsd });
    case 'json':
      return json;
    case 'influx':
      return influx;
    case 'statsd':
      return statsd;
  }
}
