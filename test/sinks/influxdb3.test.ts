/** The API of InfluxDB 3, on a double that follows its public documentation. No real server was to be had. */
import { describe, expect, it } from 'vitest';
import influxdb from '../../sinks/influxdb/sink.ts';
import { removesOf, type Sink } from '../../src/sink/contract.ts';
import { differences, makePoint, manyPoints, readAll, START } from '../conformance/points.ts';
import { describeConformance } from '../conformance.ts';
import { InfluxDb3Double } from './influxdb3-double.ts';
import { endAfterEach, startStandIn } from './stand-in.ts';

const NEVER = new AbortController().signal;
const TOKEN = 'apiv3_s3cret';
const LARGE_BYTES = 65_000;
const atEnd = endAfterEach();

const double = new InfluxDb3Double(TOKEN);

describeConformance('influxdb', {
  start: () => double.start(),
  stop: async () => double.stop(),
  variables: (namespace, port) => ({
    URL: `http://127.0.0.1:${port}`,
    API: 'v3',
    DATABASE: namespace,
    TOKEN,
  }),
  wrongCredentials: (variables) => ({ ...variables, TOKEN: 'another' }),
  secrets: [TOKEN],
  differs: {
    forgetsNothing: true,
    hasNoIdentity: true,
    saysNoSize: true,
    refuses: ({ series }) =>
      Buffer.byteLength(series.dimensionsJson) > LARGE_BYTES ? 'too_large' : undefined,
  },
});

const V3 = {
  api: 'v3' as const,
  database: 'd',
  token: TOKEN,
  org: undefined,
  bucket: undefined,
  user: undefined,
  password: undefined,
};

function sinkOf(url: string): Sink {
  const sink = influxdb.create({ url, ...V3 }, { id: 'influxdb', log: { info() {}, warn() {} } });
  atEnd(() => sink.close());
  return sink;
}

describe('InfluxDB 3', () => {
  it('names the lines that it refuses: one request, and the others are written', async () => {
    const server = new InfluxDb3Double(TOKEN);
    const sink = sinkOf(`http://127.0.0.1:${await server.start()}`);
    atEnd(() => server.stop());
    const foreign = `bad count=1.5 ${START}`;
    await fetch(
      `http://127.0.0.1:${server.port}/api/v3/write_lp?db=d&precision=millisecond&accept_partial=true`,
      {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}` },
        body: foreign,
      },
    );
    const points = manyPoints(1_000).map((point, i) =>
      i === 7 || i === 500 ? makePoint({ name: 'bad', dimensions: [['n', `${i}`]] }) : point,
    );
    server.requests = 0;
    const message =
      "invalid column type for column 'count', expected iox::column_type::field::float, got iox::column_type::field::integer";
    expect(await sink.write({ points }, NEVER)).toEqual({
      kind: 'partial',
      retry: [],
      rejected: [7, 500].map((index) => ({ index, reason: 'type_conflict', message })),
    });
    expect(server.requests).toBe(1);
    const stored = await readAll(sink, { from: START, to: START + 1 }, NEVER);
    const good = points.filter(({ series }) => series.name !== 'bad');
    expect(differences(stored, good)).toEqual([]);
  });

  it('keeps what is written: a database and a token are all it needs, and single points stay', async () => {
    expect(removesOf(influxdb as never, V3 as never)).toBe(false);
    expect(removesOf(influxdb as never, { ...V3, api: 'v1' } as never)).toBe(true);
    expect(influxdb.validate?.({ url: 'http://i', ...V3, token: undefined })).toEqual([]);
    const missing = influxdb.validate?.({ url: 'http://i', ...V3, database: undefined });
    expect(missing?.map(({ key }) => key)).toEqual(['database']);
  });

  it('says by which line a request failed, also by the v2 API', async () => {
    const body = {
      error: 'partial write of line protocol occurred',
      data: [{ original_line: 'x', line_number: 2, error_message: 'No fields were provided' }],
    };
    const url = await startStandIn((incoming, outgoing) => {
      incoming.resume();
      outgoing.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    }, atEnd);
    const v2 = { ...V3, url, api: 'v2' as const, database: undefined, org: '-', bucket: 'd' };
    const sink = influxdb.create(v2, { id: 'influxdb', log: { info() {}, warn() {} } });
    atEnd(() => sink.close());
    expect(await sink.write({ points: manyPoints(3) }, NEVER)).toEqual({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 1, reason: 'refused', message: 'No fields were provided' }],
    });
  });
});
