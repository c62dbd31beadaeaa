/** Points as a remote write 1.0 request: protobuf, not yet compressed. A sample's time is the start of its window. */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { FIELDS, type Point, type Series } from '../../src/sink/index.ts';
import { hasHistogram, writeHistogram } from './histogram.ts';
import { histogramOf, type Label, labelsOf, METRIC_LABEL, metricOf } from './names.ts';

/** Field numbers of prometheus.WriteRequest and the messages in it. */
const REQUEST = { timeseries: 1 } as const;
const TIME_SERIES = { labels: 1, samples: 2, histograms: 4 } as const;
const LABEL = { name: 1, value: 2 } as const;
const SAMPLE = { value: 1, timestamp: 2 } as const;

type OwnLabels = Readonly<Record<string, string>>;

/**
 * Encodes every series once, with its samples in order of time, as the protocol requires. `histograms`: timers with a
 * sketch also have a native histogram, as one more series.
 */
export function encodeRequest(points: readonly Point[], own: OwnLabels, histograms: boolean): Uint8Array {
  const rows = new Map<string, Point[]>();
  for (const point of points) {
    const key = `${point.series.id} ${point.instance}`;
    const found = rows.get(key);
    if (found === undefined) rows.set(key, [point]);
    else found.push(point);
  }
  const writer = new BinaryWriter();
  for (const samples of rows.values()) {
    samples.sort((a, b) => a.windowStart - b.windowStart);
    writeSeries(writer, samples, own);
    const taken = histograms ? samples.filter(hasHistogram) : [];
    if (taken.length > 0) writeHistograms(writer, taken, own);
  }
  return writer.finish();
}

function writeSeries(writer: BinaryWriter, samples: readonly Point[], own: OwnLabels): void {
  const { series, instance } = samples[0]!;
  const { before, after } = encodedLabels(series, instance, own);
  for (const field of FIELDS[series.type]) {
    writer.tag(REQUEST.timeseries, WireType.LengthDelimited).fork();
    writer.raw(before);
    writeLabel(writer, [METRIC_LABEL, metricOf(series, field)]);
    writer.raw(after);
    for (const point of samples) {
      writer.tag(TIME_SERIES.samples, WireType.LengthDelimited).fork();
      writer.tag(SAMPLE.value, WireType.Bit64).double(point[field] ?? 0);
      writer.tag(SAMPLE.timestamp, WireType.Varint).int64(point.windowStart);
      writer.join();
    }
    writer.join();
  }
}

function writeHistograms(writer: BinaryWriter, samples: readonly Point[], own: OwnLabels): void {
  const { series, instance } = samples[0]!;
  const { before, after } = encodedLabels(series, instance, own);
  writer.tag(REQUEST.timeseries, WireType.LengthDelimited).fork();
  writer.raw(before);
  writeLabel(writer, [METRIC_LABEL, histogramOf(series)]);
  writer.raw(after);
  for (const point of samples) {
    writer.tag(TIME_SERIES.histograms, WireType.LengthDelimited).fork();
    writeHistogram(writer, point);
    writer.join();
  }
  writer.join();
}

/** Labels are sorted by name, so some come before the label of the metric and some after it. */
interface EncodedLabels {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

const encoded = new WeakMap<Series, { readonly own: OwnLabels; readonly labels: EncodedLabels }>();

/** Keeps the labels of series without an instance, which are all series except in core mode. */
function encodedLabels(series: Series, instance: string, own: OwnLabels): EncodedLabels {
  const found = encoded.get(series);
  if (instance === '' && found?.own === own) return found.labels;
  const labels = labelsOf(series, instance, own);
  const isBefore = ([name]: Label) => name < METRIC_LABEL;
  const made = {
    before: encodeLabels(labels.filter(isBefore)),
    after: encodeLabels(labels.filter((label) => !isBefore(label))),
  };
  if (instance === '') encoded.set(series, { own, labels: made });
  return made;
}

function encodeLabels(labels: readonly Label[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const label of labels) writeLabel(writer, label);
  return writer.finish();
}

function writeLabel(writer: BinaryWriter, [name, value]: Label): void {
  writer.tag(TIME_SERIES.labels, WireType.LengthDelimited).fork();
  writer.tag(LABEL.name, WireType.LengthDelimited).string(name);
  writer.tag(LABEL.value, WireType.LengthDelimited).string(value);
  writer.join();
}
