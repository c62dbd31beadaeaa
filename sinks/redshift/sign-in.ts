/** Temporary credentials from IAM for a provisioned cluster or a serverless workgroup. */

import { makeAgents, type PgCredentials, type PgSignIn } from '../../src/sink/index.ts';
import { awsError } from './classify.ts';
import { type RedshiftConfig, signsInBy } from './config.ts';

/** How long before they expire credentials are replaced. Sessions that they opened go on. */
const REFRESH_BEFORE_MS = 120_000;
const VALID_SECONDS = 900;
const TIMEOUT_MS = 10_000;

interface Issued extends PgCredentials {
  /** In ms since 1970. */
  readonly expiresAt: number;
}

export class SignIn implements PgSignIn {
  readonly #ask: (signal: AbortSignal) => Promise<Issued>;
  readonly #now: () => number;
  #held: Issued | undefined;
  #asking: Promise<Issued> | undefined;

  constructor(ask: (signal: AbortSignal) => Promise<Issued>, now: () => number = Date.now) {
    this.#ask = ask;
    this.#now = now;
  }

  /** Resolves to the current credentials, or new ones: one request, however many wait. Throws a SinkError. */
  async credentials(signal: AbortSignal): Promise<PgCredentials> {
    if (this.#held !== undefined && this.#now() < this.#held.expiresAt - REFRESH_BEFORE_MS) return this.#held;
    this.#asking ??= this.#issue().finally(() => {
      this.#asking = undefined;
    });
    return await orAborted(this.#asking, signal);
  }

  /** Drops the credentials, because the server refused them. */
  forget(): void {
    this.#held = undefined;
  }

  async #issue(): Promise<Issued> {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    try {
      this.#held = await this.#ask(signal);
      return this.#held;
    } catch (error) {
      throw awsError(error, 'signIn', signal);
    }
  }
}

/** Settles as `settling`, or rejects when the signal aborts. `settling` goes on, because others may wait for it. */
async function orAborted<T>(settling: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([settling, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Returns undefined if the URL holds the password. For a cluster, the URL names the user to get credentials for. */
export function makeSignIn(config: RedshiftConfig): SignIn | undefined {
  const by = signsInBy(config);
  if (by === 'password') return undefined;
  const options = {
    maxAttempts: 1,
    requestHandler: makeAgents(1),
    ...(config.region === undefined ? {} : { region: config.region }),
  };
  const url = new URL(config.url);
  const database = decodeURIComponent(url.pathname.slice(1));
  const user = decodeURIComponent(url.username);
  return new SignIn(
    by === 'workgroup'
      ? (signal) => askServerless(options, config.workgroup ?? '', database, signal)
      : (signal) => askCluster(options, config.cluster ?? '', database, user, signal),
  );
}

type Options = {
  readonly maxAttempts: number;
  readonly region?: string;
  readonly requestHandler: ReturnType<typeof makeAgents>;
};

async function askServerless(
  options: Options,
  workgroupName: string,
  dbName: string,
  abortSignal: AbortSignal,
): Promise<Issued> {
  const sdk = await import('./aws-sdk.ts');
  const client = new sdk.RedshiftServerlessClient(options);
  try {
    const command = new sdk.GetCredentialsCommand({ workgroupName, dbName, durationSeconds: VALID_SECONDS });
    const { dbUser, dbPassword, expiration } = await client.send(command, { abortSignal });
    return issued(dbUser, dbPassword, expiration);
  } finally {
    client.destroy();
  }
}

/** Without a user, asks for the database user named after the IAM identity of this process. */
async function askCluster(
  options: Options,
  ClusterIdentifier: string,
  DbName: string,
  user: string,
  abortSignal: AbortSignal,
): Promise<Issued> {
  const sdk = await import('./aws-sdk.ts');
  const client = new sdk.RedshiftClient(options);
  const asked = { ClusterIdentifier, DbName, DurationSeconds: VALID_SECONDS };
  try {
    const answer =
      user === ''
        ? await client.send(new sdk.GetClusterCredentialsWithIAMCommand(asked), { abortSignal })
        : await client.send(new sdk.GetClusterCredentialsCommand({ ...asked, DbUser: user }), {
            abortSignal,
          });
    return issued(answer.DbUser, answer.DbPassword, answer.Expiration);
  } finally {
    client.destroy();
  }
}

function issued(user: string | undefined, password: string | undefined, expires: Date | undefined): Issued {
  if (user === undefined || password === undefined) throw new Error('AWS returned no credentials');
  return { user, password, expiresAt: expires?.getTime() ?? 0 };
}
