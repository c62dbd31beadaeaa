/** Questions of a trial in PromQL, and their answers. Pure. */
import type { Query, QueryRow, Series, WindowRange } from '../../src/sink/index.ts';
import {
  decodeLabels,
  labelOf,
  labelValue,
  metricNameOf,
  nameValue,
  TYPE_LABEL,
  unescapeText,
} from './names.ts';

type OwnLabels = Readonly<Record<string, string>>;

interface FoundSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [time: number, value: string];
  readonly values?: readonly (readonly [time: number, value: string])[];
}

interface Expression {
  readonly expression: string;
  /** How far apart the times are at which it must be evaluated; undefined: only at the end of the range. */
  readonly stepMs: number | undefined;
}

const span = ({ from, to }: WindowRange) => `[${to - from}ms]`;
const matcher = (label: string, value: string) => `${label}=${JSON.stringify(value)}`;

/** `matchers`: those of the labels that select what is ours. */
export function expressionOf(query: Query, matchers: string, own: OwnLabels): Expression {
  const selector = (metric: string, ...more: string[]) =>
    `{${[matchers, matcher('__name__', metric), ...more].join(',')}}`;
  const once = (expression: string): Expression => ({ expression, stepMs: undefined });
  switch (query.kind) {
    case 'sums': {
      const { name, type, where, by, stepMs, top } = query;
      const wanted = where.map(([key, value]) =>
        // An empty value is that of a series without the label.
        matcher(labelOf(key, own), value === '' ? '' : labelValue(value)),
      );
      const metric = selector(
        metricNameOf(name, 'sum'),
        matcher('name', nameValue(name)),
        matcher(TYPE_LABEL, type),
        ...wanted,
      );
      const labels = by.map((key) => labelOf(key, own)).join(', ');
      const each = stepMs === undefined ? span(query.range) : `[${stepMs}ms]`;
      const sums = `sum by (${labels}) (sum_over_time(${metric}${each}))`;
      return { expression: top === undefined ? sums : `topk(${top}, ${sums})`, stepMs };
    }
    case 'windows': {
      const { series } = query;
      const dimensions = series.dimensions.map(([key, value]) =>
        matcher(labelOf(key, own), labelValue(value)),
      );
      const name = matcher('name', nameValue(series.name));
      const type = matcher(TYPE_LABEL, series.type);
      return once(
        `${selector(metricNameOf(series.name, 'sum'), name, type, ...dimensions)}${span(query.range)}`,
      );
    }
    case 'highest_p99': {
      const name = matcher('name', nameValue(query.name));
      const metric = selector(metricNameOf(query.name, 'p99'), name, matcher(TYPE_LABEL, 'timer'));
      return once(`max(max_over_time(${metric}${span(query.range)}))`);
    }
    case 'live_series':
      // Every series has a count.
      return once(`count(count_over_time({${matchers},__name__=~".+_count"}${span(query.range)}))`);
    default:
      return query satisfies never;
  }
}

export function rowsOf(query: Query, found: readonly FoundSeries[], own: OwnLabels): QueryRow[] {
  switch (query.kind) {
    case 'windows':
      return found.flatMap(({ metric, values = [] }) =>
        isOf(query.series, metric, own)
          ? values.map(([time, value]) => ({ key: [String(Math.round(time * 1000))], value: Number(value) }))
          : [],
      );
    case 'sums': {
      const { by, stepMs } = query;
      const keyOf = (metric: FoundSeries['metric']) =>
        by.map((key) => unescapeText(metric[labelOf(key, own)] ?? ''));
      return found.flatMap(({ metric, value, values = value === undefined ? [] : [value] }) =>
        values.map(([time, text]) => {
          const step = stepMs === undefined ? [] : [String(Math.round(time * 1000) + 1 - stepMs)];
          return { key: [...step, ...keyOf(metric)], value: Number(text) };
        }),
      );
    }
    case 'highest_p99':
    case 'live_series':
      return found.flatMap(({ value }) =>
        value === undefined ? [] : [{ key: [], value: Number(value[1]) }],
      );
    default:
      return query satisfies never;
  }
}

/** Series with more dimensions are found as well. */
function isOf(series: Series, metric: FoundSeries['metric'], own: OwnLabels): boolean {
  return decodeLabels(metric, own)?.series.id === series.id;
}
