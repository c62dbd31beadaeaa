/** A real InfluxDB 2, if there is one: Debian has none, so `npm test` uses what is on the PATH. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import influxdb from '../../sinks/influxdb/sink.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { type InfluxDb2, influxd2, startInfluxDb2 } from '../../src/servers/influxdb2.ts';
import type { Server } from '../../src/servers/server-process.ts';
import type { Sink, WriteOutcome } from '../../src/sink/contract.ts';
import {
  differences,
  EVERYTHING,
  makePoint,
  manyPoints,
  readAll,
  START,
  WINDOW_MS,
} from '../conformance/points.ts';
import { PROMPT_MS } from '../conformance/subject.ts';
import { describeConformance } from '../conformance.ts';
import { passOn, startOneWriteFront } from './influxdb-servers.ts';
import { endAfterEach, sinkSettings, startStandIn } from './stand-in.ts';

/** Near the server's limit on a series key. No point of the suite is between the two. */
const LARGE_BYTES = 65_000;
const HOUR_S = 3_600;
/** What the search for what was dropped may cost, the first write included. */
const MAX_REQUESTS = 20;
const NEVER = new AbortController().signal;
const isThere = influxd2() !== undefined;
const title = isThere ? 'InfluxDB 2' : 'InfluxDB 2 (skipped: no influxd of version 2 on the PATH)';

describe.skipIf(!isThere)(title, () => {
  let server: InfluxDb2;
  let front: Server;

  describeConformance('influxdb', {
    async start() {
      server = await startInfluxDb2();
      front = await startOneWriteFront(server);
      return front.port;
    },
    async stop() {
      await front?.stop();
      await server?.stop();
    },
    async variables(namespace, port) {
      // The same namespace is the same bucket: the second time, it is there.
      await server.createBucket(namespace).catch((error: Error) => expect(error.message).toContain('422'));
      const { org, token } = server;
      return { URL: `http://127.0.0.1:${port}`, API: 'v2', TOKEN: token, ORG: org, BUCKET: namespace };
    },
    secrets: ['a-token-of-the-tests'],
    wrongCredentials: (variables) => ({ ...variables, TOKEN: 'another' }),
    missing: (variables) => ({ ...variables, BUCKET: 'missing' }),
    differs: {
      refuses: ({ series }: Point) =>
        Buffer.byteLength(series.dimensionsJson) > LARGE_BYTES ? 'too_large' : undefined,
    },
  });
});

describe.skipIf(!isThere)(`what is peculiar: ${title}`, () => {
  const atEnd = endAfterEach();
  let server: InfluxDb2;
  let buckets = 0;
  beforeAll(async () => {
    server = await startInfluxDb2();
  });
  afterAll(() => server?.stop());

  /** Passes everything on, and counts. */
  async function counting(): Promise<{ requests: number; url: string }> {
    const told = { requests: 0, url: '' };
    told.url = await startStandIn((incoming, outgoing) => {
      told.requests += 1;
      void passOn(incoming, outgoing, server.port);
    }, atEnd);
    return told;
  }

  async function opened(variables: Readonly<Record<string, string>>): Promise<Sink> {
    const { url, org, token } = server;
    const own = { URL: url, API: 'v2', TOKEN: token, ORG: org, ...variables };
    const sink = influxdb.create(sinkSettings(influxdb, own) as never, {
      id: 't',
      log: { info() {}, warn() {} },
    });
    atEnd(() => sink.close());
    await sink.open(NEVER);
    return sink;
  }

  async function bucket(keepSeconds = 0): Promise<{ name: string; id: string }> {
    buckets += 1;
    const name = `b${buckets}`;
    return { name, id: await server.createBucket(name, keepSeconds) };
  }

  const many = (count: number, windowStart: number) =>
    Array.from({ length: count }, (_, n) => makePoint({ dimensions: [['n', `${n}`]], windowStart }));

  function rejections(outcome: WriteOutcome): { index: number; reason: string }[] {
    if (outcome.kind !== 'partial') throw new Error(JSON.stringify(outcome));
    expect(outcome).toMatchObject({ retry: [] });
    expect(outcome.unidentified).toBeUndefined();
    return outcome.rejected.map(({ index, reason }) => ({ index, reason }));
  }

  it('names what is beyond retention by the time that it says, in one request, and keeps the rest', async () => {
    const front = await counting();
    const { name } = await bucket(HOUR_S);
    const sink = await opened({ URL: front.url, BUCKET: name });
    const now = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;
    const points = many(5_000, now).map((point, n) =>
      n % 3 === 0 ? point : { ...point, windowStart: now - 2 * HOUR_S * 1_000 - (n % 5) * 86_400_000 },
    );
    front.requests = 0;
    const expected = points.flatMap((_, index) =>
      index % 3 === 0 ? [] : [{ index, reason: 'out_of_retention' }],
    );
    expect(rejections(await sink.write({ points }, NEVER))).toEqual(expected);
    expect(front.requests).toBeLessThanOrEqual(MAX_REQUESTS);
    const range = { from: 0, to: now + WINDOW_MS };
    const kept = points.filter((_, index) => index % 3 === 0);
    expect(differences(await readAll(sink, range, NEVER), kept)).toEqual([]);
  });

  it('rejects all points of a batch that is too old', async () => {
    const { name } = await bucket(HOUR_S);
    const sink = await opened({ BUCKET: name });
    const points = many(1_000, START - 86_400_000);
    const found = rejections(await sink.write({ points }, NEVER));
    expect(found).toEqual(points.map((_, index) => ({ index, reason: 'out_of_retention' })));
  });

  it('rejects points whose fields have another type, and keeps the rest', async () => {
    const front = await counting();
    const { name } = await bucket();
    const sink = await opened({ URL: front.url, BUCKET: name });
    const query = new URLSearchParams({ org: server.org, bucket: name, precision: 'ms' });
    const written = await fetch(`${server.url}/api/v2/write?${query}`, {
      method: 'POST',
      headers: { authorization: `Token ${server.token}` },
      body: `requests,metric_type=counter,n=x count=1.5 ${START}`,
    });
    expect(written.status).toBe(204);
    const others = manyPoints(300);
    const points = [...others.slice(0, 150), ...many(40, START), ...others.slice(150)];
    front.requests = 0;
    const found = rejections(await sink.write({ points }, NEVER));
    expect(found).toEqual(
      Array.from({ length: 40 }, (_, n) => ({ index: 150 + n, reason: 'type_conflict' })),
    );
    expect(front.requests).toBeLessThanOrEqual(MAX_REQUESTS);
    const held = (await readAll(sink, EVERYTHING, NEVER)).filter(({ series }) => series.name !== 'requests');
    expect(differences(held, others)).toEqual([]);
  });

  it('refuses a whole batch for a key of 64 KB: the others are written', async () => {
    const front = await counting();
    const { name } = await bucket();
    const sink = await opened({ URL: front.url, BUCKET: name });
    const points = many(1_000, START);
    points[333] = makePoint({ dimensions: [['k', 'x'.repeat(65_600)]] });
    const lost: object[] = [];
    for (let left = points; left.length > 0; ) {
      const sent = left;
      front.requests = 0;
      const outcome = await sink.write({ points: sent }, NEVER);
      expect(front.requests).toBeLessThanOrEqual(MAX_REQUESTS);
      if (outcome.kind === 'partial') lost.push(...outcome.rejected.map(({ reason }) => ({ reason })));
      left = outcome.kind === 'partial' ? outcome.retry.map((index) => sent[index]!) : [];
    }
    expect(lost).toEqual([{ reason: 'too_large' }]);
    const others = points.filter((_, index) => index !== 333);
    expect(differences(await readAll(sink, EVERYTHING, NEVER), others)).toEqual([]);
  });

  it('removes from a bucket with a slash only by a default mapping: the error says how to make it', async () => {
    const name = `a${buckets}/b`;
    await server.createBucket(name);
    const sink = await opened({ BUCKET: name });
    const points = many(10, START);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
    await expect(sink.remove({ points }, NEVER)).rejects.toMatchObject({
      advice: expect.stringContaining('influx v1 dbrp create'),
    });
  });

  it('has another identity if its bucket was made again', async () => {
    const { name } = await bucket();
    const sink = await opened({ BUCKET: name });
    const identity = await sink.identity!(NEVER);
    await sink.write({ points: many(3, START) }, NEVER);
    expect(await sink.identity!(NEVER)).toBe(identity);
    await server.removeBucket(name);
    await expect(sink.identity!(NEVER)).rejects.toMatchObject({ reason: 'not_found' });
    await server.createBucket(name);
    expect(await sink.identity!(NEVER)).not.toBe(identity);
  });

  it('a token that may read and write the bucket is enough, also to tell the size', async () => {
    const { name, id } = await bucket();
    const sink = await opened({ BUCKET: name, TOKEN: await server.createToken(id, ['read', 'write']) });
    const points = manyPoints(60);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
    expect(await sink.identity?.(NEVER)).toMatch(/^[0-9a-f-]{36}$/);
    // The server looks every ten seconds.
    await expect.poll(() => sink.storage?.(NEVER), { timeout: PROMPT_MS }).toBeGreaterThan(0);
    await sink.remove({ points }, NEVER);
    expect(await readAll(sink, EVERYTHING, NEVER)).toEqual([]);
  });
});
