/** COPY, with its rows: they are sent once the server has asked for them. */
import { loadPg, type PgQuery } from '../../src/sink/index.ts';

interface CopyingConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

/** `text`: statements, the first of which is COPY. */
export function copyQuery(text: string, parts: readonly Buffer[]): PgQuery {
  return Object.assign(new (loadPg().Query)({ text }), {
    /** `pg` calls this where its own queries would say that they have nothing to copy. */
    handleCopyInResponse(connection: CopyingConnection): void {
      for (const part of parts) connection.sendCopyFromChunk(part);
      connection.endCopyFrom();
    },
  });
}
