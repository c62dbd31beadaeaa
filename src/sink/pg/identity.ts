/**
 * The identity of a table: it is in the table's comment, so it goes when the table goes, and is restored with it. A
 * comment that somebody else made stays, before ours.
 */
import { randomUUID } from 'node:crypto';
import type { SinkLog } from '../contract.ts';
import { sqlState } from './classify.ts';
import type { PgConnection } from './connection.ts';
import { begin, type PgServer, quotedTable } from './sql.ts';

const NOT_ALLOWED = '42501';
const MARK = /\[metrics-fanout ([0-9a-f-]{36})\]/;

export interface IdentityOptions {
  readonly table: string;
  readonly server: PgServer;
  readonly timeoutMs: number;
  readonly log: SinkLog;
  /** See `SinkContext`. */
  readonly readOnly?: boolean | undefined;
}

/**
 * Resolves to the identity, and gives the table one if it has none. Undefined, and a warning, if only the owner of the
 * table may. Two that do it together agree: the table is locked meanwhile, against other such locks, not against
 * writes.
 */
export async function pgIdentity(
  connection: PgConnection,
  { table, server, timeoutMs, log, readOnly }: IdentityOptions,
): Promise<string | undefined> {
  const known = MARK.exec((await comment(connection, table)) ?? '')?.[1];
  if (known !== undefined || readOnly) return known;
  try {
    await connection.run(`${begin(server, timeoutMs)};\n${lock(table, server)}`);
    const before = await comment(connection, table);
    const identity = MARK.exec(before ?? '')?.[1] ?? randomUUID();
    const text = [...(before ? [before.replace(MARK, '').trim()] : []), `[metrics-fanout ${identity}]`].join(
      ' ',
    );
    await connection.run(`COMMENT ON TABLE ${quotedTable(table)} IS ${quoted(text)};\nCOMMIT`);
    return identity;
  } catch (error) {
    if (sqlState(error) !== NOT_ALLOWED) throw error;
    await connection.run('ROLLBACK');
    const advice = `Run COMMENT ON TABLE ${table} IS '[metrics-fanout ${randomUUID()}]' as its owner.`;
    log.warn(
      { table, advice },
      'the sink would not notice if the table was replaced: it may not comment on it',
    );
    return undefined;
  }
}

async function comment(connection: PgConnection, table: string): Promise<string | null | undefined> {
  const select = `SELECT description FROM pg_catalog.pg_description WHERE objoid = ${quoted(quotedTable(table))}::regclass AND objsubid = 0 AND classoid = 'pg_catalog.pg_class'::regclass`;
  return (await connection.run(select))?.rows[0]?.description;
}

/** Redshift knows one kind of lock. */
function lock(table: string, { isRedshift }: PgServer): string {
  return isRedshift
    ? `LOCK ${quotedTable(table)}`
    : `LOCK TABLE ${quotedTable(table)} IN SHARE UPDATE EXCLUSIVE MODE`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
