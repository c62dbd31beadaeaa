/** How many bytes a bucket takes, from what InfluxDB 2 tells at /metrics. Buckets have no names there, only ids. */
import type { Config } from './config.ts';
import { readLines } from './influxql.ts';

const SHARD = /^storage_shard_disk_size\{(?:[^}]*,)?bucket="([^"]*)"[^}]*\} (\S+)/;
/** A longer description of a bucket is not one. */
const MAX_DESCRIPTION_BYTES = 1_048_576;

type Get = (target: string) => AsyncIterable<Uint8Array>;

/**
 * Resolves to undefined on 1.8, which has the API but no such metrics, and until the server has looked: it does so
 * every ten seconds, and says 0 of a new shard.
 */
export async function bucketBytes(get: Get, config: Config): Promise<number | undefined> {
  const id = await bucketId(get, config).catch(() => undefined);
  if (id === undefined) return undefined;
  let bytes: number | undefined;
  for await (const line of readLines(get('/metrics'))) {
    const [, bucket, size] = SHARD.exec(line) ?? [];
    if (bucket === id) bytes = (bytes ?? 0) + Number(size);
  }
  return bytes === 0 ? undefined : bytes;
}

async function bucketId(get: Get, { org = '', bucket = '' }: Config): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of get(`/api/v2/buckets?${new URLSearchParams({ org, name: bucket })}`)) {
    bytes += chunk.length;
    if (bytes > MAX_DESCRIPTION_BYTES) return undefined;
    chunks.push(chunk);
  }
  const { buckets = [] } = JSON.parse(Buffer.concat(chunks).toString()) as {
    buckets?: readonly { id: string; name: string }[];
  };
  return buckets.find(({ name }) => name === bucket)?.id;
}
