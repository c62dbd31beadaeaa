/** Certificates and JWTs for the sign-in tests. They are made for each run. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as nkeys from 'nkeys.js';
import type { NatsAuth } from '../../src/servers/nats.ts';

export interface Certificates {
  readonly ca: string;
  readonly otherCa: string;
  readonly server: { readonly certFile: string; readonly keyFile: string };
  /** Valid for the name localhost, not for 127.0.0.1. */
  readonly named: { readonly certFile: string; readonly keyFile: string };
  readonly client: { readonly certFile: string; readonly keyFile: string };
}

function openssl(...args: string[]): void {
  try {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Error('openssl is not installed: apt-get install openssl', { cause: error });
  }
}

export function makeCertificates(folder: string): Certificates {
  const file = (name: string) => join(folder, name);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = (name: string) => {
    const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`), '-days', '2'];
    openssl('req', '-x509', ...newKey, ...out, '-subj', `/CN=${name}`);
    return file(`${name}.pem`);
  };
  const ca = authority('ca');
  const signed = (name: string, subjectAltName: string) => {
    const [request, extensions] = [file(`${name}.csr`), file(`${name}.ext`)];
    writeFileSync(extensions, `subjectAltName=${subjectAltName}\n`);
    openssl('req', ...newKey, '-keyout', file(`${name}.key`), '-out', request, '-subj', `/CN=${name}`);
    const by = ['-CA', ca, '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', extensions];
    openssl('x509', '-req', '-in', request, '-out', file(`${name}.pem`), ...by);
    return { certFile: file(`${name}.pem`), keyFile: file(`${name}.key`) };
  };
  return {
    ca,
    otherCa: authority('other'),
    server: signed('server', 'IP:127.0.0.1'),
    named: signed('named', 'DNS:localhost'),
    client: signed('client', 'DNS:client.test'),
  };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const base64 = (data: string | Uint8Array) => Buffer.from(data).toString('base64url');

export function makeNkey(): { readonly publicKey: string; readonly seed: string } {
  const user = nkeys.createUser();
  return { publicKey: user.getPublicKey(), seed: text(user.getSeed()) };
}

function jwt(name: string, subject: string, issuer: nkeys.KeyPair, claims: object): string {
  const header = base64(JSON.stringify({ typ: 'JWT', alg: 'ed25519-nkey' }));
  const body = {
    jti: name,
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    name,
    sub: subject,
  };
  const signed = `${header}.${base64(JSON.stringify({ ...body, nats: { version: 2, ...claims } }))}`;
  return `${signed}.${base64(issuer.sign(new TextEncoder().encode(signed)))}`;
}

/** An operator with an account, and the credentials of a user in it, as the content of a creds file. */
export function makeDecentralised(): { readonly auth: NatsAuth; newCreds(): string } {
  const [operator, account, system] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()];
  const unlimited = {
    subs: -1,
    data: -1,
    payload: -1,
    imports: -1,
    exports: -1,
    wildcards: true,
    conn: -1,
    leaf: -1,
  };
  const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const accountJwt = (key: nkeys.KeyPair, limits: object) =>
    jwt('account', key.getPublicKey(), operator, { type: 'account', limits });
  return {
    auth: {
      kind: 'jwt',
      operator: jwt('operator', operator.getPublicKey(), operator, { type: 'operator' }),
      accounts: {
        [account.getPublicKey()]: accountJwt(account, { ...unlimited, ...storage }),
        [system.getPublicKey()]: accountJwt(system, unlimited),
      },
      systemAccount: system.getPublicKey(),
    },
    newCreds() {
      const user = nkeys.createUser();
      const claims = { type: 'user', pub: {}, sub: {}, subs: -1, data: -1, payload: -1 };
      return credsFile(jwt('user', user.getPublicKey(), account, claims), text(user.getSeed()));
    },
  };
}

function credsFile(userJwt: string, seed: string): string {
  const block = (what: string, content: string) =>
    `-----BEGIN ${what}-----\n${content}\n------END ${what}------\n`;
  return `${block('NATS USER JWT', userJwt)}\n${block('USER NKEY SEED', seed)}`;
}
