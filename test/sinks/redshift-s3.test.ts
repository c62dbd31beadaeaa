/**
 * What can go wrong only through S3: S3 fails, COPY fails, objects are left, a process is killed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ROWS_PER_PART } from '../../sinks/redshift/copy.ts';
import redshift from '../../sinks/redshift/sink.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { settlesPromptly } from '../conformance/lifecycle.ts';
import { differences, EVERYTHING, makePoint, manyPoints, readAll } from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { type Rig, ROLE, S3_SETTINGS, startRig } from '../redshift/rig.ts';
import { BUCKET, says } from '../redshift/s3.ts';
import { DEFAULTS } from '../redshift/settings.ts';

const NEVER = new AbortController().signal;
const DAY_MS = 86_400_000;
const points = manyPoints(50);
const before = manyPoints(50, 7);
const open: Sink[] = [];
const warnings: unknown[] = [];
let rig: Rig;
let tables = 0;

beforeAll(async () => {
  rig = await startRig();
});

afterEach(async () => {
  rig.s3.fault = () => false;
  rig.double.beforeCopy = async () => {};
  await Promise.all(open.splice(0).map((sink) => sink.close()));
  warnings.length = 0;
  expect(rig.double.refused).toEqual([]);
});

afterAll(() => rig.stop());

function made(changed: object = {}): Sink {
  const config = { ...DEFAULTS, ...S3_SETTINGS, url: rig.url(), ...changed };
  expect(redshift.validate?.(config)).toEqual([]);
  const warn = (fields: object, message: string) => void warnings.push([message, fields]);
  const sink = redshift.create(config, { id: 't', log: { info() {}, warn } });
  open.push(sink);
  return sink;
}

/** A sink with a table of its own that has the rows of `before`. */
async function opened(changed: object = {}): Promise<{ sink: Sink; table: string }> {
  tables += 1;
  const table = `s3_${tables}`;
  const sink = made({ table, ...changed });
  await sink.open(NEVER);
  expect(await sink.write({ points: before }, NEVER)).toEqual({ kind: 'written' });
  await noObjects();
  return { sink, table };
}

async function noObjects(): Promise<void> {
  await expect.poll(() => rig.s3.keys()).toEqual([]);
}

async function expectStored(sink: Sink, expected = points): Promise<void> {
  expect(differences(await readAll(sink, EVERYTHING, NEVER), expected)).toEqual([]);
}

const copies = () => rig.double.statements.filter((text) => text.startsWith('COPY')).length;

describe('writing through S3', () => {
  it('is for a large batch, in parts, and not for a small one', async () => {
    const { sink, table } = await opened({ s3MinPoints: 51 });
    const copied = copies();
    await sink.write({ points: manyPoints(50) }, NEVER);
    expect(copies()).toBe(copied);
    rig.s3.requests.length = 0;
    const many = manyPoints(ROWS_PER_PART + 1);
    expect(await sink.write({ points: many }, NEVER)).toEqual({ kind: 'written' });
    expect(copies()).toBe(copied + 1);
    const put = rig.s3.requests.filter((request) => request.startsWith('PUT'));
    expect(put.map((request) => request.replace(/.*\/|\?.*/g, ''))).toEqual([
      'part-0.gz',
      'part-1.gz',
      'manifest',
    ]);
    expect(put[0]).toMatch(
      /^PUT \/metrics\/to\/redshift\/fanout-stage\/\d{8}T\d{6}\.\d{3}Z-[0-9a-f-]{36}\/part-0\.gz/,
    );
    await noObjects();
    const { rows } = await rig.postgres.execute(`SELECT count(*) AS rows, sum(count) AS sum FROM ${table}`);
    expect(rows).toEqual([{ rows: String(many.length), sum: String((many.length * (many.length + 1)) / 2) }]);
  });

  it('keeps text that is syntax to COPY, and numbers to the last bit', async () => {
    const { sink, table } = await opened();
    await rig.postgres.execute(`DELETE FROM ${table}`);
    const texts = [
      '|',
      '\\N',
      '\\',
      '\\|',
      '\r',
      '\n',
      '\r\n',
      '\\\n',
      '"',
      '\ufffe',
      '\ufeff',
      '',
      '#',
      'N',
    ];
    const values = { count: 1, sum: 5e-324, min: -Number.MAX_VALUE, max: 0.1 + 0.2, last: 1 / 3 };
    const written = texts.map((text) =>
      makePoint({ name: text, type: 'gauge', instance: text, dimensions: [['k', `${text}.`]], values }),
    );
    expect(await sink.write({ points: written }, NEVER)).toEqual({ kind: 'written' });
    await expectStored(sink, written);
    expect(rig.double.notLoaded).toEqual([]);
  });

  it('allows for larger batches', () => {
    const config = { ...DEFAULTS, url: 'postgres://h/d' };
    expect(redshift.limitsBy?.({ ...config, ...S3_SETTINGS }).maxPoints).toBe(100_000);
    expect(redshift.limitsBy?.(config)).toEqual(redshift.limits);
  });

  it('loads no SDK if S3 is not set', async () => {
    const program = `
      import { createRequire } from 'node:module';
      const sink = (await import('./sinks/redshift/sink.ts')).default;
      sink.create(${JSON.stringify({ ...DEFAULTS, url: 'postgres://h/d' })}, { id: 't', log: console });
      const loaded = Object.keys(createRequire(process.cwd() + '/').cache);
      console.log(loaded.some((path) => path.includes('/pg/')), loaded.some((path) => path.includes('@aws-sdk')));`;
    const child = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', program]);
    const printed = Buffer.concat(await child.stdout.toArray()).toString();
    expect(printed.trim()).toBe('true false');
  });
});

describe('S3', () => {
  it.each([
    ['is busy', says(503, 'SlowDown'), { kind: 'retry', reason: 'throttled' }],
    ['fails', says(500, 'InternalError'), { kind: 'retry', reason: 'server_error' }],
    ['refuses', says(403, 'AccessDenied'), { kind: 'refused', reason: 'unauthorized' }],
    ['does not know the key', says(403, 'InvalidAccessKeyId'), { kind: 'refused', reason: 'unauthorized' }],
    ['has no such bucket', says(404, 'NoSuchBucket'), { kind: 'refused', reason: 'not_found' }],
    ['is elsewhere', says(301, 'PermanentRedirect'), { kind: 'refused', reason: 'bad_request' }],
    [
      'cuts the connection',
      (_: string, __: string, response: ServerResponse) => Boolean(response.destroy()),
      { kind: 'retry' },
    ],
  ] as const)('that %s leaves neither rows nor objects', async (_, fault, expected) => {
    const { sink } = await opened();
    // First the parts get through and the manifest does not, then nothing does.
    for (const isMet of [(target: string) => target.includes('manifest'), () => true]) {
      rig.s3.fault = (method, target, response) =>
        method === 'PUT' && isMet(target) && fault(method, target, response);
      expect(await sink.write({ points }, NEVER)).toMatchObject(expected);
      await noObjects();
      await expectStored(sink, before);
    }
    rig.s3.fault = () => false;
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    await expectStored(sink);
  });

  it('that hangs is given up when the signal is aborted, and when the sink is closed', async () => {
    const { sink } = await opened();
    rig.s3.fault = (method) => method === 'PUT';
    const left = sink.write({ points }, AbortSignal.timeout(100));
    await settlesPromptly(left);
    await expect(left).rejects.toThrow(/timeout/);
    const writing = sink.write({ points }, NEVER).catch((error: unknown) => error);
    await settlesPromptly(sink.close());
    await settlesPromptly(writing);
    expect(await writing).toMatchObject({ kind: 'retry' });
    rig.s3.fault = () => false;
    await noObjects();
    await sink.open(NEVER);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
  });

  it('that does not remove objects is reported, and they are removed a day later', async () => {
    const { sink, table } = await opened();
    rig.s3.fault = (method, ...rest) => method === 'POST' && says(403, 'AccessDenied')(method, ...rest);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    await expect.poll(() => warnings.length).toBe(1);
    expect(warnings[0]).toMatchObject([
      'could not remove objects from S3',
      { error: expect.stringMatching(/Denied/) },
    ]);
    rig.s3.fault = () => false;
    expect(await rig.s3.keys()).toHaveLength(2);
    await made({ table }).open(NEVER);
    expect((await rig.s3.keys()).length).toBeGreaterThanOrEqual(2);
    rig.s3.age(DAY_MS + 60_000);
    await rig.s3.put('to/redshift/other', 'not ours');
    rig.s3.age(DAY_MS + 60_000);
    await made({ table }).open(NEVER);
    await expect.poll(() => rig.s3.keys()).toEqual(['to/redshift/other']);
    await rig.s3.delete('to/redshift/other');
  });

  it('that does not list objects is reported, and is no obstacle', async () => {
    rig.s3.fault = (method, ...rest) => method === 'GET' && says(403, 'AccessDenied')(method, ...rest);
    await opened();
    expect(warnings).toMatchObject([[expect.stringMatching(/ListBucket/), { bucket: BUCKET }]]);
  });
});

describe('open', () => {
  it.each([
    [
      'a role that Redshift may not assume',
      { iamRole: ROLE.replace('reads', 'owns') },
      'unauthorized',
      /role/,
    ],
    ['a bucket that does not exist', { s3: { bucket: 'absent', prefix: '' } }, 'not_found', /bucket/],
  ])('fails with advice for %s', async (_, changed, reason, advice) => {
    const error = await sinkError(made(changed).open(NEVER));
    expect(error).toMatchObject({ reason, advice: expect.stringMatching(advice) });
    await noObjects();
  });

  it('fails on a server that is not Redshift', async () => {
    const url = rig.url(rig.postgres.port);
    expect(await sinkError(made({ url }).open(NEVER))).toMatchObject({ reason: 'bad_request' });
  });
});

describe('COPY', () => {
  const damage = (suffix: string, body: string | Uint8Array) => async () => {
    const keys = await rig.s3.keys();
    await rig.s3.put(keys.find((key) => key.endsWith(suffix))!, body);
  };
  it.each([
    ['finds no part', async () => rig.s3.delete((await rig.s3.keys()).find((key) => key.endsWith('gz'))!)],
    [
      'finds no manifest',
      async () => rig.s3.delete((await rig.s3.keys()).find((key) => key.endsWith('manifest'))!),
    ],
    ['finds a broken manifest', damage('manifest', '{"entries":')],
    ['finds a part that is cut off', damage('gz', gzipSync('x'.repeat(1_000)).subarray(0, 20))],
    ['finds fewer rows than were uploaded', damage('gz', gzipSync(''))],
  ])('that %s is retried, and has written nothing', async (_, between) => {
    const { sink } = await opened();
    rig.double.beforeCopy = between;
    expect(await sink.write({ points }, NEVER)).toMatchObject({ kind: 'retry', reason: 'server_error' });
    await noObjects();
    await expectStored(sink, before);
    rig.double.beforeCopy = async () => {};
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    await expectStored(sink);
  });

  it('that cannot load a row leaves the batch to INSERT, which finds the row', async () => {
    const { sink: wide, table } = await opened();
    // Room for http.timer and http.gauge, and none for http.counter.
    await rig.postgres.execute(`DELETE FROM ${table}; ALTER TABLE ${table} ALTER name TYPE varchar(10)`);
    await wide.close();
    const sink = made({ table });
    await sink.open(NEVER);
    const outcome = await sink.write({ points: points.slice(0, 12) }, NEVER);
    expect(warnings).toMatchObject([['COPY could not load a batch; sending it by INSERT', { points: 12 }]]);
    expect(rig.double.notLoaded).toEqual(['String length exceeds DDL length']);
    const counters = points
      .slice(0, 12)
      .flatMap(({ series }, index) => (series.type === 'counter' ? [index] : []));
    expect(outcome).toMatchObject({ kind: 'partial', retry: [] });
    const rejected = outcome.kind === 'partial' ? outcome.rejected : [];
    expect(
      rejected.map(({ index, reason }) => [index, reason]).sort((a, b) => Number(a[0]) - Number(b[0])),
    ).toEqual(counters.map((index) => [index, 'too_large']));
    await expectStored(
      sink,
      points.slice(0, 12).filter(({ series }) => series.type !== 'counter'),
    );
  });

  it('of a killed process leaves no rows, and its objects are removed a day later', async () => {
    const { sink, table } = await opened();
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const { promise: gate, resolve: pass } = Promise.withResolvers<void>();
    const config = JSON.stringify({ ...DEFAULTS, ...S3_SETTINGS, url: rig.url(), table, s3MinPoints: 2 });
    const program = `
      const sink = (await import('./sinks/redshift/sink.ts')).default.create(${config}, { id: 't', log: console });
      const { manyPoints } = await import('./test/conformance/points.ts');
      await sink.open(new AbortController().signal);
      console.log('open');
      await sink.write({ points: manyPoints(50) }, new AbortController().signal);`;
    const child = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', program]);
    await once(child.stdout, 'data');
    rig.double.beforeCopy = () => {
      start();
      return gate;
    };
    await started;
    child.kill('SIGKILL');
    await once(child, 'exit');
    pass();
    rig.double.beforeCopy = async () => {};
    await expectStored(sink, before);
    expect(await rig.s3.keys()).toHaveLength(2);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    await expectStored(sink);
    rig.s3.age(DAY_MS + 60_000);
    await made({ table }).open(NEVER);
    await noObjects();
  });
});
