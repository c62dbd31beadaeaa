/** Where a PostgreSQL is, and whether the connection is encrypted. */

/** Settings that say where the server is. */
export interface PgAddress {
  readonly url: string;
  readonly caFile: string | undefined;
}

export interface PgCredentials {
  readonly user: string;
  readonly password: string;
}

/** What a URL may say about encryption, for the documentation of a setting. */
export const SSL_MODES_MEAN =
  'with ?sslmode=require, verify-ca or verify-full, the connection is ' +
  "encrypted and the server's certificate and name are verified; with no-verify, it is only encrypted; without " +
  "sslmode, connections to Amazon's own hosts are encrypted and verified, all others are not encrypted";

export const CA_FILE_MEANS =
  "PEM file of the authority that signed the server's certificate; also turns TLS on";

/** A name that needs no quotes on Redshift or PostgreSQL. Redshift folds every other name to lower case anyway. */
const IDENTIFIER = /^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$/;

export function parsePgTable(text: string): string | undefined {
  return IDENTIFIER.test(text) ? text : undefined;
}

export const PG_TABLE = 'a table or schema.table in lower case';

const SSL_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const;
type SslMode = (typeof SSL_MODES)[number];

interface PgProblem {
  readonly key: 'url' | 'caFile';
  readonly expected: string;
}

export function pgTlsProblems(config: PgAddress): PgProblem[] {
  const parameters = new URL(config.url).searchParams;
  const mode = parameters.get('sslmode');
  const problems: PgProblem[] = [];
  if (mode !== null && !(SSL_MODES as readonly string[]).includes(mode)) {
    problems.push({ key: 'url', expected: `an sslmode of ${SSL_MODES.join(', ')}` });
  }
  for (const name of parameters.keys()) {
    if (name === 'sslmode' || !name.startsWith('ssl')) continue;
    problems.push({
      key: 'url',
      expected: `a URL without ${name}: use sslmode and CA_FILE instead`,
    });
  }
  if (config.caFile !== undefined && (mode === 'disable' || mode === 'no-verify')) {
    problems.push({ key: 'caFile', expected: `no CA file when sslmode is ${mode}` });
  }
  return problems;
}

interface PgEndpoint {
  /** Without the parameters about TLS, because versions of `pg` differ in how they read them. */
  readonly connectionString: string;
  readonly tls: 'off' | 'verify' | 'no-verify';
}

/** Hosts whose certificates Node.js already trusts. */
const AMAZON = /\.amazonaws\.com(\.cn)?$/i;

/** Returns how to connect. `signedIn` replaces the user and the password in the URL. */
export function pgEndpoint(config: PgAddress, signedIn?: PgCredentials): PgEndpoint {
  const url = new URL(config.url);
  if (signedIn !== undefined) {
    url.username = encodeURIComponent(signedIn.user);
    url.password = encodeURIComponent(signedIn.password);
  }
  const mode = (url.searchParams.get('sslmode') ?? undefined) as SslMode | undefined;
  url.searchParams.delete('sslmode');
  const connectionString = url.toString();
  if (mode === 'no-verify') return { connectionString, tls: 'no-verify' };
  const isAsked = mode !== undefined || config.caFile !== undefined || AMAZON.test(url.hostname);
  const off = mode === 'disable' || !isAsked;
  return { connectionString, tls: off ? 'off' : 'verify' };
}
