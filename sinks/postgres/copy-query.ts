/** COPY, with its rows: they are sent once the server has asked for them. */
import pg from 'pg';
import type { PgQuery } from '../../src/sink/index.ts';

/** A part of the rows that is sent at once: `pg` copies it into a message. */
const CHUNK_BYTES = 65_536;

interface CopyingConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

export class CopyQuery extends pg.Query implements PgQuery {
  readonly #rows: Buffer;

  /** `text`: statements, the first of which is COPY. */
  constructor(text: string, rows: Buffer) {
    super({ text });
    this.#rows = rows;
  }

  /** `pg` calls this where its own queries would say that they have nothing to copy. */
  handleCopyInResponse(connection: CopyingConnection): void {
    for (let at = 0; at < this.#rows.length; at += CHUNK_BYTES)
      connection.sendCopyFromChunk(this.#rows.subarray(at, at + CHUNK_BYTES));
    connection.endCopyFrom();
  }
}
