/** Creates the table, waits for it, checks it, and turns on its time to live. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DynamoDBClient, TableDescription } from '@aws-sdk/client-dynamodb';
import {
  awsErrorName,
  makeMissing,
  type SinkContext,
  SinkError,
  type SinkLog,
} from '../../src/sink/index.ts';
import { ADVICE } from './classify.ts';
import type { Config } from './config.ts';
import { sdk } from './sdk.ts';

const ACTIVE_POLL_MS = 250;
const ACTIVE_TIMEOUT_MS = 120_000;

export async function ensureTable(
  client: DynamoDBClient,
  config: Config,
  context: SinkContext,
  signal: AbortSignal,
): Promise<TableDescription> {
  const table = await usableTable(client, config, context, signal);
  checkKeys(table, config.table);
  const { log, readOnly } = context;
  if (config.ttl !== undefined && !readOnly) await enableTimeToLive(client, config.table, log, signal);
  return table;
}

/**
 * Returns how many write units a second the table takes, as it says: what it is provisioned with, or what it is warm
 * for if it is billed on demand. Undefined if it does not say.
 */
export function writeUnits({ ProvisionedThroughput, WarmThroughput }: TableDescription): number | undefined {
  return ProvisionedThroughput?.WriteCapacityUnits || WarmThroughput?.WriteUnitsPerSecond || undefined;
}

/** Returns what tells the table from one of the same name that was created before or after it. */
export function identityOf({ TableId, CreationDateTime }: TableDescription): string | undefined {
  return TableId ?? CreationDateTime?.toISOString();
}

/** Waits while the table is being created, or is being deleted before it can be created again. */
async function usableTable(
  client: DynamoDBClient,
  { table, create, warmWrites }: Config,
  context: SinkContext,
  signal: AbortSignal,
): Promise<TableDescription> {
  const deadline = Date.now() + ACTIVE_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const found = await describe(client, table, signal);
    if (found?.TableStatus === 'ACTIVE' || found?.TableStatus === 'UPDATING') return found;
    if (found === undefined) {
      if (!create) throw new SinkError('not_found', `there is no table ${table}`, ADVICE.not_found);
      await makeMissing(context, `table ${table}`, () => createTable(client, table, warmWrites, signal));
    }
    await sleep(ACTIVE_POLL_MS, undefined, { signal });
  }
  throw new SinkError('timeout', `table ${table} was not active within ${ACTIVE_TIMEOUT_MS} ms`);
}

export async function describe(
  client: DynamoDBClient,
  table: string,
  signal: AbortSignal,
): Promise<TableDescription | undefined> {
  try {
    const answer = await client.send(new (sdk().DescribeTableCommand)({ TableName: table }), {
      abortSignal: signal,
    });
    return answer.Table;
  } catch (error) {
    if (awsErrorName(error) === 'ResourceNotFoundException') return undefined;
    throw error;
  }
}

async function createTable(
  client: DynamoDBClient,
  table: string,
  warmWrites: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const command = new (sdk().CreateTableCommand)({
    TableName: table,
    BillingMode: 'PAY_PER_REQUEST',
    AttributeDefinitions: [
      { AttributeName: 'pk', AttributeType: 'S' },
      { AttributeName: 'sk', AttributeType: 'S' },
    ],
    KeySchema: [
      { AttributeName: 'pk', KeyType: 'HASH' },
      { AttributeName: 'sk', KeyType: 'RANGE' },
    ],
    ...(warmWrites !== undefined && { WarmThroughput: { WriteUnitsPerSecond: warmWrites } }),
  });
  try {
    await client.send(command, { abortSignal: signal });
  } catch (error) {
    // Another process was faster.
    if (awsErrorName(error) !== 'ResourceInUseException') throw error;
  }
}

function checkKeys({ KeySchema = [], AttributeDefinitions = [] }: TableDescription, table: string): void {
  const keys = KeySchema.map(({ AttributeName, KeyType }) => {
    const type = AttributeDefinitions.find(
      (defined) => defined.AttributeName === AttributeName,
    )?.AttributeType;
    return `${AttributeName} ${KeyType} ${type}`;
  });
  if (keys.sort().join() === 'pk HASH S,sk RANGE S') return;
  throw new SinkError(
    'schema_mismatch',
    `table ${table} has the keys ${keys.join(', ')}`,
    ADVICE.schema_mismatch,
  );
}

/** Only warns on failure: the table works without it, and often we do not have the right to change it. */
async function enableTimeToLive(
  client: DynamoDBClient,
  table: string,
  log: SinkLog,
  signal: AbortSignal,
): Promise<void> {
  const TimeToLiveSpecification = { Enabled: true, AttributeName: 'expires_at' };
  const options = { abortSignal: signal };
  try {
    const found = await client.send(new (sdk().DescribeTimeToLiveCommand)({ TableName: table }), options);
    if (found.TimeToLiveDescription?.TimeToLiveStatus?.startsWith('ENABL')) return;
    await client.send(
      new (sdk().UpdateTimeToLiveCommand)({ TableName: table, TimeToLiveSpecification }),
      options,
    );
  } catch (error) {
    if (!NO_TIME_TO_LIVE.has(awsErrorName(error))) throw error;
    log.warn({ table, error: awsErrorName(error) }, 'could not turn on time to live on expires_at');
  }
}

/** Errors without the right, on an emulator without time to live, and while another sink is turning it on. */
const NO_TIME_TO_LIVE: ReadonlySet<string> = new Set([
  'AccessDeniedException',
  'UnknownOperationException',
  'ValidationException',
]);
