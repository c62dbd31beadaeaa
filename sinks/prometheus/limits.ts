/**
 * Limits of labels. VictoriaMetrics drops a series that exceeds one, and acknowledges it all the same: so the sink
 * rejects it before it is sent, and it is counted.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { FIELDS, type Point, type Rejection, type Series } from '../../src/sink/index.ts';
import type { Config } from './config.ts';
import { histogramOf, labelsOf, METRIC_LABEL, metricOf } from './names.ts';

/** 0: no limit. */
export interface LabelLimits {
  readonly maxLabels: number;
  readonly maxLabelBytes: number;
  readonly maxLabelNameBytes: number;
}

const NONE: LabelLimits = { maxLabels: 0, maxLabelBytes: 0, maxLabelNameBytes: 0 };
/** The defaults of VictoriaMetrics 1.151. */
const VICTORIA: LabelLimits = { maxLabels: 40, maxLabelBytes: 4096, maxLabelNameBytes: 256 };

/** All components of VictoriaMetrics say this in every answer, and neither Prometheus, Mimir nor Thanos does. */
export function isVictoria(headers: IncomingHttpHeaders): boolean {
  return headers['x-server-hostname'] !== undefined;
}

/** Returns the limits of the settings. Where these say nothing, the defaults of the server count. */
export function labelLimits(config: Config, ofVictoria: boolean): LabelLimits {
  const { maxLabels, maxLabelBytes, maxLabelNameBytes } = ofVictoria ? VICTORIA : NONE;
  return {
    maxLabels: config.maxLabels ?? maxLabels,
    maxLabelBytes: config.maxLabelBytes ?? maxLabelBytes,
    maxLabelNameBytes: config.maxLabelNameBytes ?? maxLabelNameBytes,
  };
}

/** How much the labels of a series take, at most, with that of its metric. */
type Extent = LabelLimits;

const extents = new WeakMap<Series, { readonly own: Config['labels']; readonly extent: Extent }>();

/** Keeps the extent of series without an instance, which are all series except in core mode. */
function extentOf({ series, instance }: Point, own: Config['labels']): Extent {
  const found = extents.get(series);
  if (instance === '' && found?.own === own) return found.extent;
  const labels = labelsOf(series, instance, own);
  const fields = FIELDS[series.type].map((field) => metricOf(series, field));
  const metrics = series.type === 'timer' ? [...fields, histogramOf(series)] : fields;
  const longest = (texts: readonly string[]) =>
    texts.reduce((most, text) => Math.max(most, Buffer.byteLength(text)), 0);
  const extent: Extent = {
    maxLabels: labels.length + 1,
    maxLabelBytes: longest([...metrics, ...labels.map(([, value]) => value)]),
    maxLabelNameBytes: longest([METRIC_LABEL, ...labels.map(([name]) => name)]),
  };
  if (instance === '') extents.set(series, { own, extent });
  return extent;
}

/** What each limit is called: in words, in VictoriaMetrics, and here. */
const NAMES: readonly (readonly [limit: keyof LabelLimits, words: string, flag: string, setting: string])[] =
  [
    ['maxLabels', 'labels', '-maxLabelsPerTimeseries', 'MAX_LABELS'],
    ['maxLabelBytes', 'bytes in a label', '-maxLabelValueLen', 'MAX_LABEL_BYTES'],
    ['maxLabelNameBytes', 'bytes in the name of a label', '-maxLabelNameLen', 'MAX_LABEL_NAME_BYTES'],
  ];

/** Returns why the point exceeds the limits; undefined if it does not. */
export function excess(
  point: Point,
  own: Config['labels'],
  limits: LabelLimits,
): Omit<Rejection, 'index'> | undefined {
  if (NAMES.every(([limit]) => limits[limit] === 0)) return undefined;
  const extent = extentOf(point, own);
  for (const [limit, words, flag, setting] of NAMES) {
    if (limits[limit] === 0 || extent[limit] <= limits[limit]) continue;
    const message = `${extent[limit]} ${words}, of at most ${limits[limit]}: the server would drop the point in silence. Raise ${flag} of VictoriaMetrics and then ${setting}`;
    return { reason: 'too_large', message };
  }
  return undefined;
}
