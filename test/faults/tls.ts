/** A server that speaks TLS, in front of a real one that does not. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { TLSSocket } from 'node:tls';

const SSL_REQUEST_BYTES = 8;

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

/** A self-signed certificate for that name. */
export function makeCertificate(folder: string, name: string): Certificate {
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', certFile, '-days', '1', ...subject], {
    stdio: 'ignore',
  });
  return { certFile, keyFile };
}

/** `stop` ends it, with all connections. */
export interface TlsFront {
  readonly port: number;
  /** Connections over which a request got to the server behind it. */
  readonly passed: number;
  stop(): void;
}

/** With `postgres`, TLS begins when a client asks for it in PostgreSQL's own way; otherwise at once. */
export async function startTlsFront(
  targetPort: number,
  { certFile, keyFile }: Certificate,
  protocol: 'postgres' | 'any' = 'any',
): Promise<TlsFront> {
  const sockets = new Set<Socket>();
  const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)];
  let passed = 0;
  const serve = async (client: Socket) => {
    sockets.add(client);
    client.on('error', () => {});
    if (protocol === 'postgres') {
      await once(client, 'readable');
      client.read(SSL_REQUEST_BYTES);
      client.write('S');
    }
    const secure = new TLSSocket(client, { isServer: true, cert, key });
    secure.once('data', () => passed++);
    secure.pause();
    const server = connect(targetPort, '127.0.0.1');
    await Promise.allSettled([pipeline(secure, server), pipeline(server, secure)]);
  };
  const listener = createServer((client) => void serve(client)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const stop = () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address.port,
    stop,
    get passed() {
      return passed;
    },
  };
}
