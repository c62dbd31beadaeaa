/**
 * Receipts, in a table beside that of the points: see `Sink.receipt`. The statements are valid on Redshift, which knows
 * no conflicts of keys, so two that give a writer its first receipt may make two rows: the later one counts.
 */
import { isAsKnown, type ReceiptBefore } from '../contract.ts';
import { sqlState } from './classify.ts';
import type { PgConnection } from './connection.ts';
import type { IdentityOptions } from './identity.ts';
import { pgLiteral, quotedTable, transaction } from './sql.ts';

const NOT_ALLOWED = '42501';
const NO_TABLE = '42P01';
/** The longest name, in bytes: PostgreSQL cuts a longer one, Redshift allows more. */
const MAX_NAME_BYTES = 63;

/** Resolves to the receipt of the writer; undefined if there is none. */
export async function pgReceipt(
  connection: PgConnection,
  options: IdentityOptions,
  writer: string,
): Promise<number | undefined> {
  const table = receiptsOf(options.table);
  if (table === undefined) return undefined;
  const select = `SELECT max("time") AS "time" FROM ${table} WHERE "writer" = ${pgLiteral(writer)}`;
  try {
    const time = (await connection.run(select))?.rows[0]?.time ?? undefined;
    return time === undefined ? undefined : Number(time);
  } catch (error) {
    if (sqlState(error) !== NO_TABLE) throw error;
    // Made when it is first needed: whoever may not make tables, and has one, need not try.
    const create = `CREATE TABLE IF NOT EXISTS ${table} ("writer" varchar(1000) NOT NULL, "time" bigint NOT NULL)`;
    await connection.run(transaction(options.server, options.timeoutMs, create));
    return undefined;
  }
}

/** See `Sink.giveReceipt`. */
export async function pgGiveReceipt(
  connection: PgConnection,
  options: IdentityOptions,
  writer: string,
  time: number,
  known: number | undefined,
): Promise<ReceiptBefore | undefined> {
  const table = receiptsOf(options.table);
  if (table === undefined) return undefined;
  try {
    const before = await pgReceipt(connection, options, writer);
    if (!isAsKnown(before, known) || (before !== undefined && before >= time)) return { before };
    const by = pgLiteral(writer);
    const give =
      before === undefined
        ? `INSERT INTO ${table} ("writer", "time") VALUES (${by}, ${time})`
        : `UPDATE ${table} SET "time" = ${time} WHERE "writer" = ${by} AND "time" >= ${known ?? before} AND "time" < ${time}`;
    await connection.run(transaction(options.server, options.timeoutMs, give));
    return { before };
  } catch (error) {
    if (sqlState(error) !== NOT_ALLOWED) throw error;
    const advice = `Let the user create ${table}, or create it, and let the user select from it, insert into it and update it.`;
    options.log.warn(
      { table: options.table, advice },
      'the sink would not notice if the table was restored from a backup',
    );
    // The transaction that failed is still open.
    await connection.run('ROLLBACK');
    return undefined;
  }
}

/** Returns the name of the table, quoted; undefined if it is too long. */
function receiptsOf(table: string): string | undefined {
  const name = `${table}_receipts`;
  const isTooLong = Buffer.byteLength(name.split('.').at(-1)!) > MAX_NAME_BYTES;
  return isTooLong ? undefined : quotedTable(name);
}
