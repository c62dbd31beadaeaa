/**
 * Names and labels as Prometheus has them, and back. The name of a metric holds only letters, digits, `_` and `:`; that
 * of a label does not even hold `:`. So:
 *
 *   - every field of a point is a metric, `<name>_<field>`, in which any other character becomes `_`; the label `name`
 *     holds the original name;
 *   - a dimension is a label; a key that is not a label name, or is one of ours or of Prometheus's own, is escaped as
 *     Prometheus itself escapes names: `U__`, then `__` for `_`, and `_<hex code point>_` for what does not fit;
 *   - values are escaped the same way if they have half of a surrogate pair (which UTF-8 cannot hold), begin with
 *     `U__`, or are empty (an empty label counts as absent).
 */
import { ALL_FIELDS, type Field, METRIC_TYPES, makeSeries, type Series } from '../../src/sink/index.ts';

export const METRIC_LABEL = '__name__';
export const TYPE_LABEL = 'metric_type';
const INSTANCE_LABEL = 'instance';
const NAME_LABEL = 'name';

const ESCAPED = 'U__';
const PLAIN_LABEL = /^(?!__|U__)[a-zA-Z_][a-zA-Z0-9_]*$/;
const NOT_PLAIN = /[^a-zA-Z0-9]/gu;

/** Whether every series already has this label: the same label in the settings would occur twice. */
export function isOurs(label: string): boolean {
  return label === TYPE_LABEL || label === INSTANCE_LABEL || label === NAME_LABEL;
}

export type Label = readonly [name: string, value: string];

function escapeText(text: string): string {
  const body = text.replace(NOT_PLAIN, (character) =>
    character === '_' ? '__' : `_${character.codePointAt(0)!.toString(16)}_`,
  );
  return ESCAPED + body;
}

export function unescapeText(text: string): string {
  if (!text.startsWith(ESCAPED)) return text;
  return text
    .slice(ESCAPED.length)
    .replace(/__|_([0-9a-f]+)_/g, (_, hex?: string) =>
      hex === undefined ? '_' : String.fromCodePoint(Number.parseInt(hex, 16)),
    );
}

/** Returns the value of a label that holds this text. */
export function labelValue(text: string): string {
  return text !== '' && text.isWellFormed() && !text.startsWith(ESCAPED) ? text : escapeText(text);
}

/** Returns the value of the label that holds the name as it was. */
export function nameValue(name: string): string {
  return labelValue(name);
}

/** Returns the name of the metric that holds a field of a name. */
export function metricNameOf(name: string, field: Field): string {
  return `${metricName(name)}_${field}`;
}

function metricName(name: string): string {
  const fit = name.replace(/[^a-zA-Z0-9_:]/gu, '_');
  return /^[a-zA-Z_:]/.test(fit) ? fit : `_${fit}`;
}

/** Returns the name of the metric that holds a field. */
export function metricOf({ name }: Series, field: Field): string {
  return metricNameOf(name, field);
}

/** Returns the name of the metric that holds the native histograms of a timer. No field has such a name. */
export function histogramOf({ name }: Series): string {
  return `${metricName(name)}_histogram`;
}

/** Returns the labels of a series, sorted by name, without that of the metric. `own` are the labels of this sink. */
export function labelsOf(series: Series, instance: string, own: Readonly<Record<string, string>>): Label[] {
  const { name, type, dimensions } = series;
  const labels: Label[] = dimensions.map(([key, value]) => [labelOf(key, own), labelValue(value)]);
  labels.push([NAME_LABEL, nameValue(name)], [TYPE_LABEL, type], ...Object.entries(own));
  if (instance !== '') labels.push([INSTANCE_LABEL, labelValue(instance)]);
  return labels.sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Returns the label that holds a dimension. */
export function labelOf(key: string, own: Readonly<Record<string, string>>): string {
  const isTaken = isOurs(key) || Object.hasOwn(own, key);
  return PLAIN_LABEL.test(key) && !isTaken ? key : escapeText(key);
}

/** The inverse of `metricOf` and `labelsOf`. Returns undefined if the labels are not those of a point. */
export function decodeLabels(
  labels: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
): { readonly series: Series; readonly field: Field; readonly instance: string } | undefined {
  const metric = labels[METRIC_LABEL] ?? '';
  const type = METRIC_TYPES.find((known) => known === labels[TYPE_LABEL]);
  const field = ALL_FIELDS.find((known) => metric.endsWith(`_${known}`));
  if (type === undefined || field === undefined) return undefined;
  const dimensions: Label[] = [];
  for (const [name, value] of Object.entries(labels)) {
    const isDimension = name !== METRIC_LABEL && !isOurs(name) && !Object.hasOwn(own, name);
    if (isDimension) dimensions.push([unescapeText(name), unescapeText(value)]);
  }
  return {
    series: makeSeries(unescapeText(labels[NAME_LABEL] ?? ''), type, dimensions),
    field,
    instance: unescapeText(labels[INSTANCE_LABEL] ?? ''),
  };
}
