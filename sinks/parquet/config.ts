import { fileURLToPath } from 'node:url';
import { setting, type Values } from '../../src/sink/index.ts';

/** Where the files go. The prefix is empty, or ends with a slash. */
export type Place =
  | { readonly kind: 'folder'; readonly path: string }
  | { readonly kind: 'bucket'; readonly bucket: string; readonly prefix: string };

/** An address in which nothing needs escapes. */
const S3_ADDRESS = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9_.=/-]*))?$/;
const MAX_PREFIX_CHARACTERS = 512;

function parsePlace(text: string): Place | undefined {
  if (text.startsWith('file:///')) return folderOf(text);
  const [, bucket, path = ''] = S3_ADDRESS.exec(text) ?? [];
  const prefix = path.replace(/^\/+|\/+$/g, '');
  if (bucket === undefined || prefix.length > MAX_PREFIX_CHARACTERS) return undefined;
  return { kind: 'bucket', bucket, prefix: prefix === '' ? '' : `${prefix}/` };
}

function folderOf(text: string): Place | undefined {
  try {
    const path = fileURLToPath(text);
    return path.includes('\0') ? undefined : { kind: 'folder', path };
  } catch {
    return undefined;
  }
}

export const settings = {
  url: setting.custom(parsePlace, 'an address such as file:///var/lib/metrics or s3://bucket/prefix', {
    meaning: 'the folder (created if it is missing), or the bucket and the prefix, that gets the files',
    required: true,
  }),
  partitionBy: setting.choice(['date', 'name,date'], {
    meaning:
      'date: one file for each window; name,date: one for each window and name, which only pays for tens of names: each ' +
      'costs a file, and on S3 two requests, for every window',
    default: 'date',
  }),
  create: setting.boolean({
    meaning:
      'false: takes only a place that has the file _metrics-fanout.json, so that nothing is written where a file system ' +
      'should be mounted and is not',
    default: 'true',
  }),
  region: setting.text({
    meaning: 'region of the bucket; default: AWS_REGION, or wherever else the AWS SDK finds one',
  }),
  endpoint: setting.httpUrl({
    meaning:
      "endpoint of another store that speaks S3, instead of Amazon's; the bucket is then part of the path",
  }),
};

export type ParquetConfig = Values<typeof settings>;
export type PartitionBy = ParquetConfig['partitionBy'];

interface Problem {
  readonly key: keyof typeof settings;
  readonly expected: string;
}

export function validate({ url, region, endpoint }: ParquetConfig): readonly Problem[] {
  if (url.kind === 'bucket') return [];
  const idle = Object.entries({ region, endpoint }) as [keyof typeof settings, string | undefined][];
  return idle
    .filter(([, value]) => value !== undefined)
    .map(([key]) => ({ key, expected: 'nothing, because URL names a folder' }));
}
