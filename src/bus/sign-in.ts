/** Turns the NATS_* settings into the client's options. Every file is read here, so that errors name it. */

import { readFileSync } from 'node:fs';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { type Authenticator, type ConnectionOptions, credsAuthenticator, nkeyAuthenticator } from 'nats';
import type { CoreConfig } from '../config/core-settings.ts';
import { BusError } from './bus-error.ts';

type SignIn = Pick<ConnectionOptions, 'user' | 'pass' | 'token' | 'authenticator'>;

const DEFAULT_PORT = '4222';

export interface Servers {
  /** host:port, without scheme or credentials: safe for logs. */
  readonly addresses: readonly string[];
  readonly hosts: readonly string[];
  readonly tls: boolean;
  readonly signIn: SignIn;
}

/** Parses NATS_URL. `user:password@` and `token@` count as ways to sign in, as in NATS's other clients. */
export function parseServers(natsUrl: readonly string[]): Servers {
  const urls = natsUrl.map((text) => new URL(text.includes('://') ? text : `nats://${text}`));
  const credentials = new Set(
    urls.filter((url) => url.username !== '').map((url) => `${url.username}:${url.password}`),
  );
  if (credentials.size > 1) {
    throw new BusError(
      'NATS_URL gives different credentials for its servers',
      'Give all servers the same credentials, or move them to NATS_USER and NATS_PASSWORD.',
    );
  }
  const [user = '', password = ''] = ([...credentials][0] ?? '').split(':').map(decodeURIComponent);
  const signIn: SignIn = user === '' ? {} : password === '' ? { token: user } : { user, pass: password };
  return {
    addresses: urls.map((url) => `${url.hostname}:${url.port || DEFAULT_PORT}`.toLowerCase()),
    hosts: urls.map((url) => url.hostname.replace(/^\[|\]$/g, '')),
    tls: urls.some((url) => url.protocol === 'tls:'),
    signIn,
  };
}

/** Throws a `BusError` that names the variable if a file cannot be used. */
export function signInOptions(core: CoreConfig, servers: Servers): ConnectionOptions {
  const fromSettings = signInSettings(core);
  if (Object.keys(servers.signIn).length > 0 && Object.keys(fromSettings).length > 0) {
    throw new BusError(
      'there are credentials in NATS_URL and also in other NATS_* variables',
      'Keep one way to sign in: remove the credentials from NATS_URL, or unset the other NATS_* variables.',
    );
  }
  const tls = tlsOptions(core, servers);
  return { ...servers.signIn, ...fromSettings, ...(tls === undefined ? {} : { tls }) };
}

function signInSettings(core: CoreConfig): SignIn {
  if (core.natsUser !== undefined) return { user: core.natsUser, pass: core.natsPassword ?? '' };
  if (core.natsToken !== undefined) return { token: core.natsToken };
  if (core.natsCredsFile !== undefined) {
    return { authenticator: fromFile('NATS_CREDS_FILE', core.natsCredsFile, credsAuthenticator) };
  }
  if (core.natsNkeySeedFile !== undefined) {
    const trimmed = (bytes: Uint8Array) => new TextEncoder().encode(new TextDecoder().decode(bytes).trim());
    const make = (read: () => Uint8Array) => nkeyAuthenticator(() => trimmed(read()));
    return { authenticator: fromFile('NATS_NKEY_SEED_FILE', core.natsNkeySeedFile, make) };
  }
  return {};
}

/**
 * Reads the file again at every sign-in, so that rotated credentials are picked up. If that later fails, or the file
 * holds something else (it may be in the middle of being written), the last usable content is used, because an
 * authenticator that throws would close the client for good. The first read fails here, before any sign-in, and never
 * with the client's own error.
 */
function fromFile(
  variable: string,
  path: string,
  make: (read: () => Uint8Array) => Authenticator,
): Authenticator {
  let last = readNamed(variable, path);
  if (!isOfUse(last, make)) {
    const holds = variable === 'NATS_CREDS_FILE' ? 'a user JWT and its seed' : 'an NKey seed';
    throw new BusError(`the file in ${variable} does not hold ${holds}`, `Point ${variable} to such a file.`);
  }
  return make(() => {
    try {
      const content = readFileSync(path);
      if (isOfUse(content, make)) last = content;
    } catch {
      // The server decides whether the last content is still good.
    }
    return last;
  });
}

function isOfUse(content: Uint8Array, make: (read: () => Uint8Array) => Authenticator): boolean {
  try {
    make(() => content)('nonce');
    return true;
  } catch {
    return false;
  }
}

function readNamed(variable: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new BusError(
      `the file in ${variable} cannot be read: ${path} (${code})`,
      `Point ${variable} to a file that this process may read.`,
    );
  }
}

function tlsOptions(core: CoreConfig, servers: Servers): ConnectionOptions['tls'] {
  const files = {
    caFile: core.natsTlsCaFile,
    certFile: core.natsTlsCertFile,
    keyFile: core.natsTlsKeyFile,
  };
  const variables = {
    caFile: 'NATS_TLS_CA_FILE',
    certFile: 'NATS_TLS_CERT_FILE',
    keyFile: 'NATS_TLS_KEY_FILE',
  };
  const given: Partial<Record<keyof typeof files, string>> = {};
  for (const key of ['caFile', 'certFile', 'keyFile'] as const) {
    const path = files[key];
    if (path === undefined) continue;
    readNamed(variables[key], path);
    // The client reads the files again at every connection, so rotated certificates are picked up.
    given[key] = path;
  }
  const handshakeFirst = core.natsTlsHandshakeFirst;
  if (!servers.tls && !handshakeFirst && Object.keys(given).length === 0) return undefined;
  return { ...given, ...(handshakeFirst ? { handshakeFirst } : {}), ...identityCheck(servers.hosts) };
}

/**
 * The client passes Node the name of a server only if NATS_URL gives one; with an IP address, Node would compare the
 * certificate with "localhost". A certificate is accepted if it is valid for a host of NATS_URL. (Cluster members that
 * the server announces are held to the same names.)
 */
function identityCheck(hosts: readonly string[]): object {
  return {
    checkServerIdentity: (_name: string, certificate: PeerCertificate) => {
      const errors = hosts.map((host) => checkServerIdentity(host, certificate));
      return errors.includes(undefined) ? undefined : errors[0];
    },
  };
}
