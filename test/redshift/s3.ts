/**
 * A server that speaks S3 (`@20minutes/s3rver`), and a front with which a test simulates faults of S3. The front also
 * checks the conditions of requests, which the server ignores: one request for an object at a time.
 */
import { once } from 'node:events';
import { readdirSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import S3rver from '@20minutes/s3rver';
import {
  DeleteObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { temporaryFolder } from '../../src/servers/server-process.ts';

/** Returns true if it answers instead of the server, or if nobody is to answer. */
export type S3Fault = (method: string, target: string, response: ServerResponse) => boolean;

export const BUCKET = 'metrics';
/** The only ones that the server knows. */
export const KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' } as const;

export interface S3 {
  /** Addresses of the server itself, and of the front. */
  readonly endpoint: string;
  readonly front: string;
  /** Sees every request to the front first. */
  fault: S3Fault;
  /** Whether conditions are checked. Some stores that speak S3 ignore them. */
  checksConditions: boolean;
  /** Method and path of every request that reached the front. */
  readonly requests: string[];
  keys(): Promise<string[]>;
  put(key: string, body: string | Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  /** Makes all objects older. */
  age(ms: number): void;
  stop(): Promise<void>;
}

export async function startS3(): Promise<S3> {
  const folder = temporaryFolder('s3');
  const server = new S3rver({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory: folder.path,
    // It drops the slash at the end of a bucket's path from what was signed. It still refuses unknown keys.
    allowMismatchedSignatures: true,
    configureBuckets: [{ name: BUCKET, configs: [] }],
  });
  // Its own method also removes folders that were empty a moment ago, with what has been put there since.
  server.store.deleteObject = async (bucket, key) => {
    for (const part of ['object', 'object.md5', 'metadata.json']) {
      await rm(server.store.getResourcePath(bucket, key, part), { force: true });
    }
  };
  const { port } = (await server.run()) as AddressInfo;
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, credentials: KEYS, region: 'us-east-1', forcePathStyle: true });
  const front = createServer(
    (incoming, outgoing) => void pass(incoming, outgoing).catch(() => outgoing.destroy()),
  ).listen(0, '127.0.0.1');
  await once(front, 'listening');
  const s3: S3 = {
    endpoint,
    front: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    fault: () => false,
    checksConditions: true,
    requests: [],
    async keys() {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
      return Contents.map(({ Key }) => Key ?? '');
    },
    async put(Key, Body) {
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }));
    },
    async delete(Key) {
      await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key }));
    },
    age(ms) {
      const then = new Date(Date.now() - ms);
      for (const name of readdirSync(folder.path, { recursive: true, encoding: 'utf8' })) {
        utimesSync(join(folder.path, name), then, then);
      }
    },
    async stop() {
      client.destroy();
      front.close();
      front.closeAllConnections();
      await server.close();
      folder.remove();
    },
  };

  async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = incoming;
    s3.requests.push(`${method} ${url}`);
    if (s3.fault(method, url, outgoing)) return;
    const body = Buffer.concat(await incoming.toArray());
    const path = url.split('?')[0]!;
    const before = turns.get(path);
    const { promise, resolve } = Promise.withResolvers<void>();
    turns.set(path, promise);
    try {
      await before;
      if (s3.checksConditions && !(await holds(path, headers)))
        says(412, 'PreconditionFailed')(method, url, outgoing);
      else await forward(method, url, headers, body, outgoing);
    } finally {
      resolve();
    }
  }

  /** The last request for each object. */
  const turns = new Map<string, Promise<void>>();

  async function holds(path: string, headers: IncomingHttpHeaders): Promise<boolean> {
    const { 'if-match': etag, 'if-none-match': none } = headers;
    if (etag === undefined && none === undefined) return true;
    const Key = decodeURIComponent(path.slice(`/${BUCKET}/`.length));
    const found = await client.send(new HeadObjectCommand({ Bucket: BUCKET, Key })).catch(() => undefined);
    return none === '*' ? found === undefined : found?.ETag === etag;
  }

  /** Resolves when the server has answered, even if nobody listens any more. */
  async function forward(
    method: string,
    path: string,
    headers: IncomingHttpHeaders,
    body: Buffer,
    outgoing: ServerResponse,
  ): Promise<void> {
    const passed = request({ port, host: '127.0.0.1', method, path, headers });
    passed.on('error', () => outgoing.destroy());
    passed.end(body);
    const [answer] = (await once(passed, 'response')) as [IncomingMessage];
    const text = Buffer.concat(await answer.toArray());
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    outgoing.end(text);
  }

  return s3;
}

/** An error as S3 words it. */
export function says(status: number, code: string): S3Fault {
  return (_, __, response) => {
    response.writeHead(status, { 'content-type': 'application/xml', connection: 'close' });
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>because</Message></Error>`);
    return true;
  };
}
