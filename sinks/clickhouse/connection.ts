/** Statements over the HTTP interface, signed in; rows come as lines of JSON. */
import { errorOf, type HttpAnswer, HttpServer, SinkError, transportFailure } from '../../src/sink/index.ts';
import { ADVICE, failureOf } from './classify.ts';
import type { Config } from './config.ts';

const LINE_FEED = 0x0a;
/** A row of ours takes 200 KB at most. */
const MAX_LINE_BYTES = 16_777_216;

export class Connection {
  readonly #server: HttpServer;
  readonly #database: string;

  constructor({ url, database, user, password = '' }: Config, sockets: number) {
    const credentials = Buffer.from(`${user}:${password}`).toString('base64');
    this.#server = new HttpServer(url, { authorization: `Basic ${credentials}` }, sockets);
    this.#database = database;
  }

  /** The statement is in the query, what it inserts in the body. Rejects only where there is no answer. */
  async insert(statement: string, rows: Uint8Array, signal: AbortSignal): Promise<HttpAnswer> {
    // Equal blocks are no repetition: what lies between them may have overwritten the first.
    return await this.#server.post(
      this.#target({ query: statement, insert_deduplicate: '0' }),
      { body: rows },
      signal,
    );
  }

  /** A statement that returns no rows. Throws a SinkError. */
  async run(statement: string, signal: AbortSignal): Promise<void> {
    for await (const _ of this.query(statement, signal));
  }

  /** Rows as they come: the statement says FORMAT JSONEachRow. Throws a SinkError, in the midst of them too. */
  async *query<R>(statement: string, signal: AbortSignal): AsyncGenerator<R> {
    try {
      const target = this.#target({ output_format_json_quote_64bit_integers: '0' });
      const { status, headers, body } = await this.#server.stream(target, { body: statement }, signal);
      for await (const line of lines(body)) {
        // An exception ends an answer that began well, as it does the answer to a bad statement.
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

/** Not empty, without their line feeds. */
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
