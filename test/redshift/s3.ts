/** A server that speaks S3 (`@20minutes/s3rver`), and a front on which a test plays S3's faults. */
import { once } from 'node:events';
import { readdirSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import S3rver from '@20minutes/s3rver';
import { DeleteObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { temporaryFolder } from '../../src/servers/server-process.ts';

/** Answers in the server's place, or never, and says so by true. */
export type S3Fault = (method: string, target: string, response: ServerResponse) => boolean;

export const BUCKET = 'metrics';
/** The only ones that the server knows. */
export const KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' } as const;

export interface S3 {
  /** Of the server itself, and of the front before it. */
  readonly endpoint: string;
  readonly front: string;
  /** What reaches the front meets this first. */
  fault: S3Fault;
  /** Method and path of every request that reached the front. */
  readonly requests: string[];
  keys(): Promise<string[]>;
  put(key: string, body: string | Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  /** Makes everything that is there older. */
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
    // It takes the slash at the end of a bucket's path out of what was signed; keys that it does not know are refused.
    allowMismatchedSignatures: true,
    configureBuckets: [{ name: BUCKET, configs: [] }],
  });
  // Its own also removes folders that were empty a moment ago, with what has been put there since.
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
    const passed = request({ port, host: '127.0.0.1', method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    passed.end(body);
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
