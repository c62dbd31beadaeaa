/** What COPY does with objects, as Redshift's documentation says: manifest, gzip, delimited text with escapes. */
import { gunzipSync } from 'node:zlib';
import { GetObjectCommand, type S3Client } from '@aws-sdk/client-s3';

export interface Copy {
  readonly table: string;
  readonly columns: readonly string[];
  readonly bucket: string;
  readonly key: string;
  readonly role: string;
  readonly nullAs: string;
}

/** An error as Redshift words it. All errors of COPY have the same code. */
export class CopyError extends Error {}

const OPTIONS = [
  'MANIFEST',
  'GZIP',
  'DELIMITER',
  'ESCAPE',
  'NULL AS',
  'TIMEFORMAT',
  'COMPUPDATE OFF',
  'STATUPDATE OFF',
];
const ROLE = String.raw`arn:aws:iam::\d{12}:role\/[\w+=,.@\/-]+`;
const COPY = new RegExp(
  String.raw`^COPY (\w+) \(([^)]*)\) FROM 's3:\/\/([a-z0-9.-]+)\/([^']+)' IAM_ROLE (default|'${ROLE}(?:,${ROLE})*')\s+(.*)$`,
  's',
);

/** What the statement says. Throws if Redshift would refuse it, or if the double does not support it. */
export function parseCopy(text: string): Copy {
  const [, table, columns, bucket, key, role, rest] = COPY.exec(text) ?? [];
  const options = [...(rest ?? '').matchAll(/([A-Z]+(?: AS| OFF| ON)?)(?:\s+'([^']*)')?/g)].map(
    ([, name, value]) => [name, value] as const,
  );
  const values = new Map(options);
  const isKnown = options.every(([name]) => OPTIONS.includes(name ?? '')) && values.size === OPTIONS.length;
  if (
    table === undefined ||
    !isKnown ||
    values.get('DELIMITER') !== '|' ||
    values.get('TIMEFORMAT') !== 'auto'
  ) {
    throw new CopyError(`syntax error in COPY: ${text.slice(0, 300)}`);
  }
  return {
    table,
    columns: (columns ?? '').split(',').map((name) => name.trim().replaceAll('"', '')),
    bucket: bucket ?? '',
    key: key ?? '',
    role: (role ?? '').replaceAll("'", ''),
    nullAs: values.get('NULL AS') ?? '',
  };
}

/** The rows in the objects, as PostgreSQL's COPY reads them. `types`: those of the columns, in their order. */
export async function loadedText(copy: Copy, types: readonly string[], s3: S3Client): Promise<string[]> {
  const rows: string[] = [];
  for (const { bucket, key } of entriesOf(await fetched(s3, copy.bucket, copy.key))) {
    const bytes = await fetched(s3, bucket, key);
    for (const fields of rowsOf(decoded(copy, unpacked(bytes)))) {
      if (fields.length !== types.length) throw loadFailure(copy, 'Delimiter not found');
      const cells = fields.map((field, index) => cellOf(field, types[index]!, copy));
      rows.push(`${cells.map((cell) => (cell === null ? '\\N' : escaped(cell))).join('\t')}\n`);
    }
  }
  return rows;
}

async function fetched(s3: S3Client, Bucket: string, Key: string): Promise<Uint8Array> {
  try {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }));
    return (await Body?.transformToByteArray()) ?? new Uint8Array();
  } catch (error) {
    const { name, message, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } };
    throw new CopyError(
      `S3ServiceException:${message},Status ${$metadata?.httpStatusCode},Error ${name},Rid 1,ExtRid 1,CanRetry 1`,
    );
  }
}

function entriesOf(bytes: Uint8Array): { bucket: string; key: string }[] {
  try {
    const { entries } = JSON.parse(new TextDecoder().decode(bytes)) as {
      entries: { url: string; mandatory: boolean }[];
    };
    return entries.map(({ url, mandatory }) => {
      const [, bucket, key] = /^s3:\/\/([a-z0-9.-]+)\/(.+)$/.exec(url) ?? [];
      if (bucket === undefined || key === undefined || mandatory !== true) throw new Error('entry');
      return { bucket, key };
    });
  } catch {
    throw new CopyError('Manifest file is not in correct json format');
  }
}

function unpacked(bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes);
  } catch {
    throw new CopyError('error from gzip: incorrect header check');
  }
}

function decoded(copy: Copy, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw loadFailure(copy, 'not valid UTF-8');
  }
}

/** Fields with their escapes: what follows a backslash is data, whatever it is. A carriage return ends a row too. */
function* rowsOf(text: string): Generator<string[]> {
  let fields: string[] = [];
  let field = '';
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!;
    if (character === '\\') {
      field += character + (text[at + 1] ?? '');
      at += 1;
    } else if (character === '|' || character === '\n' || character === '\r') {
      fields.push(field);
      field = '';
      if (character === '|') continue;
      yield fields;
      fields = [];
    } else {
      field += character;
    }
  }
  if (field !== '' || fields.length > 0) yield [...fields, field];
}

const PATTERNS: readonly (readonly [type: RegExp, value: RegExp])[] = [
  [/^(integer|bigint)$/, /^-?\d+$/],
  [/^double precision$/, /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/],
  [/^timestamp/, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?$/],
];

function cellOf(field: string, type: string, copy: Copy): string | null {
  if (field === copy.nullAs) return null;
  const value = field.replace(/\\([\s\S])/g, '$1');
  const [, length] = /^(?:character varying|character)\((\d+)\)$/.exec(type) ?? [];
  if (length !== undefined) {
    if (Buffer.byteLength(value) > Number(length))
      throw loadFailure(copy, 'String length exceeds DDL length');
    if (value.includes('\0')) throw loadFailure(copy, 'Missing newline: NUL');
    return value;
  }
  if (value === '') return null;
  const pattern = PATTERNS.find(([known]) => known.test(type))?.[1];
  if (pattern?.test(value) !== true) throw loadFailure(copy, `Invalid value for ${type}`);
  return value;
}

export function loadFailure({ table }: Copy, why: string): CopyError {
  const cause = { cause: new Error(why) };
  return new CopyError(
    `Load into table '${table}' failed.  Check 'stl_load_errors' system table for details.`,
    cause,
  );
}

function escaped(cell: string): string {
  return cell.replace(
    /[\\\t\n\r]/g,
    (character) => `\\${{ '\t': 't', '\n': 'n', '\r': 'r' }[character] ?? character}`,
  );
}
