/**
 * Keeps a write that was given up from committing after a newer one of the same rows. Such a transaction may go on in
 * the server for as long as its statements take, and only the server knows when it is over.
 *
 * So each transaction that writes first takes an advisory lock, which they share, and sends its rows when it has it.
 * Whoever writes after one was given up first waits until nobody has the lock. What of the one given up has not reached
 * the server by then never does anything: its rows were not sent yet.
 */
import { isAboutData } from './classify.ts';
import type { PgConnection, PgRow } from './connection.ts';
import { begin, lockWrites, type PgServer, transaction } from './sql.ts';

export class WriteOrder {
  readonly #table: string;
  readonly #timeoutMs: number;
  /** How many writes were given up. One may be that of an earlier process. */
  #givenUp = 1;
  /** How many of them are known to be over. */
  #over = 0;

  /** `timeoutMs`: the time limit of a statement. */
  constructor(table: string, timeoutMs: number) {
    this.#table = table;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Begins a transaction and, once it has its turn, calls `write`, which must end it, with what the statement `first`
   * selects in it. PostgreSQL only.
   */
  async inTurn<T>(
    connection: PgConnection,
    server: PgServer,
    signal: AbortSignal,
    write: (found: readonly PgRow[]) => Promise<T>,
    first?: string,
  ): Promise<T> {
    const giveUp = () => {
      this.#givenUp += 1;
    };
    // At once, and not when the connection has noticed: the next write may begin in between.
    signal.addEventListener('abort', giveUp);
    try {
      const givenUp = this.#givenUp;
      const table = this.#table;
      const statements = [begin(server, this.#timeoutMs), lockWrites(table, 'shared')];
      if (givenUp > this.#over)
        statements.unshift(transaction(server, this.#timeoutMs, lockWrites(table, 'alone')));
      if (first !== undefined) statements.push(first);
      const found = await connection.run(statements.join(';\n'));
      this.#over = Math.max(this.#over, givenUp);
      return await write(found?.rows ?? []);
    } catch (error) {
      if (!isAboutData(error)) giveUp();
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }
}
