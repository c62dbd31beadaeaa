/** What an error means to the lane, whether of `pg`, the network or the server (its SQLSTATE). Pure. */
import { errorText } from '../../base/error-text.ts';
import { type RejectReason, SinkError } from '../contract.ts';
import { PG_COLUMNS } from './arrays.ts';

type PgVerdict = readonly [reason: SinkError['reason'], advice?: string];

/** A verdict by the text of a message. */
export type WordedVerdict = readonly [pattern: RegExp, verdict: PgVerdict];

const GRANT = "Check the user and the password in the URL, and the user's privileges.";
/** Of `pg`, which has none to answer the server with. */
const NO_PASSWORD = /client password must be a (non-empty )?string/;
const PASSWORD = 'Put it into the URL of the sink: postgres://user:password@host:5432/database.';
const DATABASE = 'Create the database, or correct its name in the URL.';
const CERTIFICATE =
  "Set CA_FILE or NODE_EXTRA_CA_CERTS to the authority that signed the server's certificate, and use a host name that the certificate has.";
const LIMIT = 'Raise the connection limit of the server, of its pooler, or of the user.';
const POOLER =
  'Look for the cause in the log of the pooler: it cannot get a connection to the server, or not in time.';
const POOL_MODE =
  'Set the pooler to transactions or sessions: it must not give each statement another session.';
/** How the error of a wrong count begins: PostgreSQL quotes the text that is not a number. */
export const MISCOUNTED = 'rows of the batch:';
const MISCOUNTING = 'Look for a trigger or a rule on the table that leaves out rows.';
const COLUMN = 'Give that column a default, or let it be NULL: this sink does not write it.';
const PARTITION = 'Make the partition that is missing. The kind postgres does so if PARTITION is set.';
const TABLE = 'Rename that table, or set TABLE to another name: the sink creates its own table.';

/** By SQLSTATE: looked up whole, then by its first three characters, then by its class, the first two. */
const VERDICTS: Readonly<Record<string, PgVerdict>> = {
  '08': ['connection'],
  // A prepared statement that is not there, or is: a pooler gave us another session in the middle of a transaction.
  '26': ['connection'],
  '42P05': ['connection'],
  '25006': ['unauthorized', 'Point the URL at a server that takes writes.'],
  '23502': ['schema_mismatch', COLUMN],
  '25P03': ['timeout'],
  '28': ['unauthorized', GRANT],
  '3D': ['not_found', DATABASE],
  '3F': ['not_found', 'Create the schema, or correct TABLE.'],
  '40': ['conflict'],
  '42': ['bad_request', 'Report this as a bug.'],
  '42501': ['unauthorized', GRANT],
  '42703': ['schema_mismatch', TABLE],
  '42804': ['schema_mismatch', TABLE],
  '42P01': ['not_found', 'Leave the table to this sink, which creates it again.'],
  '53': ['server_error'],
  '53300': ['throttled', LIMIT],
  '55P03': ['conflict'],
  '57014': ['timeout'],
  '57P': ['connection'],
};

/**
 * By message of a pooler: PgBouncer up to 1.18 gives all of its errors the code of a protocol violation, RDS Proxy,
 * PgCat and Supavisor give theirs that of an internal error. The first match counts.
 */
const POOLER_VERDICTS: readonly WordedVerdict[] = [
  [
    /^no more connections allowed|max(imum number of)? client(s| connections)? (reached|exceeded)/i,
    ['throttled', LIMIT],
  ],
  [/^(SASL|password) authentication failed|^no such user|Tenant or user not found/i, ['unauthorized', GRANT]],
  [/^no such database|^database "[^"]*" does not exist/i, ['not_found', DATABASE]],
  [/in statement pooling mode/i, ['bad_request', POOL_MODE]],
  [
    /^query_wait_timeout|wait(ing)? to acquire (a )?(database )?connection|from the pool/i,
    ['throttled', POOLER],
  ],
  [/^server login (has been )?fail|cannot connect to server|servers? (is|are) down/i, ['connection', POOLER]],
];

/** Error codes of Node.js. A code that names TLS or a certificate means that the server was not trusted. */
const NETWORK = /^E(?!RR_)[A-Z_]+$/;
const TLS = /CERT|SIGNATURE|ISSUER|TLS|SSL/;

/** A longer message is cut. */
const MAX_MESSAGE_CHARACTERS = 300;

export function sqlState(error: unknown): string | undefined {
  const code = codeOf(error);
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) && !NETWORK.test(code) ? code : undefined;
}

/** A limit of the server: mostly a row that does not fit into an index that somebody added. */
const LIMIT_EXCEEDED = '54000';

/**
 * Whether the store cannot hold a value (class 22), or a value breaks a constraint that somebody added (class 23), or
 * is too long for an index. What would refuse every row is not about data.
 */
export function isAboutData(error: unknown): boolean {
  const state = sqlState(error) ?? '';
  const mayBe = /^2[23]/.test(state) || state === LIMIT_EXCEEDED;
  return mayBe && !pgMessage(error).includes(MISCOUNTED) && !lacksPartition(error) && !lacksValue(error);
}

const NOT_NULL_VIOLATION = '23502';
/** A row breaks a constraint; if the server names none, and no trigger that says so, it has no partition. */
const CHECK_VIOLATION = '23514';

/** Whether the table has no partition for a row. */
export function lacksPartition(error: unknown): boolean {
  if (sqlState(error) !== CHECK_VIOLATION) return false;
  const { constraint, where } = error as { constraint?: string; where?: string };
  return constraint === undefined && where === undefined;
}

/** Whether a column that somebody added must have a value, and has no default. */
function lacksValue(error: unknown): boolean {
  if (sqlState(error) !== NOT_NULL_VIOLATION) return false;
  const { column } = error as { column?: string };
  return column !== undefined && !PG_COLUMNS.has(column);
}

/** Whether the server refused the user or the password. */
export function isAboutSignIn(error: unknown): boolean {
  return /^28/.test(sqlState(error) ?? '');
}

export function pgRejectReason(error: unknown): RejectReason {
  const state = sqlState(error) ?? '';
  if (state.startsWith('23')) return 'refused';
  return state === '22001' || state === LIMIT_EXCEEDED ? 'too_large' : 'invalid_value';
}

/** `worded` are verdicts by message, of which the first match counts. */
export function classifyPg(error: unknown, worded: readonly WordedVerdict[] = []): SinkError {
  if (error instanceof SinkError) return error;
  const message = pgMessage(error);
  if (NO_PASSWORD.test(message))
    return new SinkError('unauthorized', 'the server asks for a password, and none is set', PASSWORD, {
      cause: error,
    });
  const [reason, advice = ''] = verdict(error, message, worded);
  return new SinkError(reason, message, advice, { cause: error });
}

function verdict(error: unknown, message: string, worded: readonly WordedVerdict[]): PgVerdict {
  const state = sqlState(error);
  // Redshift's error 1023 has no SQLSTATE of its own.
  if (/serializable isolation violation/i.test(message)) return ['conflict'];
  if (message.includes(MISCOUNTED)) return ['server_error', MISCOUNTING];
  if (lacksPartition(error)) return ['not_found', PARTITION];
  const all = [...worded, ...(isOfPooler(state) ? POOLER_VERDICTS : [])];
  const known = all.find(([pattern]) => pattern.test(message));
  if (known !== undefined) return known[1];
  if (state !== undefined) {
    return VERDICTS[state] ?? VERDICTS[state.slice(0, 3)] ?? VERDICTS[state.slice(0, 2)] ?? ['server_error'];
  }
  const code = codeOf(error) ?? '';
  if (TLS.test(code)) return ['untrusted', CERTIFICATE];
  if (NETWORK.test(code) || /connection (was )?(terminated|closed|ended)|not queryable/i.test(message))
    return ['connection'];
  if (message === 'timeout expired') return ['timeout'];
  if (message.includes('does not support SSL')) {
    return ['bad_request', 'Enable TLS on the server, or set sslmode=disable.'];
  }
  return /password|SASL|SCRAM/.test(message) ? ['unauthorized', GRANT] : ['unknown'];
}

/** Whether the error may be that of a pooler. PostgreSQL itself uses these states only for faults of its own. */
function isOfPooler(state: string | undefined): boolean {
  return state === undefined || /^(08|58|XX)/.test(state);
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Returns the message on one line. An AggregateError, for a host with several addresses, has no message of its own. */
export function pgMessage(error: unknown): string {
  const first = error instanceof AggregateError && error.message === '' ? error.errors[0] : error;
  const message = errorText(first);
  return (message.split('\n')[0] ?? '').slice(0, MAX_MESSAGE_CHARACTERS);
}
