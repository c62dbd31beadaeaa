/** A server that speaks S3 (`@20minutes/s3rver`), and a front on which a test plays S3's faults. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import S3rver from '@20minutes/s3rver';
import { ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { temporaryFolder } from '../../src/servers/process.ts';

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
  put(key: string, body: string): Promise<void>;
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
  const { port } = (await server.run()) as AddressInfo;
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, credentials: KEYS, region: 'us-east-1', forcePathStyle: true });
  const front = createServer((incoming, outgoing) => void pass(incoming, outgoing)).listen(0, '127.0.0.1');
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
    const passed = request({ port, host: '127.0.0.1', method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.on('error', () => passed.destroy());
    incoming.pipe(passed);
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
