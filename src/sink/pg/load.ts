/** The package `pg`, loaded by the thread that writes: the main thread only asks what the sink is, and saves 1 MB. */
import { createRequire } from 'node:module';

type Pg = typeof import('pg');

const require = createRequire(import.meta.url);

export function loadPg(): Pg {
  return require('pg');
}
