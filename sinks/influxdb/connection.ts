/** Signed-in requests to one server, over keep-alive connections, by the transport of InfluxDB's own client. */
import type { Agent } from 'node:http';
import type { SendOptions, Transport } from '@influxdata/influxdb-client';
import { makeAgent, onLiveConnection } from '../../src/sink/index.ts';
import { HttpError, InfluxDB, setLogger } from './client.ts';
import type { Config } from './config.ts';

const FORM = 'application/x-www-form-urlencoded';
const TEXT = 'text/plain; charset=utf-8';
/** Larger bodies are compressed for a server with https, which is seldom on the same network. */
const GZIP_THRESHOLD_BYTES = 1_024;
/** Turns off the client's own socket timeout: only the caller's signal limits the time. */
const NO_TIMEOUT_MS = 0;

// By default, the client logs to the console.
setLogger({ error() {}, warn() {} });

export class Connection {
  readonly #agent: Agent;
  readonly #transport: Transport;
  readonly #writePath: string;
  readonly #source: Source;
  readonly #gzip: { readonly gzipThreshold?: number };

  constructor(config: Config, sockets: number) {
    const { protocol } = new URL(config.url);
    this.#agent = makeAgent(protocol, sockets);
    this.#gzip = protocol === 'https:' ? { gzipThreshold: GZIP_THRESHOLD_BYTES } : {};
    this.#source = sourceOf(config);
    this.#writePath = writePath(config);
    this.#transport = new InfluxDB({
      url: config.url,
      timeout: NO_TIMEOUT_MS,
      headers: authorization(config),
      ...(config.api === 'v2' && config.token !== undefined ? { token: config.token } : {}),
      transportOptions: { agent: this.#agent },
    }).transport;
  }

  /** Resolves to the status, which is 2xx; rejects with the client's HttpError for any other. */
  async write(lines: string, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    let status = 0;
    const options = { method: 'POST', headers: { 'content-type': TEXT }, signal, ...this.#gzip };
    const send = () =>
      this.#transport.request(this.#writePath, lines, options, (_, code) => {
        status = code ?? 0;
      });
    await onLiveConnection(send, signal);
    return status;
  }

  /** Yields the answer to InfluxQL statements: JSON, with a line for each `chunkRows` rows or whole series. */
  async *query(statements: string, chunkRows: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    const form = {
      ...this.#source,
      q: statements,
      epoch: 'ms',
      chunked: 'true',
      chunk_size: `${chunkRows}`,
    };
    const options = { method: 'POST', headers: { 'content-type': FORM, accept: 'application/json' } };
    yield* this.#iterate('/query', `${new URLSearchParams(form)}`, options, signal);
  }

  /** Yields the answer of InfluxDB 3 to one InfluxQL statement: a line of JSON for each row. */
  async *queryV3(statement: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    const question = JSON.stringify({ db: this.#source.db, q: statement, format: 'jsonl' });
    const headers = { 'content-type': 'application/json', accept: 'application/jsonl' };
    yield* this.#iterate('/api/v3/query_influxql', question, { method: 'POST', headers }, signal);
  }

  /**
   * Creates the database in InfluxDB 3, which a first write would do as well; but until then, a read would fail. It is
   * there already, or the token may not create it, if the server refuses.
   */
  async createDatabase(signal: AbortSignal): Promise<void> {
    const options = { method: 'POST', headers: { 'content-type': 'application/json' }, signal };
    const body = JSON.stringify({ db: this.#source.db });
    const send = () => this.#transport.request('/api/v3/configure/database', body, options);
    await onLiveConnection(send, signal).catch((error: unknown) => {
      if (!(error instanceof HttpError) || error.statusCode >= 500) throw error;
    });
  }

  /** Yields the answer to a GET request. */
  async *get(target: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    yield* this.#iterate(target, '', { method: 'GET' }, signal);
  }

  async *#iterate(
    target: string,
    body: string,
    options: Omit<SendOptions, 'signal'>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const begin = async () => {
      const answer = this.#transport.iterate(target, body, { ...options, signal })[Symbol.asyncIterator]();
      return { answer, first: await answer.next() };
    };
    const { answer, first } = await onLiveConnection(begin, signal);
    try {
      for (let next = first; !next.done; next = await answer.next()) yield next.value;
    } finally {
      await answer.return?.();
    }
  }

  /** Sends a request of the API of InfluxDB 2 with a body, or none. */
  async send(method: 'POST' | 'DELETE', target: string, body: object | undefined, signal: AbortSignal) {
    const options = { method, headers: { 'content-type': 'application/json' }, signal };
    await this.#transport.request(target, body === undefined ? '' : JSON.stringify(body), options);
  }

  /** Resolves to the version that the server says it is; undefined if it says none. */
  async version(signal: AbortSignal): Promise<string | undefined> {
    let version: string | undefined;
    const started = (headers: Readonly<Record<string, string | string[] | undefined>>) => {
      version = headers['x-influxdb-version']?.toString();
    };
    await this.#transport.request('/ping', '', { method: 'GET', signal }, started);
    return version;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/**
 * The database and retention policy to query by InfluxQL. On 1.8 and 2, a bucket called `database/retention-policy`
 * names both.
 */
interface Source {
  readonly db: string;
  readonly rp?: string;
}

export function sourceOf({ api, database = '', bucket = '' }: Config): Source {
  if (api !== 'v2') return { db: database };
  const [, db, rp] = /^(.*?)\/(.*)$/s.exec(bucket) ?? [];
  return db === undefined || rp === undefined ? { db: bucket } : { db, rp };
}

function writePath(config: Config): string {
  const { api, database = '' } = config;
  if (api === 'v3') {
    const query = { db: database, precision: 'millisecond', accept_partial: 'true' };
    return `/api/v3/write_lp?${new URLSearchParams(query)}`;
  }
  if (api === 'v1') return `/write?${new URLSearchParams({ db: database, precision: 'ms' })}`;
  const { org = '', bucket = '' } = config;
  return `/api/v2/write?${new URLSearchParams({ org, bucket, precision: 'ms' })}`;
}

/** The header, unless the client makes it itself, which it does for v2. */
function authorization({ api, user, password, token }: Config): Record<string, string> {
  if (api === 'v3' && token !== undefined) return { authorization: `Bearer ${token}` };
  if (api !== 'v1' || user === undefined) return {};
  const credentials = Buffer.from(`${user}:${password ?? ''}`).toString('base64');
  return { authorization: `Basic ${credentials}` };
}
