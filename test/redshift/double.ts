/**
 * Stands in for Redshift: a real PostgreSQL behind a proxy that reads the protocol, says that it is Redshift 1.0,
 * refuses what Redshift does not have (`rules.ts`), copies from S3 (`load.ts`), and passes on everything else.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { S3Client } from '@aws-sdk/client-s3';
import { CopyError, loadedText, loadFailure, parseCopy } from './load.ts';
import { type Refusal, refusalOf, refusalOfParameter, type Statement, statementsOf } from './rules.ts';
import { cellsOf, errorResponse, longestParameter, type Message, message, messages, textOf } from './wire.ts';

const SERVER_VERSION = '8.0.2';
const VERSION =
  'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.118718';
const SSL_REQUEST = 80_877_103;
const INTERNAL_ERROR = 'XX000';
/** Not valid SQL. PostgreSQL's error is replaced by the one that Redshift would send. */
const NONSENSE = 'redshift refuses';
const CHUNK_ROWS = 2_000;

const SIZES = `(SELECT relname AS "table", nspname AS "schema", ceil(pg_total_relation_size(c.oid) / 1048576.0) AS size
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind = 'r') AS svv_table_info`;

export interface DoubleOptions {
  /** Port of the PostgreSQL behind it. */
  readonly port: number;
  /** Where COPY reads from. Without it, COPY fails. */
  readonly s3?: { readonly endpoint: string; readonly accessKeyId: string; readonly secretAccessKey: string };
  /** The roles that it may assume. */
  readonly roles?: readonly string[];
}

export class RedshiftDouble {
  readonly port: number;
  /** Every statement that was sent, and the reasons for which some were refused. */
  readonly statements: string[] = [];
  readonly refused: string[] = [];
  /** What COPY could not load, and why. */
  readonly notLoaded: string[] = [];
  /** Called before COPY reads its objects: a test may wait there, or delete them. */
  beforeCopy: () => Promise<void> = async () => {};
  readonly roles: readonly string[];
  readonly s3: S3Client | undefined;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(listener: Server, { port, s3, roles = [] }: DoubleOptions) {
    this.#listener = listener;
    this.port = (listener.address() as AddressInfo).port;
    this.roles = roles;
    if (s3 !== undefined) {
      const { endpoint, ...credentials } = s3;
      this.s3 = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true });
    }
    listener.on('connection', (client: Socket) => this.#join(client, connect(port, '127.0.0.1')));
  }

  static async start(options: DoubleOptions): Promise<RedshiftDouble> {
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    return new RedshiftDouble(listener, options);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#listener.close();
    this.s3?.destroy();
  }

  #join(client: Socket, server: Socket): void {
    const session = new Session(this, client, server);
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    session.fromClient().catch(end);
    session.fromServer().catch(end);
  }
}

/** Gets the server's messages instead of the client, up to ReadyForQuery. */
type Listener = (answer: Message) => void;

class Session {
  readonly #double: RedshiftDouble;
  readonly #client: Socket;
  readonly #server: Socket;
  /** Replaces the next error. */
  #refusal: Refusal | undefined;
  #listener: Listener | undefined;
  /** What ReadyForQuery said last: I, T, or E in a transaction that has failed. */
  #status = 'I';

  constructor(double: RedshiftDouble, client: Socket, server: Socket) {
    this.#double = double;
    this.#client = client;
    this.#server = server;
  }

  async fromClient(): Promise<void> {
    const isLastStart = ({ body }: Message) => body.readInt32BE(0) !== SSL_REQUEST;
    for await (const sent of messages(this.#client, isLastStart)) {
      if (sent.type === '' && !isLastStart(sent)) this.#client.write('N');
      else if (sent.type === 'Q') await this.#query(textOf(sent.body).text);
      else if (sent.type === 'P') this.#parse(sent.body);
      else if (sent.type === 'B') this.#bind(sent);
      else this.#server.write(sent.bytes);
    }
  }

  async fromServer(): Promise<void> {
    for await (const answer of messages(this.#server)) {
      if (answer.type === 'Z') this.#status = answer.body.toString();
      if (this.#listener !== undefined) this.#listener(answer);
      else this.#client.write(this.#asRedshift(answer));
    }
  }

  #asRedshift({ type, body, bytes }: Message): Buffer {
    if (type === 'S' && textOf(body).text === 'server_version') {
      return message('S', `server_version\0${SERVER_VERSION}\0`);
    }
    if (type === 'E' && this.#refusal !== undefined) {
      const { code, message: text } = this.#refusal;
      this.#refusal = undefined;
      return errorResponse(code, text);
    }
    return bytes;
  }

  async #query(sql: string): Promise<void> {
    const statements = statementsOf(sql);
    const text = this.#checked(statements) ?? NONSENSE;
    const copy = statements.findIndex(({ bare }) => /^COPY\b/i.test(bare));
    if (text === NONSENSE || copy < 0) {
      this.#server.write(message('Q', `${text}\0`));
      return;
    }
    const [before, after] = [statements.slice(0, copy), statements.slice(copy + 1)];
    if (!(await this.#pass(before)) || !(await this.#copy(statements[copy]!.text))) return;
    if (await this.#pass(after)) this.#client.write(message('Z', this.#status));
  }

  /** Runs statements, and passes on all answers up to the last one. Resolves to false after an error. */
  async #pass(statements: readonly Statement[]): Promise<boolean> {
    if (statements.length === 0) return true;
    const text = statements.map((statement) => this.#translated(statement.text)).join(';\n');
    const failure = await this.#listen(message('Q', `${text}\0`), (answer) => {
      if (answer.type !== 'Z') this.#client.write(this.#asRedshift(answer));
    }).catch((error: unknown) => error);
    if (failure === undefined) return true;
    this.#client.write(message('Z', this.#status));
    return false;
  }

  #parse(body: Buffer): void {
    const name = textOf(body);
    const { text: sql, rest } = textOf(name.rest);
    const text = this.#checked(statementsOf(sql)) ?? NONSENSE;
    this.#server.write(message('P', `${name.text}\0${text}\0`, rest));
  }

  #bind({ body, bytes }: Message): void {
    const refusal = refusalOfParameter(longestParameter(body));
    if (refusal === undefined) {
      this.#server.write(bytes);
      return;
    }
    // A portal of a statement that does not exist.
    this.#refuse(refusal);
    this.#server.write(message('B', '\0none\0\0\0\0\0\0\0'));
  }

  /** The text for PostgreSQL; undefined if Redshift would refuse it. */
  #checked(statements: readonly Statement[]): string | undefined {
    this.#double.statements.push(...statements.map(({ text }) => text));
    const refusal = refusalOf(statements, this.#status !== 'I');
    if (refusal === undefined) return statements.map(({ text }) => this.#translated(text)).join(';\n');
    this.#refuse(refusal);
    return undefined;
  }

  #refuse(refusal: Refusal): void {
    this.#refusal = refusal;
    this.#double.refused.push(refusal.message);
  }

  #translated(text: string): string {
    if (/^SHOW server_version$/i.test(text)) return `SELECT '${SERVER_VERSION}' AS server_version`;
    return text
      .replace(/\bversion\(\)/gi, `'${VERSION}'::text`)
      .replace(/\s(DISTKEY|SORTKEY)\s*\([^)]*\)/gi, '')
      .replace(/\bjson_extract_path_text\(("\w+")/gi, 'json_extract_path_text($1::json')
      .replace(/\bFROM svv_table_info\b/gi, `FROM ${SIZES}`);
  }

  /** Resolves to false after an error. Otherwise, what comes after it is passed on next. */
  async #copy(text: string): Promise<boolean> {
    try {
      const copy = parseCopy(text);
      const { s3, roles } = this.#double;
      await this.#double.beforeCopy();
      if (s3 === undefined || !roles.includes(copy.role)) {
        const user = 'arn:aws:redshift:us-east-1:123456789012:dbuser:c/u';
        throw new CopyError(`User ${user} is not authorized to assume IAM Role ${copy.role}`);
      }
      const types = new Map((await this.#ask(typesOf(copy.table))).map(([name, type]) => [name, type ?? '']));
      const rows = await loadedText(
        copy,
        copy.columns.map((name) => types.get(name) ?? ''),
        s3,
      );
      const columns = copy.columns.map((name) => `"${name}"`).join(', ');
      await this.#load(`COPY ${copy.table} (${columns}) FROM STDIN`, rows).catch((error: Error) => {
        throw error instanceof CopyError ? loadFailure(copy, error.message) : error;
      });
      this.#client.write(message('C', 'COPY\0'));
      return true;
    } catch (error) {
      if (!(error instanceof CopyError)) throw error;
      if (error.cause instanceof Error) this.#double.notLoaded.push(error.cause.message);
      this.#refusal = { code: INTERNAL_ERROR, message: error.message };
      this.#server.write(message('Q', `${NONSENSE}\0`));
      return false;
    }
  }

  /** Rows of a query of our own, in the client's session. */
  async #ask(sql: string): Promise<(string | null)[][]> {
    const rows: (string | null)[][] = [];
    await this.#listen(message('Q', `${sql}\0`), ({ type, body }) => {
      if (type === 'D') rows.push(cellsOf(body));
    });
    return rows;
  }

  async #load(sql: string, rows: readonly string[]): Promise<void> {
    await this.#listen(message('Q', `${sql}\0`), ({ type }) => {
      if (type !== 'G') return;
      for (let from = 0; from < rows.length; from += CHUNK_ROWS) {
        this.#server.write(message('d', rows.slice(from, from + CHUNK_ROWS).join('')));
      }
      this.#server.write(message('c'));
    });
  }

  /** Sends `request` and passes the answers to `hear`, up to the last one. Throws the error that the server sends. */
  async #listen(request: Buffer, hear: Listener): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let failure: Error | undefined;
    this.#listener = (answer) => {
      if (answer.type === 'E') failure = new CopyError(answer.body.toString().replaceAll('\0', ' '));
      hear(answer);
      if (answer.type !== 'Z') return;
      this.#listener = undefined;
      if (failure === undefined) resolve();
      else reject(failure);
    };
    const closed = () => reject(new Error('closed'));
    this.#server.once('close', closed);
    this.#server.write(request);
    await promise.finally(() => this.#server.off('close', closed));
  }
}

function typesOf(table: string): string {
  return `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped`;
}
