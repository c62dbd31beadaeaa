/** A server that speaks TLS where a PostgreSQL client asks for it, before a real one that does not. */
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

export async function startTlsFront(
  targetPort: number,
  { certFile, keyFile }: Certificate,
): Promise<{ port: number; stop(): void }> {
  const sockets = new Set<Socket>();
  const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)];
  const serve = async (client: Socket) => {
    sockets.add(client);
    client.on('error', () => {});
    await once(client, 'readable');
    client.read(SSL_REQUEST_BYTES);
    client.write('S');
    const secure = new TLSSocket(client, { isServer: true, cert, key });
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
  return { port: address.port, stop };
}
