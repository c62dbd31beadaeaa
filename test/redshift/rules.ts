/**
 * What PostgreSQL has and Redshift does not, as its documentation says. None of it was tried on a real one.
 */

export interface Statement {
  /** As it was sent. */
  readonly text: string;
  /** Without comments, every literal as ''. */
  readonly bare: string;
}

interface Rule {
  readonly refuses: RegExp | ((statement: Statement, inTransaction: boolean) => boolean);
  readonly reason: string;
}

export interface Refusal {
  readonly code: string;
  readonly message: string;
}

const NOT_SUPPORTED = '0A000';
const TOO_LONG = '22001';
export const MAX_STATEMENT_BYTES = 16 * 1024 * 1024;
export const MAX_PARAMETERS = 32_767;
const MAX_TEXT_BYTES = 65_535;
/** What a single-node cluster returns at once. */
const MAX_FETCHED_ROWS = 1_000;

/** How a statement may begin: commands of Redshift's SQL reference, as far as they are used here. */
const COMMANDS =
  /^(SELECT|INSERT INTO|DELETE FROM|UPDATE|CREATE( TEMP| TEMPORARY)? TABLE|ALTER TABLE|DROP TABLE|TRUNCATE|LOCK|BEGIN|COMMIT|ROLLBACK|SET|SHOW|DECLARE|FETCH|CLOSE|COPY|COMMENT ON TABLE)\b/i;
const TYPES =
  /^(smallint|int2|integer|int|int4|bigint|int8|real|float4|double precision|float8|boolean|bool|char\(\d+\)|varchar\(\d+\)|date|timestamp|timestamptz|super)(?!\w)/i;
/** Functions, and words that may come before a parenthesis. */
const FUNCTIONS =
  /^(count|sum|min|max|avg|cast|coalesce|nullif|json_extract_path_text|version|char|varchar|distkey|sortkey|identity|in|values|as|and|or|not|exists|using|like|into|table|copy|by|on)$/i;
const PARAMETERS =
  /^(statement_timeout|extra_float_digits|datestyle|search_path|query_group|timezone|application_name)$/i;

export const RULES: readonly Rule[] = [
  { refuses: ({ bare }) => !COMMANDS.test(bare), reason: 'it has no such command' },
  {
    refuses: ({ text }) => Buffer.byteLength(text) > MAX_STATEMENT_BYTES,
    reason: 'a statement has at most 16 MB',
  },
  {
    refuses: ({ bare }) => parametersOf(bare) > MAX_PARAMETERS,
    reason: 'a statement has at most 32,767 parameters',
  },
  { refuses: ({ text }) => /'[^']*\\/.test(text), reason: 'a backslash in a literal begins an escape there' },
  { refuses: /\bON CONFLICT\b/i, reason: 'INSERT has no ON CONFLICT' },
  { refuses: /\bRETURNING\b/i, reason: 'there is no RETURNING' },
  { refuses: /\b(SMALL|BIG)?SERIAL\b/i, reason: 'there is no SERIAL' },
  { refuses: /\bIDENTITY\b(?! ?\(\d+, ?\d+\))/i, reason: 'IDENTITY needs a seed and a step' },
  { refuses: /\bCREATE (UNIQUE )?INDEX\b/i, reason: 'there are no indexes' },
  {
    refuses: /\bunnest\s*\(|\bARRAY\s*\[|\[\]|\bANY\s*\(\s*\$/i,
    reason: 'there are no arrays as in PostgreSQL',
  },
  { refuses: /\bjsonb?\b|->>?|#>/i, reason: 'there is no type for JSON, and no operators on it' },
  { refuses: /\b(CREATE|ALTER) (TYPE|DOMAIN)\b|\bENUM\b/i, reason: 'there are no user-defined types' },
  { refuses: /\bto_ts(vector|query)\b|\bts(vector|query)\b|@@/i, reason: 'there is no text search' },
  { refuses: /^(UN)?LISTEN\b|^NOTIFY\b|\bpg_notify\b/i, reason: 'there is no LISTEN and NOTIFY' },
  { refuses: /\bpg_(try_)?advisory/i, reason: 'there are no advisory locks' },
  { refuses: /^DO\b/i, reason: 'there are no DO blocks' },
  { refuses: /\bLATERAL\b/i, reason: 'there is no LATERAL' },
  { refuses: /\bgenerate_series\b/i, reason: 'it runs on the leader node only, without tables' },
  { refuses: /\bFROM\s*\(\s*VALUES\b/i, reason: 'VALUES is not a table' },
  { refuses: /\bDISTINCT ON\b/i, reason: 'there is no DISTINCT ON' },
  { refuses: /\bFILTER\s*\(\s*WHERE\b/i, reason: 'aggregates have no FILTER' },
  { refuses: /\b(string|array)_agg\b/i, reason: 'it is LISTAGG there' },
  { refuses: /^(SAVEPOINT|RELEASE|PREPARE TRANSACTION)\b/i, reason: 'there are no savepoints' },
  { refuses: /\bCREATE (TRIGGER|EXTENSION|SEQUENCE|RULE)\b/i, reason: 'there is no such object' },
  {
    refuses: /\bCREATE\b.*\b(UNLOGGED|INHERITS|PARTITION BY|TABLESPACE|CHECK|EXCLUDE)\b/is,
    reason: 'CREATE TABLE has no such clause',
  },
  { refuses: ({ bare }) => !hasKnownTypes(bare), reason: 'it has no such type of column' },
  {
    refuses: /^ALTER TABLE\b.*\bADD COLUMN\b.*\bADD COLUMN\b/is,
    reason: 'ADD COLUMN adds one column per statement',
  },
  { refuses: /^ALTER TABLE\b.*\bIF NOT EXISTS\b/is, reason: 'ADD COLUMN has no IF NOT EXISTS' },
  { refuses: /^DELETE FROM \S+ (AS )?(?!USING|WHERE|AS)\w/i, reason: 'DELETE has no alias for its table' },
  { refuses: /^LOCK\b.*\b(IN\b.*\bMODE|NOWAIT)\b/i, reason: 'LOCK has no modes' },
  {
    refuses: /^COPY\b.*\b(FROM STDIN|TO STDOUT|TO '')/is,
    reason: 'COPY reads from S3 and other stores of AWS only',
  },
  {
    refuses: ({ bare }, inTransaction) => inTransaction && /^TRUNCATE\b/i.test(bare),
    reason: 'TRUNCATE commits the transaction that it is in',
  },
  {
    refuses: ({ bare }, inTransaction) => !inTransaction && /^DECLARE\b/i.test(bare),
    reason: 'a cursor needs a transaction',
  },
  { refuses: /^DECLARE\b.*\b(WITH HOLD|SCROLL)\b/is, reason: 'cursors have neither WITH HOLD nor SCROLL' },
  {
    refuses: ({ bare }) => Number(/^FETCH FORWARD (\d+)/i.exec(bare)?.[1] ?? 0) > MAX_FETCHED_ROWS,
    reason: 'a single node returns at most 1,000 rows per FETCH',
  },
  {
    refuses: ({ bare }) => {
      const [, name] = /^SET (?:SESSION |LOCAL )?(\w+)/i.exec(bare) ?? [];
      return name !== undefined && !PARAMETERS.test(name);
    },
    reason: 'it has no such parameter',
  },
  {
    refuses: ({ bare }) => Number(/\bextra_float_digits (?:TO|=) (-?\d+)/i.exec(bare)?.[1] ?? 0) > 2,
    reason: 'extra_float_digits is at most 2',
  },
  {
    refuses: ({ bare }) =>
      [...bare.replace(/\b(INTO|TABLE|COPY) \S+/gi, '$1').matchAll(/(?<![."\w])(\w+)\s*\(/g)].some(
        ([, name]) => !FUNCTIONS.test(name ?? ''),
      ),
    reason: 'it has no such function',
  },
];

export function breaks({ refuses }: Rule, statement: Statement, inTransaction: boolean): boolean {
  return refuses instanceof RegExp ? refuses.test(statement.bare) : refuses(statement, inTransaction);
}

/** Why Redshift would refuse one of the statements; undefined if it would accept them. */
export function refusalOf(statements: readonly Statement[], isOpen: boolean): Refusal | undefined {
  let inTransaction = isOpen;
  for (const statement of statements) {
    const rule = RULES.find((candidate) => breaks(candidate, statement, inTransaction));
    if (rule !== undefined) {
      const shown = statement.text.slice(0, 200);
      return { code: NOT_SUPPORTED, message: `Redshift refuses: ${rule.reason}: ${shown}` };
    }
    if (/^BEGIN\b/i.test(statement.bare)) inTransaction = true;
    if (/^(COMMIT|ROLLBACK)\b/i.test(statement.bare)) inTransaction = false;
  }
  return undefined;
}

export function refusalOfParameter(bytes: number): Refusal | undefined {
  if (bytes <= MAX_TEXT_BYTES) return undefined;
  return { code: TOO_LONG, message: `Value too long for character type: ${bytes} bytes` };
}

function parametersOf(bare: string): number {
  return bare.match(/\$\d+/g)?.length ?? 0;
}

/** Clauses of a table, after its columns. */
const CLAUSES = /( (DISTKEY|SORTKEY)\s?\([^)]*\))+$/i;

function hasKnownTypes(bare: string): boolean {
  const [, columns] =
    /^CREATE(?: TEMP| TEMPORARY)? TABLE \S+ \((?!LIKE)(.*)\)$/is.exec(bare.replace(CLAUSES, '')) ?? [];
  const [, added] = /^ALTER TABLE \S+ ADD COLUMN (.*)$/is.exec(bare) ?? [];
  const all = added === undefined ? (columns?.split(/,(?![^(]*\))/) ?? []) : [added];
  return all.every((column) => TYPES.test(column.trim().replace(/^("[^"]+"|\w+)\s+/, '')));
}

/** Literals, quoted names, comments, dollar quotes, and the end of a statement. */
const TOKENS = /'[^']*'|"[^"]*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\w*)\$[\s\S]*?\$\1\$|;/g;

export function statementsOf(sql: string): Statement[] {
  const statements: Statement[] = [];
  let from = 0;
  let bare = '';
  let copied = 0;
  const end = (at: number) => {
    const text = sql.slice(from, at).trim();
    if (text !== '') statements.push({ text, bare: bare.replace(/\s+/g, ' ').trim() });
    from = at + 1;
    bare = '';
  };
  for (const { 0: token, index } of sql.matchAll(TOKENS)) {
    bare += sql.slice(copied, index);
    copied = index + token.length;
    if (token === ';') end(index);
    else if (token.startsWith("'")) bare += "''";
    else if (token.startsWith('"') || token.startsWith('$')) bare += token;
  }
  bare += sql.slice(copied);
  end(sql.length);
  return statements;
}
