/** Answers questions of a trial from the points of single series: all that DynamoDB can be asked for without a scan. */
import {
  type Query,
  type QueryRow,
  type Series,
  SinkError,
  type StoredPoint,
  seriesDimension,
} from '../../src/sink/index.ts';

/** Resolves to the answer. `read` resolves to the points of a series; `atOnce` of them are read at a time. */
export async function queryRows(
  query: Query,
  atOnce: number,
  read: (series: Series) => Promise<readonly StoredPoint[]>,
): Promise<QueryRow[]> {
  const waiting = [...seriesOf(query)];
  const values = new Map<string, { key: readonly string[]; value: number }>();
  const drain = async () => {
    for (let series = waiting.shift(); series !== undefined; series = waiting.shift())
      for (const point of await read(series)) add(values, query, point);
  };
  await Promise.all(Array.from({ length: atOnce }, drain));
  const rows = [...values.values()];
  if (query.kind !== 'sums' || query.top === undefined) return rows;
  return rows.sort((a, b) => b.value - a.value).slice(0, query.top);
}

function seriesOf(query: Query): readonly Series[] {
  const tooMuch = (why: string) =>
    new SinkError('bad_request', `${why}, which takes a read of the whole table`, '');
  switch (query.kind) {
    case 'windows':
      return [query.series];
    case 'live_series':
      throw tooMuch('this asks for all series');
    case 'sums':
    case 'highest_p99':
      if (query.series === undefined) throw tooMuch('the name has too many series');
      if (query.kind === 'highest_p99') return query.series;
      return query.series.filter((series) =>
        query.where.every(([key, value]) => seriesDimension(series, key) === value),
      );
    default:
      return query satisfies never;
  }
}

function add(
  values: Map<string, { key: readonly string[]; value: number }>,
  query: Query,
  { series, windowStart, sum, p99 }: StoredPoint,
): void {
  const add = query.kind === 'highest_p99' ? (p99 ?? Number.NEGATIVE_INFINITY) : sum;
  const key = keyOf(query, series, windowStart);
  const text = JSON.stringify(key);
  const row = values.get(text);
  if (row === undefined) values.set(text, { key, value: add });
  else row.value = query.kind === 'highest_p99' ? Math.max(row.value, add) : row.value + add;
}

function keyOf(query: Query, series: Series, start: number): string[] {
  switch (query.kind) {
    case 'windows':
      return [String(start)];
    case 'sums': {
      const { by, stepMs } = query;
      const step = stepMs === undefined ? [] : [String(Math.floor(start / stepMs) * stepMs)];
      return [...step, ...by.map((key) => seriesDimension(series, key))];
    }
    default:
      return [];
  }
}
