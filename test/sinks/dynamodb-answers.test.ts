/** What the emulator never does, simulated at the wire: throttling, refusals, errors and incomplete answers. */

import { once } from 'node:events';
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { CreateTableCommand, DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import module from '../../sinks/dynamodb/sink.ts';
import { startDynamoDb } from '../../src/servers/dynamodb.ts';
import type { Server } from '../../src/servers/server-process.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { differences, EVERYTHING, makePoint, manyPoints, readAll } from '../conformance/points.ts';

type Fault = (operation: string, body: string, response: ServerResponse) => boolean;

const NEVER = new AbortController().signal;
const KEY = 'the-secret-key';
const open: Sink[] = [];
const warnings: unknown[] = [];
let server: Server;
let front: HttpServer;
let url: string;
/** Returns true if it answers instead of the server. */
let fault: Fault = () => false;

beforeAll(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAFANOUTTEST');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', KEY);
  server = await startDynamoDb();
  front = createServer((incoming, outgoing) => void pass(incoming, outgoing)).listen(0, '127.0.0.1');
  await once(front, 'listening');
  url = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
});

afterEach(async () => {
  fault = () => false;
  warnings.length = 0;
  await Promise.all(open.splice(0).map((sink) => sink.close()));
});

afterAll(async () => {
  front.close();
  front.closeAllConnections();
  await server.stop();
  vi.unstubAllEnvs();
});

async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const body = Buffer.concat(await incoming.toArray());
  const operation = String(incoming.headers['x-amz-target']).replace(/.*\./, '');
  if (fault(operation, body.toString(), outgoing)) return;
  const { method, headers } = incoming;
  request({ port: server.port, host: '127.0.0.1', method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    answer.pipe(outgoing);
  }).end(body);
}

function sinkOf(changed: object = {}): Sink {
  const config = {
    table: 'faults',
    region: 'us-east-1',
    endpoint: url,
    create: true,
    warmWrites: undefined,
    sketch: false,
    ttl: undefined,
    ...changed,
  };
  const warn = (fields: object) => void warnings.push(fields);
  const sink = module.create(config, { id: 'dynamodb', log: { info() {}, warn } });
  open.push(sink);
  return sink;
}

async function opened(changed: object = {}): Promise<Sink> {
  const sink = sinkOf(changed);
  await sink.open(NEVER);
  return sink;
}

/** One answer, as DynamoDB words it. */
function says(status: number, type: string, message = 'because'): Fault {
  return (_, __, response) => {
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' });
    response.end(JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${type}`, message }));
    return true;
  };
}

describe('an answer to a write', () => {
  it.each([
    [400, 'ProvisionedThroughputExceededException', { kind: 'retry', reason: 'throttled' }],
    [400, 'ThrottlingException', { kind: 'retry', reason: 'throttled' }],
    [400, 'RequestLimitExceeded', { kind: 'retry', reason: 'throttled' }],
    [400, 'ReplicatedWriteConflictException', { kind: 'retry', reason: 'conflict' }],
    [400, 'ResourceNotFoundException', { kind: 'refused', reason: 'not_found' }],
    [400, 'UnrecognizedClientException', { kind: 'refused', reason: 'unauthorized' }],
    [400, 'AccessDeniedException', { kind: 'refused', reason: 'unauthorized' }],
    [400, 'ExpiredTokenException', { kind: 'refused', reason: 'unauthorized' }],
    [400, 'SomethingNewException', { kind: 'retry', reason: 'unknown' }],
    [500, 'InternalServerError', { kind: 'retry', reason: 'server_error' }],
    [503, 'ServiceUnavailable', { kind: 'retry', reason: 'server_error' }],
  ])('%i %s', async (status, type, expected) => {
    const sink = await opened();
    fault = says(status, type);
    const outcome = await sink.write({ points: [makePoint()] }, NEVER);
    expect(outcome).toMatchObject({ ...expected, message: `${type}: because` });
  });

  it('that does not come, since the connection ends: the call is sent again on another one', async () => {
    const sink = await opened();
    const points = manyPoints(2);
    const once = () => {
      fault = (_, __, response) => {
        fault = () => false;
        return Boolean(response.destroy());
      };
    };
    once();
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    once();
    expect((await readAll(sink, EVERYTHING, NEVER)).length).toBe(2);
    once();
    await sink.open(NEVER);
  });

  it('that leaves items unprocessed: only these are retried', async () => {
    const sink = await opened({ table: 'unprocessed' });
    const points = manyPoints(25);
    fault = (_, body, response) => {
      const requests = JSON.parse(body).RequestItems.unprocessed;
      response.end(JSON.stringify({ UnprocessedItems: { unprocessed: requests.slice(20).toReversed() } }));
      return true;
    };
    expect(await sink.write({ points }, NEVER)).toEqual({
      kind: 'partial',
      retry: [20, 21, 22, 23, 24],
      rejected: [],
      reason: 'throttled',
    });
    await expect(sink.remove({ points }, NEVER)).rejects.toMatchObject({ name: 'SinkError' });
  });

  it('that is incomplete: the write is retried', async () => {
    const sink = await opened();
    fault = (_, __, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{"Unproc');
      setImmediate(() => response.destroy());
      return true;
    };
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toMatchObject({ kind: 'retry' });
    fault = (_, __, response) => Boolean(response.writeHead(200).end('<html>'));
    expect(await sink.write({ points: [makePoint()] }, NEVER)).toMatchObject({ kind: 'retry' });
  });

  it('that refuses a call because of one item: that item is rejected, the others are written', async () => {
    const sink = await opened({ table: 'sizes' });
    const points = manyPoints(25);
    // Just below what is refused before it is sent. With its names and numbers, the item is too large.
    points[7] = makePoint({ name: 'large', dimensions: [['k', 'x'.repeat(409_500)]] });
    const outcome = await sink.write({ points }, NEVER);
    expect(outcome).toMatchObject({
      kind: 'partial',
      retry: [],
      rejected: [{ index: 7, reason: 'too_large' }],
    });
    expect(differences(await readAll(sink, EVERYTHING, NEVER), points.toSpliced(7, 1))).toEqual([]);
  });

  it('that fails during the search for the item: the rest is retried', async () => {
    const sink = await opened({ table: 'sizes' });
    const invalid = says(400, 'ValidationException', 'Item size has exceeded the maximum allowed size');
    const faults = [invalid, (): boolean => false, invalid, says(400, 'ThrottlingException')];
    fault = (...call) => faults.shift()!(...call);
    expect(await sink.write({ points: manyPoints(5) }, NEVER)).toMatchObject({
      kind: 'partial',
      retry: [2, 3, 4],
      rejected: [{ index: 1, reason: 'too_large' }],
      reason: 'throttled',
    });
  });

  it('about the keys of the table blames no item', async () => {
    const sink = await opened();
    fault = says(400, 'ValidationException', 'The provided key element does not match the schema');
    const outcome = await sink.write({ points: manyPoints(2) }, NEVER);
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'schema_mismatch' });
  });
});

describe('a table that takes less than is to be written', () => {
  const CALLS = 80;
  const UNITS = 1_000;
  const UNDER_WAY = 16;
  /** Without the pace, three calls of four are refused on a machine that is not busy. */
  const FEW = 0.2;

  /** The same writes as a lane's. Resolves to how many calls were refused. */
  async function writeAll(sink: Sink): Promise<number> {
    const batches = Array.from({ length: CALLS }, (_, call) =>
      manyPoints(25).map((point) => ({ ...point, windowStart: point.windowStart + call * 10_000 })),
    );
    let refused = 0;
    const drain = async () => {
      for (let points = batches.shift(); points !== undefined; points = batches.shift()) {
        for (;;) {
          const outcome = await sink.write({ points }, NEVER);
          if (outcome.kind === 'written') break;
          refused++;
          await setTimeout(100);
        }
      }
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, drain));
    return refused;
  }

  /** Takes so many items a second. All that is under way may come at once, if the machine was busy with other work. */
  function limited(units: number): Fault {
    const most = UNDER_WAY * 25;
    let saved = most;
    let last = performance.now();
    return (operation, body, response) => {
      if (operation !== 'BatchWriteItem') return false;
      const now = performance.now();
      saved = Math.min(most, saved + ((now - last) / 1000) * units);
      last = now;
      const { RequestItems } = JSON.parse(body);
      const items = Object.values(RequestItems).flat().length;
      if (saved < items) return Boolean(response.end(JSON.stringify({ UnprocessedItems: RequestItems })));
      saved -= items;
      return false;
    };
  }

  it('is written at the pace that it takes: few calls are refused, and nothing is missing', async () => {
    const admin = new DynamoDBClient({ region: 'us-east-1', endpoint: server.url });
    await admin.send(
      new CreateTableCommand({
        TableName: 'provisioned',
        AttributeDefinitions: [
          { AttributeName: 'pk', AttributeType: 'S' },
          { AttributeName: 'sk', AttributeType: 'S' },
        ],
        KeySchema: [
          { AttributeName: 'pk', KeyType: 'HASH' },
          { AttributeName: 'sk', KeyType: 'RANGE' },
        ],
        ProvisionedThroughput: { ReadCapacityUnits: UNITS, WriteCapacityUnits: UNITS },
      }),
    );
    admin.destroy();
    const sink = await opened({ table: 'provisioned' });
    fault = limited(UNITS * 1.2);
    expect(await writeAll(sink)).toBeLessThan(FEW * CALLS);
    fault = () => false;
    expect((await readAll(sink, EVERYTHING, NEVER)).length).toBe(25 * CALLS);
  });

  it('waits for no write that has given up', async () => {
    const sink = await opened({ table: 'given_up' });
    const dimensions = Array.from({ length: 7 }, (_, key): [string, string] => [
      `k${key}`,
      'v'.repeat(4_000),
    ]);
    const points = Array.from({ length: 25 }, (_, index) => makePoint({ name: `n${index}`, dimensions }));
    const over = new AbortController();
    // At the pace of a new table, these take 17 seconds.
    const given = Array.from({ length: 100 }, () => sink.write({ points }, over.signal));
    over.abort();
    for (const outcome of await Promise.all(given)) expect(outcome).toMatchObject({ reason: 'timeout' });
    const outcome = await sink.write({ points: manyPoints(3) }, AbortSignal.timeout(5_000));
    expect(outcome).toEqual({ kind: 'written' });
  });

  it('is named with the series that came back most, and with why', async () => {
    const sink = await opened({ table: 'hot' });
    const hot = makePoint({ name: 'hot', dimensions: [['app', 'a']] });
    fault = (_, body, response) => {
      const all = JSON.parse(body).RequestItems.hot as { PutRequest: { Item: { pk: { S: string } } } }[];
      const some = all.filter(({ PutRequest }) => PutRequest.Item.pk.S.startsWith('hot#'));
      return Boolean(response.end(JSON.stringify({ UnprocessedItems: { hot: some } })));
    };
    await sink.write({ points: [hot, ...manyPoints(5)] }, NEVER);
    expect(warnings).toMatchObject([
      { table: 'hot', items: 1, series: [{ name: 'hot', dimensions: '{"app":"a"}', items: 1 }] },
    ]);
    fault = (_, __, response) => {
      response.writeHead(400, { 'content-type': 'application/x-amz-json-1.0' });
      const ThrottlingReasons = [{ reason: 'TableWriteKeyRangeThroughputExceeded', resource: 'arn' }];
      const __type = 'com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException';
      return Boolean(response.end(JSON.stringify({ __type, message: 'because', ThrottlingReasons })));
    };
    expect(await sink.write({ points: [hot] }, NEVER)).toEqual({
      kind: 'retry',
      reason: 'throttled',
      message: 'ProvisionedThroughputExceededException: because (TableWriteKeyRangeThroughputExceeded)',
    });
    expect(warnings.length, 'once a minute').toBe(1);
  });
});

describe('a question', () => {
  it.each([
    ['half of a surrogate pair', '\ud800'],
    ['a name that is too long for a key', 'x'.repeat(3_000)],
  ])(
    'about a series that no table holds, with %s, is answered without asking: DynamoDB would refuse it',
    async (_, name) => {
      const sink = sinkOf();
      await sink.open(NEVER);
      const asked: string[] = [];
      fault = (operation) => {
        asked.push(operation);
        return false;
      };
      const { series } = makePoint({ name });
      const sums = { kind: 'sums', name, type: 'counter', dimension: 'app', series: [series] } as const;
      expect(await sink.ask?.({ ...sums, range: EVERYTHING }, NEVER)).toEqual([]);
      expect(await sink.ask?.({ kind: 'windows', series, range: EVERYTHING }, NEVER)).toEqual([]);
      expect(asked).toEqual([]);
    },
  );
});

describe('open', () => {
  it('makes a table that is warm for as many writes as the setting says', async () => {
    const asked: unknown[] = [];
    fault = (operation, body, response) => {
      if (operation !== 'CreateTable') return false;
      asked.push(JSON.parse(body).WarmThroughput);
      return says(400, 'LimitExceededException')(operation, body, response);
    };
    await expect(sinkOf({ table: 'warm', warmWrites: 12_000 }).open(NEVER)).rejects.toMatchObject({
      reason: 'throttled',
    });
    await expect(sinkOf({ table: 'warm' }).open(NEVER)).rejects.toMatchObject({ reason: 'throttled' });
    expect(asked).toEqual([{ WriteUnitsPerSecond: 12_000 }, undefined]);
  });

  const expires = { ttl: 86_400_000 };
  const refusal = (type: string): Fault => {
    const answer = says(400, type);
    return (operation, ...rest) => operation === 'UpdateTimeToLive' && answer(operation, ...rest);
  };

  it('switches time to live on', async () => {
    const asked: unknown[] = [];
    fault = (operation, body, response) => {
      if (operation !== 'UpdateTimeToLive') return false;
      asked.push(JSON.parse(body));
      return Boolean(response.end('{}'));
    };
    await opened(expires);
    const TimeToLiveSpecification = { Enabled: true, AttributeName: 'expires_at' };
    expect(asked).toEqual([{ TableName: 'faults', TimeToLiveSpecification }]);
    expect(warnings).toEqual([]);
  });

  it.each(['AccessDeniedException', 'UnknownOperationException'])(
    'continues without it: %s',
    async (type) => {
      fault = refusal(type);
      await opened(expires);
      expect(warnings).toEqual([{ table: 'faults', error: type }]);
    },
  );

  it('fails as unauthorized if access is denied', async () => {
    fault = says(400, 'AccessDeniedException');
    await expect(sinkOf().open(NEVER)).rejects.toMatchObject({ name: 'SinkError', reason: 'unauthorized' });
  });

  it('fails if there are no credentials or no region', async () => {
    vi.stubEnv('AWS_REGION', undefined);
    vi.stubEnv('AWS_DEFAULT_REGION', undefined);
    vi.stubEnv('AWS_CONFIG_FILE', '/nowhere');
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    const withoutRegion = sinkOf({ region: undefined }).open(NEVER);
    await expect(withoutRegion).rejects.toMatchObject({ name: 'SinkError', reason: 'bad_request' });
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere');
    await expect(sinkOf().open(NEVER)).rejects.toMatchObject({ name: 'SinkError', reason: 'unauthorized' });
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAFANOUTTEST');
  });
});
