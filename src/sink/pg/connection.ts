/**
 * Connections to PostgreSQL, or what speaks its protocol: one for each call under way, kept for the next call,
 * discarded at the first error. Whoever uses this brings the client, the package `pg`.
 */
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { SinkError } from '../contract.ts';
import { type PgAddress, type PgCredentials, pgEndpoint } from './address.ts';
import { isAboutSignIn } from './classify.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Cells are the server's own text. */
export type PgRow = Readonly<Record<string, string | null>>;

export interface PgResult {
  readonly rows: readonly PgRow[];
  readonly fields: readonly { readonly name: string; readonly dataTypeID: number }[];
  /** How many rows a statement has read, inserted, updated or deleted. */
  readonly rowCount: number | null;
}

/** A query that sends more than its text: an object of a class derived from the class `Query` of `pg`. */
export interface PgQuery {
  submit(connection: never): unknown;
}

/** What we use of a client of `pg`. */
interface PgClient {
  connect(): Promise<unknown>;
  query(query: { text: string; values?: unknown[] }): Promise<unknown>;
  query(query: PgQuery, done: (error: Error | null, results: unknown) => void): unknown;
  end(): Promise<void>;
  once(event: 'end', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

interface PgClientConfig {
  readonly connectionString: string;
  readonly ssl: false | { readonly rejectUnauthorized: boolean; readonly ca?: string };
  readonly connectionTimeoutMillis: number;
  readonly keepAlive: boolean;
  readonly keepAliveInitialDelayMillis: number;
  readonly application_name: string;
  readonly pipeline: boolean;
  readonly types: { getTypeParser(): (text: string) => string };
}

/** The class `Client` of `pg`. */
export type PgClientClass = new (config: PgClientConfig & { readonly stream: () => Socket }) => PgClient;

/** Where passwords come from that are not in the URL. */
export interface PgSignIn {
  credentials(signal: AbortSignal): Promise<PgCredentials>;
  /** Drops what the server refused. */
  forget(): void;
}

export class PgConnection {
  readonly #client: PgClient;
  /** Created here, so that an abort can destroy it without waiting for a server that hangs. */
  readonly #socket = new Socket();
  readonly #onEnd: () => void;
  #signal: AbortSignal | undefined;

  constructor(Client: PgClientClass, config: PgClientConfig, onEnd: () => void) {
    this.#client = new Client({ ...config, stream: () => this.#socket });
    this.#onEnd = onEnd;
    this.#client.once('end', onEnd);
    // The queries under way fail too, and report the error to their callers.
    this.#client.on('error', () => {});
  }

  async connect(): Promise<void> {
    await this.#client.connect();
  }

  /** From now on, the connection ends when `signal` aborts, and no longer when an earlier signal does. */
  obey(signal: AbortSignal | undefined): void {
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort);
  }

  /** A statement with values has no name: behind a pooler, the session that knows the name may be another one. */
  async query(text: string, values: unknown[]): Promise<PgResult> {
    return (await this.#client.query({ text, values })) as PgResult;
  }

  /** Sends a text of several statements without values. Resolves to the rows of the last one that returns any. */
  async run(text: string): Promise<PgResult | undefined> {
    const results = (await this.#client.query({ text })) as PgResult | PgResult[];
    return [results].flat().findLast(({ fields }) => fields.length > 0);
  }

  /** Resolves to what each of its statements returned. */
  async send(query: PgQuery): Promise<readonly PgResult[]> {
    const results = await new Promise<unknown>((resolve, reject) => {
      this.#client.query(query, (error, results) => (error ? reject(error) : resolve(results)));
    });
    return [results as PgResult | PgResult[]].flat();
  }

  /** Tells the server goodbye and closes the socket, without waiting for an answer. */
  close(): void {
    this.obey(undefined);
    void this.#client.end();
    this.#socket.destroySoon();
  }

  readonly #abort = () => {
    this.#onEnd();
    this.#socket.destroy();
  };
}

export class PgConnections {
  readonly #Client: PgClientClass;
  readonly #address: PgAddress;
  readonly #signIn: PgSignIn | undefined;
  readonly #all = new Set<PgConnection>();
  readonly #idle: PgConnection[] = [];
  #closings = 0;

  constructor(Client: PgClientClass, address: PgAddress, signIn?: PgSignIn) {
    this.#Client = Client;
    this.#address = address;
    this.#signIn = signIn;
  }

  /** Lends `use` a connection. After an error, or when `signal` aborts, the connection ends instead of being reused. */
  async lend<T>(signal: AbortSignal, use: (connection: PgConnection) => Promise<T>): Promise<T> {
    const connection = await this.#acquire(signal);
    try {
      const result = await use(connection);
      this.#release(connection);
      return result;
    } catch (error) {
      this.#discard(connection);
      throw error;
    }
  }

  /** Resolves to a connection that ends when `signal` aborts. */
  async #acquire(signal: AbortSignal): Promise<PgConnection> {
    signal.throwIfAborted();
    const kept = this.#idle.pop();
    const connection = kept ?? this.#make(await this.#credentials(signal));
    connection.obey(signal);
    try {
      if (kept === undefined) await connection.connect();
      return connection;
    } catch (error) {
      if (isAboutSignIn(error)) this.#signIn?.forget();
      this.#discard(connection);
      throw error;
    }
  }

  #discard(connection: PgConnection): void {
    this.#forget(connection);
    connection.close();
  }

  close(): void {
    this.#closings += 1;
    for (const connection of this.#all) connection.close();
    this.#all.clear();
    this.#idle.length = 0;
  }

  #release(connection: PgConnection): void {
    connection.obey(undefined);
    if (this.#all.has(connection)) this.#idle.push(connection);
  }

  async #credentials(signal: AbortSignal): Promise<PgCredentials | undefined> {
    const before = this.#closings;
    const signedIn = await this.#signIn?.credentials(signal);
    // If the sink was closed meanwhile, nothing would close a new connection.
    if (this.#closings !== before) throw new SinkError('connection', 'the sink was closed');
    return signedIn;
  }

  #make(signedIn: PgCredentials | undefined): PgConnection {
    const { connectionString, tls } = pgEndpoint(this.#address, signedIn);
    const ca = tls === 'verify' ? this.#authority() : undefined;
    const connection = new PgConnection(
      this.#Client,
      {
        connectionString,
        ssl:
          tls === 'off' ? false : { rejectUnauthorized: tls === 'verify', ...(ca !== undefined && { ca }) },
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        keepAlive: true,
        keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
        application_name: 'metrics-fanout',
        // A query is sent when it is made, not when the one before it is answered.
        pipeline: true,
        types: { getTypeParser: () => (text: string) => text },
      },
      () => this.#forget(connection),
    );
    this.#all.add(connection);
    return connection;
  }

  #forget(connection: PgConnection): void {
    this.#all.delete(connection);
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
  }

  #authority(): string | undefined {
    const { caFile } = this.#address;
    if (caFile === undefined) return undefined;
    try {
      return readFileSync(caFile, 'utf8');
    } catch (error) {
      const advice = 'Set CA_FILE to a PEM file that this process can read.';
      throw new SinkError('not_found', `the CA file ${caFile} cannot be read`, advice, { cause: error });
    }
  }
}
