/** The database (1.x) or bucket (2) of a trial: made, marked, and deleted again. InfluxDB 3 cannot keep the mark. */
import {
  alreadyThere,
  mustBeOfTrial,
  notClaimed,
  SinkError,
  TRIAL_MARK,
  type TrialTables,
} from '../../src/sink/index.ts';
import type { settings as allSettings, Config } from './config.ts';
import type { Connection } from './connection.ts';
import { identifier, type Rows, readLines, SELECT_TRIAL, TRIAL_LINE } from './influxql.ts';

/** What it needs of the sink. */
export interface TrialAccess {
  readonly config: Config;
  readonly connection: Connection;
  query(statement: string, signal: AbortSignal): AsyncIterable<Rows>;
}

interface Bucket {
  readonly id: string;
  readonly name: string;
  readonly description?: string;
}

/** A longer description of buckets is not one. */
const MAX_ANSWER_BYTES = 1_048_576;
/** No server lists more at once. */
const BUCKETS_A_PAGE = 100;

export const trialTables: TrialTables<typeof allSettings> = {
  settings: (config, name) => {
    if (config.api !== 'v2') return { ...config, database: name };
    return { ...config, bucket: isOneEight(config) ? `${name}/autogen` : name };
  },
  byHand: (config) => {
    if (hasBuckets(config)) return `run influx bucket delete --name ${config.bucket}`;
    const name = nameOf(config);
    return config.api === 'v3' ? `run influxdb3 delete database ${name}` : `run DROP DATABASE "${name}"`;
  },
};

/** 1.8 takes writes by the API of 2, into `database/retention-policy`, but has no buckets. */
function isOneEight({ bucket = '' }: Config): boolean {
  return bucket.includes('/');
}

function hasBuckets(config: Config): boolean {
  return config.api === 'v2' && !isOneEight(config);
}

export async function claim(access: TrialAccess, signal: AbortSignal): Promise<void> {
  const { connection, config } = access;
  const name = nameOf(config);
  mustBeOfTrial(name);
  if (hasBuckets(config)) {
    if ((await bucketOf(access, signal)) !== undefined) throw alreadyThere(name);
    const orgID = await organizationOf(access, signal);
    const retentionRules: [] = [];
    await connection.send(
      'POST',
      '/api/v2/buckets',
      { orgID, name, description: TRIAL_MARK, retentionRules },
      signal,
    );
    return;
  }
  if (await hasDatabase(access, signal)) throw alreadyThere(name);
  for await (const _ of access.query(`CREATE DATABASE ${identifier(name)}`, signal));
  await connection.write(TRIAL_LINE, signal);
}

export async function drop(access: TrialAccess, signal: AbortSignal): Promise<void> {
  const name = nameOf(access.config);
  mustBeOfTrial(name);
  if (hasBuckets(access.config)) {
    const bucket = await bucketOf(access, signal);
    if (bucket === undefined) return;
    if (bucket.description !== TRIAL_MARK) throw notClaimed(name);
    await access.connection.send(
      'DELETE',
      `/api/v2/buckets/${encodeURIComponent(bucket.id)}`,
      undefined,
      signal,
    );
    return;
  }
  if (!(await hasDatabase(access, signal))) return;
  const marks = await Array.fromAsync(access.query(SELECT_TRIAL, signal));
  if (marks.length === 0) throw notClaimed(name);
  for await (const _ of access.query(`DROP DATABASE ${identifier(name)}`, signal));
}

export async function trials(access: TrialAccess, signal: AbortSignal): Promise<readonly string[]> {
  return hasBuckets(access.config) ? await markedBuckets(access, signal) : await databases(access, signal);
}

/** Resolves to the names of buckets that a trial made. */
async function markedBuckets(access: TrialAccess, signal: AbortSignal): Promise<string[]> {
  const { org = '' } = access.config;
  const found: string[] = [];
  for (let offset = 0; ; offset += BUCKETS_A_PAGE) {
    const page = new URLSearchParams({ org, limit: `${BUCKETS_A_PAGE}`, offset: `${offset}` });
    const answer = await answerOf<{ buckets?: readonly Bucket[] }>(access, `/api/v2/buckets?${page}`, signal);
    const buckets = answer.buckets ?? [];
    found.push(...buckets.filter(({ description }) => description === TRIAL_MARK).map(({ name }) => name));
    if (buckets.length < BUCKETS_A_PAGE) return found;
  }
}

async function databases({ query }: TrialAccess, signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  for await (const { values = [] } of query('SHOW DATABASES', signal))
    found.push(...values.map(([name]) => String(name)));
  return found;
}

function nameOf({ api, bucket = '', database = '' }: Config): string {
  return api === 'v2' ? bucket.split('/')[0]! : database;
}

async function hasDatabase(access: TrialAccess, signal: AbortSignal): Promise<boolean> {
  return (await databases(access, signal)).includes(nameOf(access.config));
}

async function bucketOf(access: TrialAccess, signal: AbortSignal): Promise<Bucket | undefined> {
  const { org = '', bucket = '' } = access.config;
  const target = `/api/v2/buckets?${new URLSearchParams({ org, name: bucket })}`;
  try {
    const { buckets = [] } = await answerOf<{ buckets?: readonly Bucket[] }>(access, target, signal);
    return buckets.find(({ name }) => name === bucket);
  } catch (error) {
    // So some versions say that there is none.
    if (error instanceof Error && 'statusCode' in error && error.statusCode === 404) return undefined;
    throw error;
  }
}

async function organizationOf(access: TrialAccess, signal: AbortSignal): Promise<string> {
  const { org = '' } = access.config;
  const target = `/api/v2/orgs?${new URLSearchParams({ org })}`;
  const { orgs = [] } = await answerOf<{ orgs?: readonly { id: string }[] }>(access, target, signal);
  const [found] = orgs;
  if (found !== undefined) return found.id;
  throw new SinkError('not_found', `there is no organization ${org}`, 'Correct ORG.');
}

async function answerOf<T>({ connection }: TrialAccess, target: string, signal: AbortSignal): Promise<T> {
  let text = '';
  for await (const line of readLines(connection.get(target, signal))) {
    text += line;
    if (text.length > MAX_ANSWER_BYTES) throw new SinkError('unknown', 'the answer is too long');
  }
  return JSON.parse(text) as T;
}
