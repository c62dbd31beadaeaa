/**
 * What InfluxDB drops from a batch: a real 1.x with a limit on values per tag, and for what only 2 and QuestDB do a
 * double at the wire, which answers in the words of their documentation and sources (2.0, 2.7.12, QuestDB 9).
 */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import influxdb from '../../sinks/influxdb/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import type { Sink, WriteOutcome } from '../../src/sink/contract.ts';
import { makePoint, readAll, START } from '../conformance/points.ts';
import { endAfterEach, startStandIn } from './stand-in.ts';

const NEVER = new AbortController().signal;
/** What the search may cost, the first write included. */
const MAX_REQUESTS = 20;
const atEnd = endAfterEach();

function sinkOf(url: string, changed: object = {}): Sink {
  const absent = {
    token: undefined,
    org: undefined,
    bucket: undefined,
    user: undefined,
    password: undefined,
  };
  const config = { url, api: 'v1' as const, database: 'd', ...absent, ...changed };
  const sink = influxdb.create(config, { id: 'influxdb', log: { info() {}, warn() {} } });
  atEnd(() => sink.close());
  return sink;
}

const series = (from: number, to: number, name = 'limited') =>
  Array.from({ length: to - from }, (_, i) => makePoint({ name, dimensions: [['n', `${from + i}`]] }));

const order = ({ series }: Point) => (Number(series.dimensions[0]![1]) * 1_337) % 2_203;

/** How many points were lost for which reason. */
function losses(outcome: WriteOutcome): Record<string, number> {
  if (outcome.kind === 'written') return {};
  if (outcome.kind !== 'partial') throw new Error(JSON.stringify(outcome));
  const { retry, rejected, unidentified } = outcome;
  const counts: Record<string, number> = retry.length === 0 ? {} : { retry: retry.length };
  for (const { reason } of rejected) counts[reason] = (counts[reason] ?? 0) + 1;
  if (unidentified) counts.unidentified = unidentified.count;
  return counts;
}

interface Line {
  readonly text: string;
  readonly key: string;
  readonly fields: string;
  readonly time: number;
}

const LINE = /^((?:\\.|[^ \\])+) (\S+) (\d+)$/;

async function linesOf(request: IncomingMessage): Promise<Line[]> {
  const body = Buffer.concat(await request.toArray()).toString();
  return body.split('\n').flatMap((text) => {
    const [, key = '', fields = '', time = ''] = LINE.exec(text) ?? [];
    return key === '' ? [] : [{ text, key, fields, time: Number(time) }];
  });
}

/** A server that is shown each write. What `refuse` returns is the answer; if that is nothing, all is written. */
async function double(
  refuse: (lines: readonly Line[], store: (lines: readonly Line[]) => void) => [number, object] | undefined,
) {
  const stored = new Map<string, Line>();
  const told = { requests: 0, url: '', stored };
  const store = (lines: readonly Line[]) => {
    for (const line of lines) stored.set(`${line.key} ${line.time}`, line);
  };
  const listener: RequestListener = async (request, response: ServerResponse) => {
    told.requests += 1;
    const lines = await linesOf(request);
    const refusal = refuse(lines, store);
    if (refusal === undefined) store(lines);
    const [status, body] = refusal ?? [204, undefined];
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
    response.end(body && JSON.stringify(body));
  };
  told.url = await startStandIn(listener, atEnd);
  return told;
}

const v2 = { api: 'v2', token: 't', org: 'o', bucket: 'b', database: undefined };

/** 2.7.12 and later: the number of dropped points is at the end, behind the keys of two of them. */
function beyondRetention(old: readonly Line[], bound: number): object {
  const violates = `dropped because it violates a Retention Policy Lower Bound at ${new Date(bound).toISOString()}`;
  const at = ({ key, time }: Line) => `point ${key} at ${new Date(time).toISOString()} ${violates}`;
  const summary = `dropped ${old.length} points outside retention policy of duration 24h0m0s`;
  const message = `failure writing points to database: partial write: ${summary} - oldest ${at(old[0]!)}, newest ${at(old.at(-1)!)} dropped=${old.length} for database: 9f282d63c7d3a5c0 for retention policy: autogen`;
  return { code: 'unprocessable entity', message };
}

const long = (n: number) => [
  ['n', `${n}`],
  ['path', `/${'x'.repeat(400)}`],
];

describe('a real 1.x with a limit on values per tag', () => {
  it('gets the good points of every window, and from the second window on by 2 requests', async () => {
    const server = await startInfluxDb({ maxValuesPerTag: 200 });
    atEnd(() => server.stop());
    let requests = 0;
    const url = await startStandIn(async (incoming, outgoing) => {
      requests += 1;
      const body = Buffer.concat(await incoming.toArray());
      const answer = await fetch(`${server.url}${incoming.url}`, { method: 'POST', body });
      const type = answer.headers.get('content-type') ?? 'text/plain';
      outgoing.writeHead(answer.status, { 'content-type': type }).end(await answer.text());
    }, atEnd);
    await fetch(`${server.url}/query`, {
      method: 'POST',
      body: new URLSearchParams({ q: 'CREATE DATABASE d' }),
    });
    const sink = sinkOf(url);
    expect(losses(await sink.write({ points: series(0, 200) }, NEVER))).toEqual({});
    // Good and bad ones mixed. The bad ones are new in every window.
    const batch = (window: number) =>
      [...series(0, 200), ...series(window * 10_000, window * 10_000 + 2_000)]
        .map((point) => ({ ...point, windowStart: START + window * 10_000 }))
        .sort((a, b) => order(a) - order(b));
    const deliver = async (points: readonly Point[]) => {
      const found: Record<string, number> = {};
      requests = 0;
      for (let left = points; left.length > 0; ) {
        const sent = left;
        const before = requests;
        const outcome = await sink.write({ points: sent }, NEVER);
        expect(requests - before).toBeLessThanOrEqual(MAX_REQUESTS);
        const { retry = 0, ...lost } = losses(outcome);
        expect(retry).toBeLessThan(sent.length);
        for (const [reason, count] of Object.entries(lost)) found[reason] = (found[reason] ?? 0) + count;
        left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
      }
      const [{ windowStart }] = points as [Point];
      const held = await readAll(sinkOf(server.url), { from: windowStart, to: windowStart + 1 }, NEVER);
      return { found, held: held.length };
    };
    // The server counts what it drops, but loses points of series that it holds, too.
    expect(await deliver(batch(1))).toEqual({ found: { refused: 2_000 }, held: 200 });
    for (const window of [2, 3]) {
      expect(await deliver(batch(window))).toEqual({ found: { refused: 2_000 }, held: 200 });
      expect(requests).toBe(2);
    }
  });
});

describe('InfluxDB 2', () => {
  const bound = START - 86_400_000;

  it.each([
    [
      500,
      'unexpected error writing points to database: partial write: points beyond retention policy dropped=10',
    ],
    [500, 'partial write: points beyond retention policy dropped=10'],
    [422, 'failure writing points to database: partial write: points beyond retention policy dropped=10'],
  ])('answers %i with "%s" if all points are too old: the sink is not held up', async (status, message) => {
    const server = await double(() => [status, { code: 'internal error', message }]);
    const outcome = await sinkOf(server.url, v2).write({ points: series(0, 10) }, NEVER);
    expect(losses(outcome)).toEqual({ out_of_retention: 10 });
    expect(server.requests).toBe(1);
  });

  it('says at the end of a long message how many points are too old', async () => {
    const server = await double((lines, store) => {
      const old = lines.filter(({ time }) => time < bound);
      store(lines.filter(({ time }) => time >= bound));
      return old.length > 0 ? [422, beyondRetention(old, bound)] : undefined;
    });
    const sink = sinkOf(server.url, v2);
    const old = Array.from({ length: 5_000 }, (_, n) =>
      makePoint({ windowStart: bound - 10_000, dimensions: long(n) as [string, string][] }),
    );
    expect(losses(await sink.write({ points: old }, NEVER))).toEqual({ out_of_retention: 5_000 });
    expect(server.requests).toBe(1);
    // With windows on both sides of the bound, the bound says which.
    server.requests = 0;
    const mixed = old.map((point, n) => (n % 3 === 0 ? { ...point, windowStart: START } : point));
    const outcome = await sink.write({ points: mixed }, NEVER);
    const named = outcome.kind === 'partial' ? outcome.rejected.map(({ index }) => index) : [];
    expect(named).toEqual(mixed.flatMap((_, n) => (n % 3 === 0 ? [] : [n])));
    expect([server.requests, server.stored.size]).toEqual([1, 1_667]);
  });

  it('repeats names in its messages: no text of a producer is taken for a number or a time', async () => {
    const name =
      'x dropped=3 for database: y Retention Policy Lower Bound at 2100-01-01T00:00:00Z type conflict';
    const server = await double((lines, store) => {
      const old = lines.filter(({ time }) => time < bound);
      store(lines.filter(({ time }) => time >= bound));
      return old.length > 0 ? [422, beyondRetention(old, bound)] : undefined;
    });
    const points = [0, 1, 2].map((n) =>
      makePoint({ name, dimensions: [['n', `${n}`]], windowStart: n === 1 ? bound - 10_000 : START }),
    );
    expect(await sinkOf(server.url, v2).write({ points }, NEVER)).toMatchObject({
      retry: [],
      rejected: [{ index: 1, reason: 'out_of_retention' }],
    });
    expect(server.stored.size).toBe(2);
  });

  it('repeats a name that reads like a number in a conflict: the good points count as written', async () => {
    const name = 'x dropped=3 of';
    const server = await double((lines, store) => {
      const bad = lines.filter(({ key }) => key.includes('bad'));
      store(lines.filter((line) => !bad.includes(line)));
      const message = `failure writing points to database: partial write: field type conflict: input field "count" on measurement "${name}" is type integer, already exists as type float dropped=${bad.length} for database: 9f28 for retention policy: autogen`;
      return bad.length > 0 ? [422, { code: 'unprocessable entity', message }] : undefined;
    });
    const points = [0, 1, 2].map((n) => makePoint({ name, dimensions: [['n', n === 1 ? 'bad' : `${n}`]] }));
    expect(await sinkOf(server.url, v2).write({ points }, NEVER)).toMatchObject({
      retry: [],
      rejected: [{ index: 1, reason: 'type_conflict' }],
    });
    expect(server.stored.size).toBe(2);
  });

  it('refuses a whole batch for a key that is too long: it is taken apart, and the next one costs two requests', async () => {
    const isLong = ({ key }: Line) => key.length > 65_000;
    const server = await double((lines) => {
      const first = lines.find(isLong);
      const message = `unable to parse '${first?.text}': max key length exceeded: 65537 > 65535`;
      return first && [400, { code: 'invalid', message }];
    });
    const sink = sinkOf(server.url, v2);
    const points = series(0, 1_000);
    points[333] = makePoint({ dimensions: [['k', 'x'.repeat(65_100)]] });
    let left = points;
    while (left.length > 0) {
      const sent = left;
      server.requests = 0;
      const outcome = await sink.write({ points: sent }, NEVER);
      expect(server.requests).toBeLessThanOrEqual(MAX_REQUESTS);
      left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
    }
    expect(server.stored.size).toBe(999);
    server.requests = 0;
    const next = points.map((point) => ({ ...point, windowStart: START + 10_000 }));
    expect(losses(await sink.write({ points: next }, NEVER))).toEqual({ too_large: 1 });
    expect([server.requests, server.stored.size]).toEqual([2, 1_998]);
  });

  it('of a cluster of 1.x: 500 and only "partial write" is a failure that passes', async () => {
    const server = await double(() => [500, { error: 'partial write' }]);
    expect(await sinkOf(server.url).write({ points: series(0, 2) }, NEVER)).toMatchObject({
      kind: 'retry',
      reason: 'server_error',
    });
  });
});

describe('InfluxDB 2, beside writes', () => {
  it('has no default mapping for a bucket with a slash: removing says what to do', async () => {
    const answer = { results: [{ statement_id: 0, error: 'default retention policy not set for: a' }] };
    const url = await startStandIn(async (incoming, outgoing) => {
      const body = Buffer.concat(await incoming.toArray()).toString();
      outgoing.writeHead(200, { 'content-type': 'application/json' });
      outgoing.end(JSON.stringify(body.includes('DELETE') ? answer : { results: [] }));
    }, atEnd);
    const removing = sinkOf(url, { ...v2, bucket: 'a/b' }).remove({ points: series(0, 1) }, NEVER);
    await expect(removing).rejects.toMatchObject({
      reason: 'bad_request',
      advice: expect.stringContaining('influx v1 dbrp create'),
    });
  });

  it('tells the size of a bucket by its id', async () => {
    const shard = (bucket: string, id: number, bytes: string) =>
      `storage_shard_disk_size{bucket="${bucket}",engine="tsm1",id="${id}",path="/data/${bucket}/autogen/${id}"} ${bytes}\n`;
    let isAllowed = true;
    const url = await startStandIn((incoming, outgoing) => {
      const { pathname, searchParams } = new URL(incoming.url!, 'http://x');
      const name = searchParams.get('name');
      if (pathname === '/metrics') {
        const lines = [shard('0c3d', 1, '4.188743e+06'), shard('ffff', 2, '7'), shard('0c3d', 3, '257')];
        outgoing.end(`# TYPE storage_shard_disk_size gauge\n${lines.join('')}`);
      } else if (pathname === '/api/v2/buckets' && isAllowed) {
        outgoing.end(JSON.stringify({ buckets: name === 'b' ? [{ id: '0c3d', name }] : [] }));
      } else outgoing.writeHead(401).end();
    }, atEnd);
    const sink = sinkOf(url, v2);
    expect(await sink.storage?.(NEVER)).toBe(4_189_000);
    isAllowed = false;
    expect(await sink.storage?.(NEVER)).toBeUndefined();
  });
});

describe('identity', () => {
  it.each([
    ['before', 100],
    ['after', Number.POSITIVE_INFINITY],
  ])(
    'is the same for two that begin at once, also if the first one writes late: %s the other has its answer',
    async (_, lateMs) => {
      const stored = new Map<string, { made: number; sure: boolean | null }>();
      let release: (value?: unknown) => void = () => {};
      const released = new Promise((resolve) => {
        release = resolve;
      });
      const url = await startStandIn(async (incoming, outgoing) => {
        const body = Buffer.concat(await incoming.toArray()).toString();
        const [, identity, made] = /^fanout_store,identity=(\S+) made=(\d+)i/.exec(body) ?? [];
        if (identity !== undefined) {
          writes += 1;
          if (writes === 1) await released;
          const sure = body.includes(',sure=true ') || (stored.get(identity)?.sure ?? null);
          stored.set(identity, { made: Number(made), sure });
          outgoing.writeHead(204).end();
          return;
        }
        const series = [...stored].map(([identity, { made, sure }]) => ({
          name: 'fanout_store',
          tags: { identity },
          columns: ['time', 'made', 'sure'],
          values: [[4_102_444_800_000, made, sure]],
        }));
        outgoing.writeHead(200, { 'content-type': 'application/json' });
        outgoing.end(`${JSON.stringify({ results: [{ statement_id: 0, series }] })}\n`);
      }, atEnd);
      let writes = 0;
      const slow = sinkOf(url, v2).identity!(NEVER);
      await expect.poll(() => writes).toBe(1);
      const began = Date.now();
      await expect.poll(() => Date.now()).toBeGreaterThan(began);
      const other = sinkOf(url, v2);
      const fast = other.identity!(NEVER);
      await expect.poll(() => stored.size).toBe(1);
      // At the latest then, or when the fast one has its answer.
      const late = lateMs === Number.POSITIVE_INFINITY ? [] : [sleep(lateMs)];
      await Promise.race([fast, ...late]);
      release();
      const known = await fast;
      expect(await slow).toBe(known);
      expect(await other.identity!(NEVER)).toBe(known);
      expect(stored.size).toBe(2);
    },
  );

  it('is, if another has only offered one, not known before it is sure', async () => {
    const lines: string[] = [];
    let sure: boolean | null = null;
    const url = await startStandIn(async (incoming, outgoing) => {
      const body = Buffer.concat(await incoming.toArray()).toString();
      if (body.startsWith('fanout_store')) {
        lines.push(body);
        sure = true;
        outgoing.writeHead(204).end();
        return;
      }
      const columns = ['time', 'made', 'sure'];
      const values = [[4_102_444_800_000, 5, sure]];
      const series = [{ name: 'fanout_store', tags: { identity: 'offered' }, columns, values }];
      outgoing.writeHead(200, { 'content-type': 'application/json' });
      outgoing.end(`${JSON.stringify({ results: [{ statement_id: 0, series }] })}\n`);
    }, atEnd);
    expect(await sinkOf(url, v2).identity!(NEVER)).toBe('offered');
    expect(lines.map((line) => line.trim())).toEqual([
      'fanout_store,identity=offered made=5i,sure=true 4102444800000',
    ]);
  });

  it('is found with a TIMEOUT that is too short to see what others offer', async () => {
    const tooShortMs = 900;
    const server = await startInfluxDb();
    atEnd(() => server.stop());
    await fetch(`${server.url}/query?q=CREATE%20DATABASE%20d`, { method: 'POST' });
    const sink = sinkOf(server.url);
    await expect(sink.identity!(AbortSignal.timeout(tooShortMs))).rejects.toThrow();
    const again = () => sink.identity!(AbortSignal.timeout(tooShortMs)).catch(() => undefined);
    await expect.poll(again).toBeTypeOf('string');
  });
});

describe('QuestDB', () => {
  it('answers no queries in this language: the sink opens all the same, if writes are answered', async () => {
    let status = 204;
    const url = await startStandIn((incoming, outgoing) => {
      incoming.resume();
      const isWrite = incoming.url!.startsWith('/write');
      outgoing.writeHead(isWrite ? status : 405).end(isWrite ? '' : 'Method POST not supported\r\n');
    }, atEnd);
    await sinkOf(url).open(NEVER);
    status = 401;
    await expect(sinkOf(url).open(NEVER)).rejects.toMatchObject({ reason: 'unauthorized' });
  });

  it('refuses a whole batch for one key, and names its line: the others are written', async () => {
    const server = await double((lines) => {
      const line = 1 + lines.findIndex(({ key }) => key.includes('a.b'));
      if (line === 0) return undefined;
      const message = `failed to parse line protocol:errors encountered on line(s):\nerror in line ${line}: table: limited; invalid column name: a.b`;
      return [400, { code: 'invalid', message, line, errorId: 'x-1' }];
    });
    const sink = sinkOf(server.url);
    const points = series(0, 1_000);
    for (const n of [7, 500]) points[n] = makePoint({ name: 'limited', dimensions: [['a.b', `${n}`]] });
    expect(losses(await sink.write({ points }, NEVER))).toEqual({ refused: 2 });
    expect(server.requests).toBeLessThanOrEqual(8);
    expect(server.stored.size).toBe(998);
    server.requests = 0;
    expect(losses(await sink.write({ points }, NEVER))).toEqual({ refused: 2 });
    // The others, the two together, each alone, and an empty write that shows who is at fault.
    expect(server.requests).toBe(5);
  });

  it('refuses everything, also an empty write: the sink is at fault, and no point is rejected', async () => {
    const server = await double(() => [400, { code: 'invalid', message: 'no such precision', line: 1 }]);
    expect(await sinkOf(server.url).write({ points: series(0, 5) }, NEVER)).toMatchObject({
      kind: 'refused',
      reason: 'bad_request',
    });
  });
});
