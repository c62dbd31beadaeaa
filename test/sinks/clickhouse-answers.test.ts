/** What only ClickHouse does: it merges rows. And every exception and status that it, or a proxy before it, sends. */
import type { RequestListener } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLUMNS, KEY } from '../../sinks/clickhouse/encode.ts';
import clickhouse from '../../sinks/clickhouse/sink.ts';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import type { Sink, SinkLog } from '../../src/sink/contract.ts';
import {
  differences,
  EVERYTHING,
  makePoint,
  manyPoints,
  readAll,
  START,
  WINDOW_MS,
} from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { endAfterEach, startStandIn } from './stand-in.ts';

const NEVER = new AbortController().signal;
const DAY_MS = 86_400_000;
const atEnd = endAfterEach();

function sinkOf(url: string, table = 'points', keep?: number, warn: SinkLog['warn'] = () => {}): Sink {
  const config = { url, database: 'default', table, user: 'fanout', password: 'secret', sketch: false, keep };
  expect(clickhouse.validate?.(config)).toEqual([]);
  const sink = clickhouse.create(config, { id: 't', log: { info() {}, warn } });
  atEnd(() => sink.close());
  return sink;
}

/** An address of the server at which one statement that makes something waits until it is released. */
async function startHeld(server: ClickHouse, held: number) {
  const reached = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  let statements = 0;
  const url = await startStandIn(async (incoming, outgoing) => {
    const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
    const makes = /^(CREATE|INSERT|ALTER) /.test(body.toString());
    if (makes) statements += 1;
    if (makes && statements === held) {
      reached.resolve();
      await released.promise;
    }
    const { authorization = '' } = incoming.headers;
    const answer = await fetch(server.url + incoming.url, {
      method: 'POST',
      headers: { authorization },
      body,
    });
    outgoing.writeHead(answer.status).end(await answer.text());
  }, atEnd);
  return { url, reached: reached.promise, release: () => released.resolve() };
}

describe('a real ClickHouse', () => {
  let server: ClickHouse;
  beforeAll(async () => {
    server = await startClickHouse({ user: 'fanout', password: 'secret' });
  });
  afterAll(() => server.stop());

  it('keeps the last row of each key, merged or not, and shows a readable time', async () => {
    const sink = sinkOf(server.url, 'merged');
    await sink.open(NEVER);
    const later = manyPoints(50, 7);
    for (const points of [manyPoints(50), later, manyPoints(50), later]) {
      expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    }
    expect(differences(await readAll(sink, EVERYTHING, NEVER), later)).toEqual([]);
    await server.execute('OPTIMIZE TABLE merged FINAL');
    expect(differences(await readAll(sink, EVERYTHING, NEVER), later)).toEqual([]);
    const query = `SELECT time, dimension_values[indexOf(dimension_keys, 'app')] AS app, sum(count) FROM merged
      WHERE name = 'http.counter' GROUP BY time, app ORDER BY app LIMIT 1`;
    expect(await server.execute(query)).toMatch(/^2026-11-23 \d\d:30:00\tapp-0\t\d+\n$/);
  });

  it('accepts windows of several months in one write', async () => {
    const sink = sinkOf(server.url, 'months');
    await sink.open(NEVER);
    const month = 31 * 86_400_000;
    const points = [0, 1, 2, 3].map((number) => makePoint({ windowStart: START - number * month }));
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  });

  it('drops the months that are older than KEEP as a whole, as seen from its newest window', async () => {
    const keep = 40 * DAY_MS;
    const sink = sinkOf(server.url, 'kept', keep);
    await sink.open(NEVER);
    const now = Date.now();
    const all = { from: 0, to: now + 1 };
    // Of these, the month of the last but two is over for longer than that, and no month of a later one.
    const points = [140, 100, 30, 0].map((days) => makePoint({ windowStart: now - days * DAY_MS }));
    // What is old by the clock alone is kept.
    expect(await sink.write({ points: points.slice(0, 1) }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, all, NEVER), points.slice(0, 1))).toEqual([]);
    await sink.close();
    const again = sinkOf(server.url, 'kept', keep);
    await again.open(NEVER);
    expect(await again.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(again, all, NEVER), points.slice(2))).toEqual([]);
    expect(clickhouse.keepsMs!({ keep } as Parameters<NonNullable<typeof clickhouse.keepsMs>>[0])).toBe(keep);
  });

  it('is never sent half of a surrogate pair', async () => {
    const sink = sinkOf(server.url, 'halves');
    await sink.open(NEVER);
    const points = [
      makePoint({ name: 'a\ud83d' }),
      makePoint(),
      makePoint({ dimensions: [['k', '\udc00']] }),
    ];
    const rejected = [0, 2].map((index) => ({ index, reason: 'invalid_value' }));
    expect(await sink.write({ points }, NEVER)).toMatchObject({ kind: 'partial', retry: [], rejected });
  });

  it('keeps all rows of a key in one partition, in whatever time zone the server is', async () => {
    const sink = sinkOf(server.url, 'partitions');
    await sink.open(NEVER);
    const query = "SELECT partition_key FROM system.tables WHERE name = 'partitions'";
    expect(await server.execute(query)).toContain("\\'UTC\\'");
    await server.execute('DROP TABLE partitions');
    await sink.open(NEVER);
    const made = await server.execute('SHOW CREATE TABLE partitions FORMAT TSVRaw');
    await server.execute('DROP TABLE partitions');
    await server.execute(made.replace(/PARTITION BY .*? ORDER BY/s, 'PARTITION BY window_ms ORDER BY'));
    const error = await sinkError(sink.open(NEVER));
    expect(error.reason).toBe('schema_mismatch');
    expect(error.message).toContain('its partitions depend on window_ms');
  });

  /** As an older version or somebody else makes it. */
  async function makeWithoutIdentity(table: string): Promise<void> {
    await sinkOf(server.url, table).open(NEVER);
    const made = await server.execute(`SHOW CREATE TABLE ${table} FORMAT TSVRaw`);
    await server.execute(`DROP TABLE ${table}`);
    await server.execute(made.replace(/,\s*fanout_store String ALIAS '[^']*'/, ''));
  }

  describe.each([
    ['new', async () => {}],
    ['old', makeWithoutIdentity],
  ])('gives a table (%s) an identity that is never another one later', (age, prepare) => {
    it.each([1, 2, 3, 4])('if statement %i of one sink waits until another sink has it', async (held) => {
      const table = `held_${age}_${held}`;
      await prepare(table);
      const { url, reached, release } = await startHeld(server, held);
      const slow = sinkOf(url, table);
      const answer = slow.open(NEVER).then(() => slow.identity!(NEVER));
      await Promise.race([answer, reached]);
      const fast = sinkOf(server.url, table);
      await fast.open(NEVER);
      const first = await fast.identity!(NEVER);
      expect(first).toMatch(/^[0-9a-f-]{36}$/);
      release();
      expect(await answer).toBe(first);
      expect(await fast.identity!(NEVER)).toBe(first);
    });

    it('if many ask at once', async () => {
      const table = `many_${age}`;
      await prepare(table);
      const identities = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const sink = sinkOf(server.url, table);
          await sink.open(NEVER);
          return [await sink.identity!(NEVER), await sink.identity!(NEVER)];
        }),
      );
      expect(new Set(identities.flat()).size).toBe(1);
    });
  });

  it('keeps the identity that an older version gave the table', async () => {
    await makeWithoutIdentity('aged');
    const sink = sinkOf(server.url, 'aged');
    await server.execute(
      'CREATE TABLE aged_store (made UInt64, identity String) ENGINE = MergeTree ORDER BY made',
    );
    await server.execute("INSERT INTO aged_store VALUES (5, 'old'), (7, ''), (9, 'known'), (10, 'late')");
    await sink.open(NEVER);
    expect(await sink.identity!(NEVER)).toBe('known');
    await server.execute('DROP TABLE aged');
    await sink.open(NEVER);
    expect(await sink.identity!(NEVER)).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('is refused if the table has another engine', async () => {
    const sink = sinkOf(server.url, 'others');
    await sink.open(NEVER);
    await server.execute('DROP TABLE others');
    await server.execute('CREATE TABLE others (window_start Int64) ENGINE = Memory');
    const error = await sinkError(sink.open(NEVER));
    expect(error.reason).toBe('schema_mismatch');
    expect(error.message).toContain('its engine is Memory');
  });
});

describe('an answer', () => {
  const serve = async (listener: RequestListener) => {
    return sinkOf(await startStandIn(listener, atEnd));
  };
  const points = manyPoints(4);
  const outcomeOf = async (status: number, body: string, headers = {}) => {
    const sink = await serve((_, outgoing) => outgoing.writeHead(status, headers).end(body));
    return await sink.write({ points }, NEVER);
  };

  it.each([
    [
      500,
      'Code: 60. DB::Exception: Table default.points does not exist. (UNKNOWN_TABLE)',
      'refused',
      'not_found',
    ],
    [404, "Code: 81. DB::Exception: Database a doesn't exist", 'refused', 'not_found'],
    [403, 'Code: 516. DB::Exception: fanout: Authentication failed', 'refused', 'unauthorized'],
    [500, 'Code: 497. DB::Exception: fanout: Not enough privileges', 'refused', 'unauthorized'],
    [500, 'Code: 16, e.displayText() = DB::Exception: No such column', 'refused', 'schema_mismatch'],
    [500, 'Code: 252. DB::Exception: Too many parts (300)', 'retry', 'throttled'],
    [500, 'Code: 241. DB::Exception: Memory limit (total) exceeded', 'retry', 'throttled'],
    [500, 'Code: 159. DB::Exception: Timeout exceeded', 'retry', 'timeout'],
    [500, 'Code: 242. DB::Exception: Table is in readonly mode', 'retry', 'server_error'],
    [200, 'Code: 33. DB::Exception: Cannot read all data', 'retry', 'server_error'],
    [200, '<html>Sign in</html>', 'retry', 'unknown'],
    [401, 'no', 'refused', 'unauthorized'],
    [404, 'no', 'refused', 'not_found'],
    [408, '', 'retry', 'timeout'],
    [418, '', 'refused', 'bad_request'],
    [429, '', 'retry', 'throttled'],
    [502, '', 'retry', 'server_error'],
    [503, '', 'retry', 'throttled'],
  ])('of status %i with "%s" means %s: %s', async (status, body, kind, reason) => {
    expect(await outcomeOf(status, body)).toEqual({ kind, reason, message: `${status}: ${body}` });
  });

  it('means that the rows are stored: inserts are never asynchronous where the server knows these', async () => {
    const inserts: (string | null)[] = [];
    const sink = await serve(async (incoming, outgoing) => {
      const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>)).toString();
      const url = new URL(incoming.url!, 'http://h');
      if (url.searchParams.has('query')) inserts.push(url.searchParams.get('async_insert'));
      const columns = Object.entries(COLUMNS).map(([name, type]) => `${JSON.stringify({ name, type })}\n`);
      if (body.includes('system.columns')) outgoing.end(columns.join(''));
      else outgoing.end(body.includes('system.settings') ? '{"name":"async_insert"}\n' : '');
    });
    await sink.open(NEVER);
    await sink.write({ points }, NEVER);
    expect(inserts).toEqual(['0']);
  });

  it('that refuses to name the table leaves it without an identity, and the log says what to run', async () => {
    const said: string[] = [];
    const url = await startStandIn(async (incoming, outgoing) => {
      const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>)).toString();
      const columns = Object.entries(COLUMNS).map(([name, type]) => `${JSON.stringify({ name, type })}\n`);
      const table = { engine: 'ReplacingMergeTree', sorting_key: KEY.join(', '), partition_key: '' };
      if (body.startsWith('ALTER')) outgoing.writeHead(403).end('Code: 497. DB::Exception: Not enough');
      else if (body.includes('default_expression')) outgoing.end();
      else if (body.includes('_store')) outgoing.writeHead(404).end('Code: 60. DB::Exception: No table');
      else if (body.includes('system.columns')) outgoing.end(columns.join(''));
      else outgoing.end(body.includes('system.tables') ? JSON.stringify(table) : '');
    }, atEnd);
    const sink = sinkOf(url, 'points', undefined, (fields) => {
      said.push(JSON.stringify(fields));
    });
    await sink.open(NEVER);
    expect(await sink.identity!(NEVER)).toBeUndefined();
    expect(said).toEqual([
      expect.stringMatching(
        /Run ALTER TABLE `points` ADD COLUMN fanout_store String ALIAS '[0-9a-f-]{36}' as/,
      ),
    ]);
  });

  it('may say when to try again', async () => {
    expect(await outcomeOf(429, '', { 'retry-after': '3' })).toMatchObject({ afterMs: 3_000 });
  });

  it('that names a constraint is traced to the rows that break it', async () => {
    const sink = await serve(async (incoming, outgoing) => {
      const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
      const breaks = body.includes('host-2');
      outgoing.writeHead(breaks ? 500 : 200).end(breaks ? 'Code: 469. DB::Exception: Constraint' : '');
    });
    expect(await sink.write({ points }, NEVER)).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 2, reason: 'refused' }],
    });
  });

  it('that names a constraint is expected again: the next batch costs two requests', async () => {
    let requests = 0;
    const sink = await serve(async (incoming, outgoing) => {
      const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
      const breaks = body.includes('host-2345');
      requests += 1;
      outgoing.writeHead(breaks ? 500 : 200).end(breaks ? 'Code: 469. DB::Exception: Constraint' : '');
    });
    const many = manyPoints(5_000);
    let left = many;
    while (left.length > 0) {
      const sent = left;
      requests = 0;
      const outcome = await sink.write({ points: sent }, NEVER);
      expect(requests).toBeLessThanOrEqual(20);
      left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
    }
    requests = 0;
    expect(await sink.write({ points: many }, NEVER)).toMatchObject({
      retry: [],
      rejected: [{ index: 2_345 }],
    });
    expect(requests).toBe(2);
  });

  it('that ends in an exception fails the read', async () => {
    const row = {
      window_start: START,
      series_id: 'x',
      name: 'n',
      type: 'counter',
      dimension_keys: [],
      count: 1,
    };
    const text = `${JSON.stringify({ ...row, dimension_values: [] })}\n`;
    const sink = await serve((_, outgoing) =>
      outgoing.writeHead(200).end(`${text}${text}Code: 241. Memory limit`),
    );
    const seen: number[] = [];
    const reading = async () => {
      const range = { from: START, to: START + WINDOW_MS };
      for await (const { count } of sink.read(range, NEVER)) seen.push(count);
    };
    expect((await sinkError(reading())).reason).toBe('throttled');
    expect(seen).toEqual([1, 1]);
  });
});

describe('settings', () => {
  it('keep the URL to scheme, host and port', () => {
    const named = { database: 'd', table: 't', user: 'a:b', password: undefined, sketch: false };
    const config = { ...named, url: 'http://u:p@h:8123', keep: 1000 };
    expect(clickhouse.validate?.(config).map(({ key }) => key)).toEqual(['url', 'user', 'keep']);
    expect(clickhouse.settings.table.parse('t; DROP TABLE x')).toBeUndefined();
  });
});
