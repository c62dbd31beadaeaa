import { setting, type Values } from '../../src/sink/index.ts';
import { isOurs } from './names.ts';

/** The path of the query API under its base. */
const QUERY_PATH = '/api/v1/query';
/** The path of a receiver that has its query API under the same base. */
const WRITE_PATH = /\/api\/v1\/write\/?$/;

/** The largest limit of labels that VictoriaMetrics knows. */
const MOST = 65_535;

const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Parses `NAME=value,NAME2=value2`. */
function parseLabels(text: string): Readonly<Record<string, string>> | undefined {
  const pairs = text.split(',').map((part) => /^\s*([^=]*?)\s*=\s*(.+?)\s*$/s.exec(part) ?? []);
  const isFine = pairs.every(
    ([, name = '']) => LABEL_NAME.test(name) && !name.startsWith('__') && !isOurs(name),
  );
  return isFine ? Object.fromEntries(pairs.map(([, name, value]) => [name, value])) : undefined;
}

export const settings = {
  url: setting.httpUrl({
    meaning: 'URL of the remote write receiver, such as http://prometheus:9090/api/v1/write',
    required: true,
  }),
  queryUrl: setting.httpUrl({
    meaning:
      'URL before /api/v1/query, to read rows back; default: the part of URL before /api/v1/write; if URL has no such part, nothing is read back',
  }),
  headers: setting.headers({
    meaning:
      'headers to send with every request, such as authorization=Bearer SECRET or x-scope-orgid=TENANT',
  }),
  labels: setting.custom(
    parseLabels,
    'labels such as NAME=value,NAME2=value2, except name, metric_type and instance',
    {
      meaning:
        'labels that every series of this sink has, and no other series: they select what is read back',
      default: 'job=metrics-fanout',
    },
  ),
  histograms: setting.boolean({
    meaning:
      'true: a timer is also a native histogram, <name>_histogram; Prometheus 2.42 takes them with --enable-feature=native-histograms',
    default: 'false',
  }),
  maxLabels: setting.integer(0, MOST, {
    meaning:
      'points whose series have more labels than this, with name, metric_type, LABELS and that of the metric, are rejected; 0: no limit; default: 40 if the server is VictoriaMetrics, which drops them in silence (-maxLabelsPerTimeseries), else 0',
  }),
  maxLabelBytes: setting.integer(0, MOST, {
    meaning:
      'points with a longer label, or a longer name of a metric, are rejected; 0: no limit; default: 4096 if the server is VictoriaMetrics (-maxLabelValueLen), else 0',
  }),
  maxLabelNameBytes: setting.integer(0, MOST, {
    meaning:
      'points with a longer name of a label are rejected; 0: no limit; default: 256 if the server is VictoriaMetrics (-maxLabelNameLen), else 0',
  }),
};

export type Config = Values<typeof settings>;

/** Returns the URL to query; undefined if nothing can be read back. */
export function queryUrlOf({ url, queryUrl }: Pick<Config, 'url' | 'queryUrl'>): URL | undefined {
  const base = queryUrl ?? (WRITE_PATH.test(new URL(url).pathname) ? url : undefined);
  if (base === undefined) return undefined;
  const found = new URL(base);
  found.pathname = found.pathname.replace(WRITE_PATH, '').replace(/\/+$/, '') + QUERY_PATH;
  return found;
}
