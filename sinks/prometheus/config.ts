import { setting, type Values } from '../../src/sink/index.ts';
import { isOurs } from './names.ts';

/** The path of a query API on its base, and those of receivers whose query API lies beside them. */
const QUERY_PATH = '/api/v1/query';
const WRITE_PATH = /\/api\/v1\/write\/?$/;

const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** `NAME=value,NAME2=value2`. */
function parseLabels(text: string): Readonly<Record<string, string>> | undefined {
  const pairs = text.split(',').map((part) => /^\s*([^=]*?)\s*=\s*(.+?)\s*$/s.exec(part) ?? []);
  const isFine = pairs.every(
    ([, name = '']) => LABEL_NAME.test(name) && !name.startsWith('__') && !isOurs(name),
  );
  return isFine ? Object.fromEntries(pairs.map(([, name, value]) => [name, value])) : undefined;
}

export const settings = {
  url: setting.httpUrl({
    meaning: 'the receiver of remote write, such as http://prometheus:9090/api/v1/write',
    required: true,
  }),
  queryUrl: setting.httpUrl({
    meaning:
      'what comes before /api/v1/query where rows are read back; default: what comes before /api/v1/write in URL, and no reading back where there is no such thing',
  }),
  headers: setting.headers({
    meaning: 'sent with every request, such as authorization=Bearer SECRET or x-scope-orgid=TENANT',
  }),
  labels: setting.custom(
    parseLabels,
    'labels such as NAME=value,NAME2=value2, but for name, metric_type and instance',
    {
      meaning: 'labels of every series of this sink, and of no other: what is read back is selected by them',
      default: 'job=metrics-fanout',
    },
  ),
};

export type Config = Values<typeof settings>;

/** Where to query; undefined where nothing can be read back. */
export function queryUrlOf({ url, queryUrl }: Pick<Config, 'url' | 'queryUrl'>): URL | undefined {
  const base = queryUrl ?? (WRITE_PATH.test(new URL(url).pathname) ? url : undefined);
  if (base === undefined) return undefined;
  const found = new URL(base);
  found.pathname = found.pathname.replace(WRITE_PATH, '').replace(/\/+$/, '') + QUERY_PATH;
  return found;
}
