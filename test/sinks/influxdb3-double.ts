/**
 * A double of InfluxDB 3 that follows its public documentation of /api/v3/write_lp and /api/v3/query_influxql. It knows
 * only the statements that the sink sends. It keeps the types of columns, and names the lines that it refuses.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface StoredRow {
  readonly table: string;
  readonly tags: ReadonlyMap<string, string>;
  readonly fields: Map<string, number>;
  readonly time: number;
}

interface Database {
  readonly rows: Map<string, StoredRow>;
  /** By table and column. */
  readonly types: Map<string, string>;
}

export class InfluxDb3Double {
  readonly #token: string;
  readonly #databases = new Map<string, Database>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  requests = 0;
  port = 0;

  constructor(token: string) {
    this.#token = token;
  }

  async start(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = (this.#server.address() as AddressInfo).port;
    return this.port;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    const chunks: Buffer[] = await request.toArray().catch(() => []);
    const body = Buffer.concat(chunks).toString();
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x');
    const say = (status: number, said?: unknown, type = 'application/json') => {
      response.writeHead(status, { 'content-type': type });
      response.end(typeof said === 'string' ? said : said && JSON.stringify(said));
    };
    if (request.headers.authorization !== `Bearer ${this.#token}`) return say(401, { error: 'unauthorized' });
    if (pathname === '/api/v3/write_lp') {
      if (searchParams.get('precision') !== 'millisecond') return say(400, { error: 'precision' });
      if (searchParams.get('accept_partial') !== 'true') return say(400, { error: 'accept_partial' });
      if (body === '') return say(400, 'incoming write was empty', 'text/plain');
      const data = this.#write(searchParams.get('db') ?? '', body);
      if (data.length === 0) return say(204);
      return say(400, { error: 'partial write of line protocol occurred', data });
    }
    if (pathname === '/api/v3/configure/database') {
      const { db } = JSON.parse(body) as { db: string };
      if (this.#databases.has(db))
        return say(409, { error: 'attempted to create a resource that already exists' });
      this.#databases.set(db, { rows: new Map(), types: new Map() });
      return say(200);
    }
    if (pathname === '/api/v3/query_influxql') {
      const { db, q, format } = JSON.parse(body) as { db: string; q: string; format: string };
      const database = this.#databases.get(db);
      if (database === undefined) return say(404, { error: `database not found: ${db}` });
      if (format !== 'jsonl') return say(400, { error: 'format' });
      const lines = select(database, q).map((row) => `${JSON.stringify(row)}\n`);
      return say(200, lines.join(''), 'application/jsonl');
    }
    return say(404, { error: 'not found' });
  }

  #write(name: string, body: string): object[] {
    const database = this.#databases.get(name) ?? { rows: new Map(), types: new Map() };
    this.#databases.set(name, database);
    return body.split('\n').flatMap((line, i) => {
      const error = store(database, line);
      if (error === undefined) return [];
      return [{ original_line: line.slice(0, 100), line_number: i + 1, error_message: error }];
    });
  }
}

/** Splits at a character that has no backslash before it. */
const splitAt = (text: string, separator: string) =>
  text.match(new RegExp(`(?:\\\\.|[^${separator}\\\\])+`, 'gsu')) ?? [];
const plain = (text: string) => text.replace(/\\(.)/gsu, '$1');

/** Returns why the line is refused. */
function store({ rows, types }: Database, line: string): string | undefined {
  const [key = '', fieldText = '', time = ''] = splitAt(line, ' ');
  const [table = '', ...tagTexts] = splitAt(key, ',');
  const pair = (text: string) => splitAt(text, '=').map(plain) as [string, string];
  const fields = new Map<string, number>();
  for (const [column, text] of splitAt(fieldText, ',').map(pair)) {
    const type = text.endsWith('i') ? 'integer' : 'float';
    const known = types.get(`${table} ${column}`) ?? type;
    if (known !== type) {
      return `invalid column type for column '${column}', expected iox::column_type::field::${known}, got iox::column_type::field::${type}`;
    }
    types.set(`${table} ${column}`, type);
    fields.set(column, Number.parseFloat(text));
  }
  const id = `${key} ${time}`;
  const held = rows.get(id)?.fields ?? [];
  const tags = new Map(tagTexts.map(pair));
  rows.set(id, { table: plain(table), tags, fields: new Map([...held, ...fields]), time: Number(time) });
  return undefined;
}

const unquoted = (text = '') => text.replace(/\\(.)/g, '$1');

function select({ rows }: Database, q: string): object[] {
  const [, from = 0, to = 0] = /time >= (-?\d+)ms AND time < (-?\d+)ms/.exec(q)?.map(Number) ?? [];
  const table = / FROM "((?:\\.|[^"\\])*)" WHERE/s.exec(q)?.[1];
  const wanted = [...q.matchAll(/ AND "((?:\\.|[^"\\])*)" = '((?:\\.|[^'\\])*)'/gs)];
  const chosen = [...rows.values()].filter(
    (row) =>
      row.time >= from &&
      row.time < to &&
      (table === undefined || row.table === unquoted(table)) &&
      wanted.every(([, key, value]) => (row.tags.get(unquoted(key)) ?? '') === unquoted(value)),
  );
  const group = / GROUP BY "((?:\\.|[^"\\])*)"$/s.exec(q)?.[1];
  if (group === undefined) return chosen.map((row) => rowOf(row, [...row.tags], row.fields));
  const key = unquoted(group);
  const groups = Map.groupBy(chosen, ({ tags }) => tags.get(key) ?? '');
  return Array.from(groups, ([value, some]) => {
    const sum = (field: string) => some.reduce((total, { fields }) => total + (fields.get(field) ?? 0), 0);
    const sums = new Map(['count', 'sum'].map((field) => [field, sum(field)]));
    return rowOf({ ...some[0]!, time: 0 }, value === '' ? [] : [[key, value]], sums);
  });
}

/** A column without a value is absent. A time has no zone. */
function rowOf(
  { table, time }: StoredRow,
  tags: readonly (readonly [string, string])[],
  fields: ReadonlyMap<string, number>,
): object {
  const at = new Date(time).toISOString().replace(/(\.000)?Z$/, '');
  const raw = Array.from(fields, ([name, value]) => [name, Object.is(value, -0) ? NEGATIVE_ZERO : value]);
  return { 'iox::measurement': table, time: at, ...Object.fromEntries(tags), ...Object.fromEntries(raw) };
}

const NEGATIVE_ZERO = -0;
