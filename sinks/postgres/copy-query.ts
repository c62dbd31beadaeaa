/** COPY, with its rows: they are sent once the server has asked for them. */
import pg from 'pg';
import type { PgQuery } from '../../src/sink/index.ts';

interface CopyingConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

export class CopyQuery extends pg.Query implements PgQuery {
  readonly #parts: readonly Buffer[];

  /** `text`: statements, the first of which is COPY. */
  constructor(text: string, parts: readonly Buffer[]) {
    super({ text });
    this.#parts = parts;
  }

  /** `pg` calls this where its own queries would say that they have nothing to copy. */
  handleCopyInResponse(connection: CopyingConnection): void {
    for (const part of this.#parts) connection.sendCopyFromChunk(part);
    connection.endCopyFrom();
  }
}
