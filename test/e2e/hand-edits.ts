/** Changes rows in each store by the store's own means, without the service knowing. */
import { DatabaseSync } from 'node:sqlite';
import {
  DeleteItemCommand,
  DynamoDBClient,
  PutItemCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import type { Stack } from '../../src/servers/stack.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { LIMIT_MS } from '../limits.ts';

/** A row that no producer sent. */
export const ADDED = { id: 'f'.repeat(32), name: 'added.by.hand' } as const;

/** The rows to edit. They are counters, which have the same fields everywhere. */
export interface Edits {
  /** Gets the sum `CHANGED_SUM`. */
  readonly changed: TruthRow;
  readonly deleted: TruthRow;
  /** Its window gets `ADDED`. */
  readonly beside: TruthRow;
}

export const CHANGED_SUM = 987_654;

export async function editByHand(stack: Stack, edits: Edits): Promise<void> {
  editSqlite(stack, edits);
  await editPostgres(stack, edits);
  await editInfluxDb(stack, edits);
  await editDynamoDb(stack, edits);
}

function editSqlite({ env }: Stack, { changed, deleted, beside }: Edits): void {
  const database = new DatabaseSync(env.SINK_SQLITE_PATH!, { timeout: LIMIT_MS });
  const key = 'WHERE window_start = ? AND series_id = ?';
  database
    .prepare(`UPDATE points SET sum = ? ${key}`)
    .run(CHANGED_SUM, changed.windowStart!, changed.series.id);
  database.prepare(`DELETE FROM points ${key}`).run(deleted.windowStart!, deleted.series.id);
  database
    .prepare(
      `INSERT INTO points (window_start, window_ms, series_id, instance, name, type, dimensions, count, sum)
       VALUES (?, 1000, ?, '', ?, 'counter', '{}', 1, 1)`,
    )
    .run(beside.windowStart!, ADDED.id, ADDED.name);
  database.close();
}

async function editPostgres({ postgres }: Stack, { changed, deleted, beside }: Edits): Promise<void> {
  const at = ({ windowStart }: TruthRow) =>
    `timestamp '${new Date(windowStart!).toISOString().slice(0, -1)}'`;
  const key = (row: TruthRow) => `WHERE window_start = ${at(row)} AND series_id = '${row.series.id}'`;
  await postgres.execute(`UPDATE fanout_points SET sum = ${CHANGED_SUM} ${key(changed)}`, 'fanout');
  await postgres.execute(`DELETE FROM fanout_points ${key(deleted)}`, 'fanout');
  await postgres.execute(
    `INSERT INTO fanout_points (window_start, window_ms, series_id, instance, name, type, dimensions, count, sum)
     VALUES (${at(beside)}, 1000, '${ADDED.id}', '', '${ADDED.name}', 'counter', '{}', 1, 1)`,
    'fanout',
  );
}

async function editInfluxDb({ influxdb }: Stack, { changed, deleted, beside }: Edits): Promise<void> {
  const escaped = (text: string) => text.replace(/[ ,=]/g, '\\$&');
  const tags = ({ series }: TruthRow) =>
    [['metric_type', 'counter'], ...series.dimensions] as [string, string][];
  const nanos = (row: TruthRow) => `${row.windowStart!}000000`;
  const line = `${escaped(changed.series.name)},${tags(changed)
    .map(([key, value]) => `${escaped(key)}=${escaped(value)}`)
    .join(',')} sum=${CHANGED_SUM} ${nanos(changed)}`;
  const added = `${ADDED.name},metric_type=counter count=1i,sum=1 ${nanos(beside)}`;
  const written = await fetch(`${influxdb.url}/write?db=fanout&precision=ns`, {
    method: 'POST',
    body: `${line}\n${added}`,
  });
  const where = tags(deleted).map(([key, value]) => `"${key}" = '${value}'`);
  const q = `DELETE FROM "${deleted.series.name}" WHERE time = ${nanos(deleted)} AND ${where.join(' AND ')}`;
  const answer = await fetch(`${influxdb.url}/query?db=fanout`, {
    method: 'POST',
    body: new URLSearchParams({ q }),
  });
  const text = await answer.text();
  if (!written.ok || text.includes('error')) throw new Error(`influxdb: ${written.status} ${text}`);
}

async function editDynamoDb({ dynamodb }: Stack, { changed, deleted, beside }: Edits): Promise<void> {
  const client = new DynamoDBClient({
    region: 'us-east-1',
    endpoint: dynamodb.url,
    credentials: { accessKeyId: 'emulator', secretAccessKey: 'emulator' },
  });
  const TableName = 'fanout_points';
  const sk = ({ windowStart }: TruthRow) => ({ S: `${new Date(windowStart!).toISOString()}#` });
  const keyOf = (row: TruthRow) => ({ pk: { S: `${row.series.name}#${row.series.id}` }, sk: sk(row) });
  await client.send(
    new UpdateItemCommand({
      TableName,
      Key: keyOf(changed),
      UpdateExpression: 'SET #sum = :sum',
      ExpressionAttributeNames: { '#sum': 'sum' },
      ExpressionAttributeValues: { ':sum': { N: String(CHANGED_SUM) } },
    }),
  );
  await client.send(new DeleteItemCommand({ TableName, Key: keyOf(deleted) }));
  const item = {
    pk: { S: `${ADDED.name}#${ADDED.id}` },
    sk: sk(beside),
    series_id: { S: ADDED.id },
    name: { S: ADDED.name },
    type: { S: 'counter' },
    dimensions: { M: {} },
    window_start: { N: String(beside.windowStart) },
    window_ms: { N: '1000' },
    instance: { S: '' },
    count: { N: '1' },
    sum: { N: '1' },
  };
  await client.send(new PutItemCommand({ TableName, Item: item }));
  client.destroy();
}
