import { setting, type Values } from '../../src/sink.ts';

/** One that needs no quotes on Redshift and PostgreSQL alike; Redshift folds every other to lower case anyway. */
const IDENTIFIER = /^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$/;

export const settings = {
  url: setting.url(['postgres:', 'postgresql:'], {
    meaning:
      'postgres://user:password@host:5439/database; with ?sslmode=require, verify-ca or verify-full the connection is ' +
      "encrypted and the server's certificate and name are verified, with no-verify it is encrypted only; without sslmode, " +
      "Amazon's own hosts are verified, others get no encryption",
    required: true,
  }),
  table: setting.custom(
    (text) => (IDENTIFIER.test(text) ? text : undefined),
    'a table, or schema.table, in lower case',
    {
      meaning: 'the table, with its schema if that is not on the search path; made if it is missing',
      default: 'fanout_points',
    },
  ),
  caFile: setting.text({
    meaning: 'PEM file of the authority that signed the certificate of the server; asks for TLS by itself',
  }),
};

export type RedshiftConfig = Values<typeof settings>;

const SSL_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const;
type SslMode = (typeof SSL_MODES)[number];

export function validate(
  config: RedshiftConfig,
): readonly { readonly key: keyof typeof settings; readonly expected: string }[] {
  const parameters = new URL(config.url).searchParams;
  const mode = parameters.get('sslmode');
  const problems: { key: keyof typeof settings; expected: string }[] = [];
  if (mode !== null && !(SSL_MODES as readonly string[]).includes(mode)) {
    problems.push({ key: 'url', expected: `an sslmode of ${SSL_MODES.join(', ')}` });
  }
  for (const name of parameters.keys()) {
    if (name === 'sslmode' || !name.startsWith('ssl')) continue;
    problems.push({
      key: 'url',
      expected: `a URL without ${name}: use sslmode and the setting of the CA file`,
    });
  }
  if (config.caFile !== undefined && (mode === 'disable' || mode === 'no-verify')) {
    problems.push({ key: 'caFile', expected: `no CA file where sslmode is ${mode}` });
  }
  return problems;
}

export interface Endpoint {
  /** Without what asks for TLS: how `pg` reads that changes between its versions. */
  readonly connectionString: string;
  readonly tls: 'off' | 'verify' | 'no-verify';
}

/** What runs there has a certificate that Node.js trusts by itself. */
const AMAZON = /\.amazonaws\.com(\.cn)?$/i;

export function endpoint(config: RedshiftConfig): Endpoint {
  const url = new URL(config.url);
  const mode = (url.searchParams.get('sslmode') ?? undefined) as SslMode | undefined;
  url.searchParams.delete('sslmode');
  const connectionString = url.toString();
  if (mode === 'no-verify') return { connectionString, tls: 'no-verify' };
  const isAsked = mode !== undefined || config.caFile !== undefined || AMAZON.test(url.hostname);
  const off = mode === 'disable' || !isAsked;
  return { connectionString, tls: off ? 'off' : 'verify' };
}
