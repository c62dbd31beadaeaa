/** The package `pg`, loaded by the thread that writes: the main thread only asks what the sink is, and saves 1 MB. */
import { createRequire } from 'node:module';
import type { PgClientClass, PgQuery } from './connection.ts';

/** What we use of it, in words of our own: its types are not installed with this package. */
interface Pg {
  readonly Client: PgClientClass;
  readonly Query: new (query: { readonly text: string }) => PgQuery;
}

const require = createRequire(import.meta.url);

export function loadPg(): Pg {
  return require('pg');
}
