/**
 * What only InfluxDB does: it drops points from a batch. And every status that it, or a proxy before it, sends.
 */

import { once } from 'node:events';
import { createServer, type Server as HttpServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import module from '../../sinks/influxdb/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import type { Server } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { differences, EVERYTHING, makePoint, manyPoints, readAll, START } from '../conformance/points.ts';
import { effort } from '../effort.ts';

const NEVER = new AbortController().signal;
const open: Sink[] = [];
const all = (sink: Sink, range = EVERYTHING) => readAll(sink, range, NEVER);

function sinkOf(url: string, changed: object = {}): Sink {
  const absent = {
    token: undefined,
    org: undefined,
    bucket: undefined,
    user: undefined,
    password: undefined,
  };
  const config = { url, api: 'v1' as const, database: 'd', ...absent, ...changed };
  const sink = module.create(config, { id: 'influxdb', log: { info() {}, warn() {} } });
  open.push(sink);
  return sink;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((sink) => sink.close()));
});

describe('a real server', () => {
  const MAX_BODY_BYTES = 20_000;
  let server: Server;
  const ask = async (q: string, db = 'd') => {
    const body = new URLSearchParams({ q, db });
    expect(await (await fetch(`${server.url}/query`, { method: 'POST', body })).text()).not.toContain(
      'error',
    );
  };
  const put = async (line: string, db: string) => {
    const response = await fetch(`${server.url}/write?db=${db}&precision=ms`, { method: 'POST', body: line });
    expect(response.status).toBe(204);
  };

  beforeAll(async () => {
    server = await startInfluxDb({ maxBodyBytes: MAX_BODY_BYTES });
  });
  afterAll(() => server.stop());

  it('names the points that it drops because of a type conflict, and writes the others', async () => {
    await ask('CREATE DATABASE "conflict"');
    await put(`bad,metric_type=counter sum=1i ${START}`, 'conflict');
    await put(`worse,metric_type=counter count=1.5 ${START}`, 'conflict');
    const sink = sinkOf(server.url, { database: 'conflict' });
    const points = manyPoints(90).map((point, index) =>
      index % 9 === 4
        ? makePoint({ name: index % 2 ? 'bad' : 'worse', dimensions: [['n', `${index}`]] })
        : point,
    );
    const outcome = await sink.write({ points }, NEVER);
    expect(outcome).toMatchObject({ kind: 'partial', retry: [] });
    const rejected = outcome.kind === 'partial' ? outcome.rejected : [];
    expect(rejected.map(({ index }) => index).sort((a, b) => a - b)).toEqual(
      points.flatMap((_, index) => (index % 9 === 4 ? [index] : [])),
    );
    expect(rejected.every(({ reason }) => reason === 'type_conflict')).toBe(true);
    const stored = (await all(sink)).filter(({ series }) => series.name.startsWith('http.'));
    expect(
      differences(
        stored,
        points.filter(({ series }) => series.name.startsWith('http.')),
      ),
    ).toEqual([]);
  });

  it('names the points beyond the retention', async () => {
    await ask('CREATE DATABASE "short" WITH DURATION 1h');
    const sink = sinkOf(server.url, { database: 'short' });
    const now = Math.floor(Date.now() / 10_000) * 10_000;
    const points = [1, 0, 2, 0, 0].map((hours, index) =>
      makePoint({ dimensions: [['n', `${index}`]], windowStart: now - hours * 3_600_000 * 2 }),
    );
    const outcome = await sink.write({ points }, NEVER);
    expect(outcome).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [{ reason: 'out_of_retention' }, { reason: 'out_of_retention' }],
    });
    expect((await all(sink, { from: 0, to: now + 1 })).length).toBe(3);
  });

  it('gets a batch that is too large in parts, and rejects a point that is too large', async () => {
    const sink = sinkOf(server.url);
    await sink.open(NEVER);
    const points = manyPoints(500);
    points[77] = makePoint({ dimensions: [['k', 'x'.repeat(MAX_BODY_BYTES)]] });
    let left = points;
    const rejected: [string, Point][] = [];
    for (let writes = 0; left.length > 0; writes += 1) {
      expect(writes).toBeLessThan(3);
      const sent = left;
      const outcome = await sink.write({ points: sent }, NEVER);
      expect(outcome.kind).not.toMatch(/retry|refused/);
      if (outcome.kind !== 'partial') break;
      rejected.push(...outcome.rejected.map(({ reason, index }): [string, Point] => [reason, sent[index]!]));
      left = outcome.retry.map((index) => sent[index]!);
    }
    expect(rejected).toEqual([['too_large', points[77]]]);
    expect(differences(await all(sink), points.toSpliced(77, 1))).toEqual([]);
  });

  it('returns any series as it was written', async () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 });
    const hostile = fc.string({
      unit: fc.constantFrom(...'%\\,= "\'\n\0_#\ud800a\udc001'),
      minLength: 1,
      maxLength: 6,
    });
    const any = fc.oneof(text, hostile);
    const dimensions = fc.uniqueArray(fc.tuple(any, any), { selector: ([key]) => key, maxLength: 4 });
    const series = fc.uniqueArray(fc.tuple(any, dimensions), {
      selector: ([name]) => name,
      minLength: 50,
      maxLength: 200,
    });
    await ask('CREATE DATABASE "any"');
    const sink = sinkOf(server.url, { database: 'any' });
    const property = async (drawn: [string, [string, string][]][]) => {
      const points = drawn.map(([name, pairs]) => makePoint({ name, dimensions: pairs }));
      expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
      expect(differences(await all(sink), points)).toEqual([]);
      await sink.remove({ points }, NEVER);
      expect(await all(sink)).toEqual([]);
    };
    await fc.assert(fc.asyncProperty(series, property), { numRuns: effort(5) });
  });

  it('may hold data that is not ours, which a read skips', async () => {
    await ask('CREATE DATABASE "shared"');
    const sink = sinkOf(server.url, { database: 'shared' });
    await put(`cpu,host=a usage=1,count=2 ${START}\nforeign,metric_type=other count=2i ${START}`, 'shared');
    await put(`text,metric_type=counter count="many" ${START}`, 'shared');
    await sink.write({ points: [makePoint()] }, NEVER);
    expect(differences(await all(sink), [makePoint()])).toEqual([]);
  });

  it('says on a read that the database does not exist', async () => {
    const reading = all(sinkOf(server.url, { database: 'nowhere' }));
    await expect(reading).rejects.toMatchObject({ name: 'SinkError', reason: 'not_found' });
  });
});

describe('an answer', () => {
  let double: HttpServer;
  let url: string;
  let answer: RequestListener;
  const v2 = { api: 'v2', token: 'tok', org: 'my org', bucket: 'my/bucket', database: undefined };

  beforeAll(async () => {
    double = createServer((request, response) => answer(request, response)).listen(0, '127.0.0.1');
    await once(double, 'listening');
    url = `http://127.0.0.1:${(double.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    double.close();
    double.closeAllConnections();
  });

  const json = { 'content-type': 'application/json' };
  const says = (status: number, body: unknown = '', headers: Record<string, string> = json) => {
    answer = (request, response) => {
      request.resume();
      request.on('end', () =>
        response.writeHead(status, headers).end(body === '' ? '' : JSON.stringify(body)),
      );
    };
  };
  const written = (points = [makePoint()], sink = sinkOf(url, v2)) => sink.write({ points }, NEVER);

  it('that does not come, since the server has ended the connection: the request is sent on another one', async () => {
    const used = new Set<unknown>();
    const sink = sinkOf(url, v2);
    answer = (request, response) => {
      if (used.has(request.socket)) return void request.socket.destroy();
      used.add(request.socket);
      request.resume();
      request.on('end', () => {
        if (request.url?.startsWith('/query')) response.writeHead(200, json).end('{"results":[{}]}');
        else response.writeHead(204).end();
      });
    };
    for (let i = 0; i < 3; i++) {
      expect(await written(undefined, sink)).toEqual({ kind: 'written' });
      expect(await all(sink)).toEqual([]);
    }
  });

  it.each([
    [400, { code: 'invalid', message: 'org is malformed' }, { kind: 'refused', reason: 'bad_request' }],
    [
      401,
      { code: 'unauthorized', message: 'unauthorized access' },
      { kind: 'refused', reason: 'unauthorized' },
    ],
    [403, { message: 'forbidden' }, { kind: 'refused', reason: 'unauthorized' }],
    [404, { code: 'not found', message: 'bucket "b" not found' }, { kind: 'refused', reason: 'not_found' }],
    [301, '', { kind: 'refused', reason: 'bad_request' }],
    [405, '', { kind: 'refused', reason: 'bad_request' }],
    [408, '', { kind: 'retry', reason: 'timeout' }],
    [429, '', { kind: 'retry', reason: 'throttled' }],
    [500, { error: 'engine: cache maximum memory size exceeded' }, { kind: 'retry', reason: 'server_error' }],
    [502, '', { kind: 'retry', reason: 'server_error' }],
    [503, '', { kind: 'retry', reason: 'throttled' }],
    [200, { error: 'not done' }, { kind: 'retry', reason: 'unknown' }],
  ])('of status %i is not an acknowledgement', async (status, body, expected) => {
    says(status, body);
    expect(await written()).toMatchObject(expected);
  });

  it.each([
    [413, { code: 'request too large', message: 'too large' }, 'too_large'],
    [
      422,
      { message: 'failure writing points: partial write: field type conflict: x dropped=1' },
      'type_conflict',
    ],
    [422, { message: 'partial write: points beyond retention policy dropped=1' }, 'out_of_retention'],
    [400, { error: 'partial write: max-values-per-tag limit exceeded dropped=1' }, 'refused'],
    [400, { message: 'unable to parse line 1' }, 'invalid_value'],
  ])('of status %i rejects a point for good', async (status, body, reason) => {
    says(status, body);
    expect(await written()).toMatchObject({ kind: 'partial', retry: [], rejected: [{ index: 0, reason }] });
  });

  it('may say when to try again, in seconds or as a date', async () => {
    says(429, '', { 'retry-after': '7' });
    expect(await written()).toMatchObject({ afterMs: 7_000 });
    says(503, '', { 'retry-after': new Date(Date.now() + 60_000).toUTCString() });
    const outcome = await written();
    expect(outcome.kind === 'retry' && outcome.afterMs! > 50_000 && outcome.afterMs! <= 60_000).toBe(true);
  });

  it('that never helps to find the points ends the search: the others are written, and a loss is counted', async () => {
    let requests = 0;
    answer = (request, response) => {
      requests += 1;
      request.resume();
      request.on('end', () => response.writeHead(422, json).end('{"message":"partial write: of some"}'));
    };
    const outcome = await written(manyPoints(500));
    expect(requests).toBe(20);
    const unidentified = { count: 1, message: '422: partial write: of some' };
    expect(outcome).toMatchObject({ kind: 'partial', retry: [], unidentified });
    expect(outcome.kind === 'partial' && outcome.rejected.length).toBeLessThan(20);
  });

  it('that fails during the search for the points: the rest is retried', async () => {
    const answers = [422, 204, 503];
    answer = (request, response) => {
      request.resume();
      request.on('end', () => response.writeHead(answers.shift()!, json).end('{"message":"partial write"}'));
    };
    expect(await written(manyPoints(4))).toEqual({
      kind: 'partial',
      retry: [2, 3],
      rejected: [],
      reason: 'throttled',
    });
  });

  it('comes to a request that has all parameters, and credentials in a header only', async () => {
    const seen: { target: string; authorization: string; body: string }[] = [];
    answer = async (request, response) => {
      const chunks: Buffer[] = await request.toArray();
      const body = Buffer.concat(chunks);
      const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
      const { authorization = '' } = request.headers;
      seen.push({ target: request.url ?? '', authorization, body: text.toString() });
      response.writeHead(204).end();
    };
    await written();
    await written([makePoint()], sinkOf(`${url}/prefix/`, { user: 'u', password: 'secret' }));
    const body = `requests,app=api,metric_type=counter count=1i,sum=2 ${START}`;
    expect(seen).toEqual([
      {
        target: '/api/v2/write?org=my+org&bucket=my%2Fbucket&precision=ms',
        authorization: 'Token tok',
        body,
      },
      { target: '/prefix/write?db=d&precision=ms', authorization: `Basic ${btoa('u:secret')}`, body },
    ]);
  });

  it.each([
    [204, '', undefined],
    [400, { code: 'invalid', message: 'writing requires points' }, undefined],
    [400, { code: 'invalid', message: 'org is malformed' }, 'bad_request'],
    [401, { message: 'unauthorized access' }, 'unauthorized'],
    [404, { message: 'bucket "my/bucket" not found' }, 'not_found'],
    [503, '', 'throttled'],
  ])(
    'of status %i to an empty write says whether the bucket can be written',
    async (status, body, reason) => {
      says(status, body);
      const opened = sinkOf(url, v2).open(NEVER);
      if (reason === undefined) await opened;
      else await expect(opened).rejects.toMatchObject({ name: 'SinkError', reason });
    },
  );

  it('with an error in the middle of the rows fails the read', async () => {
    const rows = {
      name: 'a',
      tags: { metric_type: 'counter' },
      columns: ['time', 'count'],
      values: [[1, 1]],
    };
    answer = (_, response) => {
      response
        .writeHead(200, json)
        .write(`${JSON.stringify({ results: [{ series: [rows], partial: true }] })}\n`);
      response.end(`${JSON.stringify({ results: [{ error: 'timeout' }] })}\n`);
    };
    await expect(all(sinkOf(url, v2))).rejects.toMatchObject({ name: 'SinkError' });
  });
});
