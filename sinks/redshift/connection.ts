/** Connections of one sink: one for each call under way, kept for the next call, discarded at the first error. */
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import pg from 'pg';
import { SinkError } from '../../src/sink/index.ts';
import { isAboutSignIn } from './classify.ts';
import { endpoint, type RedshiftConfig } from './config.ts';
import { type Credentials, makeSignIn, type SignIn } from './sign-in.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_DELAY_MS = 30_000;

export type Row = Readonly<Record<string, string | null>>;

export class Connection {
  readonly #client: pg.Client;
  /** Created here, so that an abort can destroy it without waiting for a server that hangs. */
  readonly #socket = new Socket();
  readonly #onEnd: () => void;
  #signal: AbortSignal | undefined;

  constructor(config: pg.ClientConfig, onEnd: () => void) {
    this.#client = new pg.Client({ ...config, stream: () => this.#socket });
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
  async query(text: string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
    return await this.#client.query<Row>({ text, ...(values && { values }) });
  }

  /** Sends a text of several statements without values. Resolves to the rows of the last one that returns any. */
  async run(text: string): Promise<pg.QueryResult<Row> | undefined> {
    const results = await this.#client.query<Row>(text);
    return [results].flat().findLast(({ fields }) => fields.length > 0);
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

export class Connections {
  readonly #config: RedshiftConfig;
  readonly #signIn: SignIn | undefined;
  readonly #all = new Set<Connection>();
  readonly #idle: Connection[] = [];
  #closings = 0;

  constructor(config: RedshiftConfig) {
    this.#config = config;
    this.#signIn = makeSignIn(config);
  }

  /** Lends `use` a connection. After an error, or when `signal` aborts, the connection ends instead of being reused. */
  async lend<T>(signal: AbortSignal, use: (connection: Connection) => Promise<T>): Promise<T> {
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
  async #acquire(signal: AbortSignal): Promise<Connection> {
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

  #discard(connection: Connection): void {
    this.#forget(connection);
    connection.close();
  }

  close(): void {
    this.#closings += 1;
    for (const connection of this.#all) connection.close();
    this.#all.clear();
    this.#idle.length = 0;
  }

  #release(connection: Connection): void {
    connection.obey(undefined);
    if (this.#all.has(connection)) this.#idle.push(connection);
  }

  async #credentials(signal: AbortSignal): Promise<Credentials | undefined> {
    const before = this.#closings;
    const signedIn = await this.#signIn?.credentials(signal);
    // If the sink was closed meanwhile, nothing would close a new connection.
    if (this.#closings !== before) throw new SinkError('connection', 'the sink was closed');
    return signedIn;
  }

  #make(signedIn: Credentials | undefined): Connection {
    const { connectionString, tls } = endpoint(this.#config, signedIn);
    const ca = tls === 'verify' ? this.#authority() : undefined;
    const connection = new Connection(
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

  #forget(connection: Connection): void {
    this.#all.delete(connection);
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
  }

  #authority(): string | undefined {
    const { caFile } = this.#config;
    if (caFile === undefined) return undefined;
    try {
      return readFileSync(caFile, 'utf8');
    } catch (error) {
      const advice = 'Set CA_FILE to a PEM file that this process can read.';
      throw new SinkError('not_found', `the CA file ${caFile} cannot be read`, advice, { cause: error });
    }
  }
}
