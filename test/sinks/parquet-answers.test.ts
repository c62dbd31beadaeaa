/** What S3 may answer, and what the sink asks of it. */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { BucketStore } from '../../sinks/parquet/bucket.ts';
import type { Place } from '../../sinks/parquet/config.ts';
import { groups } from '../../sinks/parquet/file.ts';
import parquet from '../../sinks/parquet/sink.ts';
import type { Sink } from '../../src/sink/index.ts';
import { differences, EVERYTHING, makePoint, manyPoints, readAll } from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { BUCKET, KEYS, type S3, type S3Fault, says, startS3 } from '../redshift/s3.ts';

const NEVER = new AbortController().signal;
const points = manyPoints(50);
const FILE = 'date=2026-11-23/20261123T013000000Z.parquet';
const open: { close(): Promise<void> }[] = [];
let s3: S3;
let prefixes = 0;

beforeAll(async () => {
  s3 = await startS3();
  vi.stubEnv('AWS_ACCESS_KEY_ID', KEYS.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', KEYS.secretAccessKey);
  vi.stubEnv('AWS_REGION', 'us-east-1');
});

afterEach(async () => {
  s3.fault = () => false;
  s3.checksConditions = true;
  await Promise.all(open.splice(0).map((each) => each.close()));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await s3.stop();
});

function newPlace(): Extract<Place, { kind: 'bucket' }> {
  prefixes += 1;
  return { kind: 'bucket', bucket: BUCKET, prefix: `lake-${prefixes}/` };
}

function made(place = newPlace(), create = true): Sink {
  const config = { url: place, partitionBy: 'date', create, region: undefined, endpoint: s3.front } as const;
  const sink = parquet.create(config, { id: 't', log: { info() {}, warn() {} } });
  open.push(sink);
  return sink;
}

async function opened(place = newPlace()): Promise<Sink> {
  const sink = made(place);
  await sink.open(NEVER);
  return sink;
}

async function store(place = newPlace(), wholeBytes?: number): Promise<BucketStore> {
  const options = {
    place,
    region: undefined,
    endpoint: s3.front,
    making: (make: () => Promise<unknown>) => make(),
    create: true,
    readOnly: false,
  };
  const made = new BucketStore(wholeBytes === undefined ? options : { ...options, wholeBytes });
  open.push(made);
  await made.open('date', NEVER);
  return made;
}

it('says which place it made, once, and puts nothing if it may only read', async () => {
  const place = newPlace();
  const config = {
    url: place,
    partitionBy: 'date',
    create: true,
    region: undefined,
    endpoint: s3.front,
  } as const;
  const said: string[] = [];
  const log = { info: (_: object, message: string) => void said.push(message), warn() {} };
  const openedAs = async (readOnly: boolean) => {
    const sink = parquet.create(config, { id: 't', log, readOnly });
    open.push(sink);
    await sink.open(NEVER);
    return sink;
  };
  s3.requests.splice(0);
  const missing = await sinkError(openedAs(true));
  const name = `bucket folder s3://${BUCKET}/${place.prefix}`;
  expect(missing).toMatchObject({ reason: 'not_found', message: `there is no ${name}` });
  const maker = await openedAs(false);
  expect(said).toEqual([`made the ${name}`]);
  await maker.write({ points }, NEVER);
  await openedAs(false);
  expect(said).toHaveLength(1);
  s3.requests.splice(0);
  const reader = await openedAs(true);
  expect(await readAll(reader, EVERYTHING, NEVER)).toHaveLength(points.length);
  expect(s3.requests.filter((request) => !request.startsWith('GET '))).toEqual([]);
});

/** What was asked of S3, without what differs from run to run. */
function asked(place: Extract<Place, { kind: 'bucket' }>): string[] {
  const requests = s3.requests.splice(0).map((request) => decodeURIComponent(request).split('?x-id')[0]!);
  return requests.map((request) =>
    request.replace(`/${BUCKET}/${place.prefix}`, '').replace(`/${BUCKET}/`, ''),
  );
}

describe('requests', () => {
  it('are two for a window that is new, and two for a batch that comes again', async () => {
    const place = newPlace();
    const sink = await opened(place);
    s3.requests.length = 0;
    await sink.write({ points }, NEVER);
    expect(asked(place)).toEqual([`GET ${FILE}`, `PUT ${FILE}`]);
    await sink.write({ points }, NEVER);
    expect(asked(place)).toEqual([`GET ${FILE}`, `PUT ${FILE}`]);
    await sink.remove({ points }, NEVER);
    expect(asked(place)).toEqual([`GET ${FILE}`, `DELETE ${FILE}`]);
    expect((await s3.keys()).filter((key) => key.startsWith(place.prefix))).toEqual([
      `${place.prefix}_metrics-fanout.json`,
    ]);
  });

  it('are two for all batches that wait for a file together', async () => {
    const place = newPlace();
    const sink = await opened(place);
    s3.requests.length = 0;
    const batches = Array.from({ length: 10 }, (_, index) => points.slice(5 * index, 5 * index + 5));
    await Promise.all(batches.map((batch) => sink.write({ points: batch }, NEVER)));
    // The first goes alone, because it does not wait.
    expect(asked(place)).toEqual([`GET ${FILE}`, `PUT ${FILE}`, `GET ${FILE}`, `PUT ${FILE}`]);
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  });

  it('are those that the documented policy allows', async () => {
    const text = readFileSync('docs/stores.md', 'utf8');
    const [, policy] = /<!-- tested: iam policy for parquet -->\n```json\n([\s\S]*?)```/.exec(text)!;
    const allowed = JSON.parse(policy!).Statement.flatMap(
      ({ Action }: { Action: string | string[] }) => Action,
    );
    s3.requests.length = 0;
    const sink = await opened();
    await sink.write({ points }, NEVER);
    await readAll(sink, EVERYTHING, NEVER);
    await sink.storage!(NEVER);
    await sink.remove({ points }, NEVER);
    const names = { GET: 's3:GetObject', PUT: 's3:PutObject', DELETE: 's3:DeleteObject' } as const;
    const needed = s3.requests.map((request) =>
      request.includes('list-type=2') ? 's3:ListBucket' : names[request.split(' ')[0] as keyof typeof names],
    );
    expect([...new Set(needed)].sort()).toEqual([...allowed].sort());
  });
});

describe('a prefix', () => {
  it('that was not used before is refused, if it must have been', async () => {
    const place = newPlace();
    const error = await sinkError(made(place, false).open(NEVER));
    expect(error).toMatchObject({
      reason: 'not_found',
      advice: expect.stringMatching(/SINK_<ID>_CREATE=true/),
    });
    await opened(place);
    await made(place, false).open(NEVER);
  });
});

describe('an object', () => {
  it('is replaced only if it is still the one that was read', async () => {
    const place = newPlace();
    const [one, other] = [await store(place), await store(place)];
    const bytes = (text: string) => Buffer.from(text);
    expect(await one.replace('x', bytes('first'), undefined, NEVER)).toBe(true);
    expect(await other.replace('x', bytes('late'), undefined, NEVER)).toBe(false);
    const before = await one.get('x', NEVER);
    expect(await other.replace('x', bytes('second'), before, NEVER)).toBe(true);
    // A request that was given up, and arrives now.
    expect(await one.replace('x', bytes('late'), before, NEVER)).toBe(false);
    expect(await one.replace('x', undefined, before, NEVER)).toBe(false);
    const now = await one.get('x', NEVER);
    expect(Buffer.from(now!.bytes).toString()).toBe('second');
    expect(await one.replace('x', undefined, now, NEVER)).toBe(true);
    expect(await other.replace('x', bytes('late'), now, NEVER)).toBe(false);
    expect(await one.get('x', NEVER)).toBeUndefined();
  });

  it('that is large is read row group by row group, and as one version of it', async () => {
    const place = newPlace();
    const sink = await opened(place);
    await sink.write({ points: manyPoints(45_000) }, NEVER);
    const reader = await store(place, 100_000);
    s3.requests.length = 0;
    const reading = await reader.read(FILE, NEVER);
    expect(reading!.byteLength).toBeGreaterThan(500_000);
    const sizes: number[] = [];
    for await (const rows of groups(reading!)) sizes.push(rows.length);
    expect(sizes).toEqual([20_000, 20_000, 5_000]);
    // The beginning, the footer, and each row group.
    expect(asked(place)).toEqual(Array(5).fill(`GET ${FILE}`));

    const torn = (await reader.read(FILE, NEVER))!;
    await sink.write({ points: manyPoints(1, 7) }, NEVER);
    await expect(torn.slice(200_000, 200_010)).rejects.toMatchObject({ reason: 'conflict' });
  });

  it('in a store that does not check conditions is not written', async () => {
    s3.checksConditions = false;
    const error = await sinkError(made().open(NEVER));
    expect([error.reason, error.advice]).toEqual(['bad_request', expect.stringMatching(/^Use a store/)]);
    s3.checksConditions = true;
    s3.fault = (method, ...rest) => method === 'PUT' && says(501, 'NotImplemented')(method, ...rest);
    expect((await sinkError(made().open(NEVER))).reason).toBe('bad_request');
  });
});

describe('an answer', () => {
  it.each<[string, S3Fault, object]>([
    ['is busy', says(503, 'SlowDown'), { kind: 'retry', reason: 'throttled' }],
    ['fails', says(500, 'InternalError'), { kind: 'retry', reason: 'server_error' }],
    ['has another request', says(409, 'ConditionalRequestConflict'), { kind: 'retry', reason: 'conflict' }],
    ['refuses', says(403, 'AccessDenied'), { kind: 'refused', reason: 'unauthorized' }],
    ['does not know the key', says(403, 'InvalidAccessKeyId'), { kind: 'refused', reason: 'unauthorized' }],
    ['has no such bucket', says(404, 'NoSuchBucket'), { kind: 'refused', reason: 'not_found' }],
    ['is elsewhere', says(301, 'PermanentRedirect'), { kind: 'refused', reason: 'bad_request' }],
  ])('that S3 %s is told to the lane, and nothing is lost', async (_, fault, outcome) => {
    const sink = await opened();
    for (const refused of ['GET', 'PUT']) {
      s3.fault = (method, ...rest) => method === refused && fault(method, ...rest);
      expect(await sink.write({ points }, NEVER), refused).toMatchObject(outcome);
    }
    s3.fault = () => false;
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points)).toEqual([]);
  });

  it('that an object is gone, once it was listed, is no error', async () => {
    const sink = await opened();
    await sink.write({ points }, NEVER);
    s3.fault = (method, target, response) =>
      method === 'GET' && target.includes('.parquet') && says(404, 'NoSuchKey')(method, target, response);
    expect(await readAll(sink, EVERYTHING, NEVER)).toEqual([]);
  });

  it('is asked again if somebody was faster, until it is in', async () => {
    const sink = await opened();
    await sink.write({ points }, NEVER);
    let refusals = 2;
    s3.fault = (method, ...rest) => {
      if (method !== 'PUT' || refusals === 0) return false;
      refusals -= 1;
      return says(412, 'PreconditionFailed')(method, ...rest);
    };
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toEqual({ kind: 'written' });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), [...points, makePoint()])).toEqual([]);
  });
});
