/** Signed-in statements over the HTTP interface. Rows come as lines of JSON. */
import { errorOf, type HttpAnswer, HttpServer, SinkError, transportFailure } from '../../src/sink/index.ts';
import { ADVICE, failureOf } from './classify.ts';
import type { Config } from './config.ts';

const LINE_FEED = 0x0a;
/** Much more than one of our rows, which take at most 200 KB. */
const MAX_LINE_BYTES = 16_777_216;

export class Connection {
  /**
   * Settings for inserts that not every version knows. `async_insert` is on by default in versions of 2026. With it, a
   * profile may say that an insert is acknowledged before it is stored, and two inserts may be stored in any order.
   */
  insertSettings: Readonly<Record<string, string>> = {};
  readonly #server: HttpServer;
  readonly #database: string;

  constructor({ url, database, user, password = '' }: Config, sockets: number) {
    const credentials = Buffer.from(`${user}:${password}`).toString('base64');
    this.#server = new HttpServer(url, { authorization: `Basic ${credentials}` }, sockets);
    this.#database = database;
  }

  /** Sends the statement in the query string and its rows in the body. Rejects only if there is no answer. */
  async insert(statement: string, rows: Uint8Array, signal: AbortSignal): Promise<HttpAnswer> {
    // No deduplication: a later equal block is not a repetition, because a block in between may have overwritten it.
    return await this.#server.post(
      this.#target({ query: statement, insert_deduplicate: '0', ...this.insertSettings }),
      { body: rows },
      signal,
    );
  }

  /** Runs a statement that returns no rows. Throws a SinkError. */
  async run(statement: string, signal: AbortSignal): Promise<void> {
    for await (const _ of this.query(statement, signal));
  }

  /** Yields rows as they arrive; the statement must have FORMAT JSONEachRow. May throw a SinkError between rows. */
  async *query<R>(statement: string, signal: AbortSignal): AsyncGenerator<R> {
    try {
      const target = this.#target({ output_format_json_quote_64bit_integers: '0' });
      const { status, headers, body } = await this.#server.stream(target, { body: statement }, signal);
      for await (const line of lines(body)) {
        // An exception is the last line even of an answer that began well.
        if (status !== 200 || line[0] !== 0x7b) throw failureOf({ status, headers, body: line });
        yield JSON.parse(line.toString()) as R;
        signal.throwIfAborted();
      }
      if (status !== 200) throw failureOf({ status, headers, body: Buffer.alloc(0) });
    } catch (error) {
      if (error instanceof SinkError) throw error;
      throw errorOf(transportFailure(error, signal), ADVICE);
    }
  }

  #target(parameters: Readonly<Record<string, string>>): string {
    return `/?${new URLSearchParams({ database: this.#database, ...parameters })}`;
  }

  close(): void {
    this.#server.close();
  }
}

/** Yields the lines that are not empty, without their line feeds. */
async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = rest.indexOf(LINE_FEED); end >= 0; end = rest.indexOf(LINE_FEED, start)) {
      if (end > start) yield rest.subarray(start, end);
      start = end + 1;
    }
    rest = rest.subarray(start);
    if (rest.length > MAX_LINE_BYTES) throw new Error(`a row is longer than ${MAX_LINE_BYTES} bytes`);
  }
  if (rest.length > 0) yield rest;
}
