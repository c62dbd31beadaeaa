/** The suite on a bucket. */
import { vi } from 'vitest';
import { describeConformance } from '../conformance.ts';
import { BUCKET, KEYS, type S3, startS3 } from '../redshift/s3.ts';

let s3: S3;
const portOf = (url: string) => Number(new URL(url).port);

describeConformance('parquet', {
  async start() {
    s3 = await startS3();
    vi.stubEnv('AWS_ACCESS_KEY_ID', KEYS.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', KEYS.secretAccessKey);
    vi.stubEnv('AWS_REGION', 'us-east-1');
    return portOf(s3.front);
  },
  async stop() {
    vi.unstubAllEnvs();
    await s3.stop();
  },
  variables: (namespace, port) => ({
    URL: `s3://${BUCKET}/lake/${namespace}`,
    ENDPOINT: `http://127.0.0.1:${port}`,
  }),
  missing: (variables) => ({ ...variables, URL: 's3://no-such-bucket/x' }),
  unusable: (namespace) => s3.put(`lake/${namespace}/_metrics-fanout.json`, '{"partition_by":"moon"}\n'),
  secrets: [KEYS.secretAccessKey],
  differs: { compact: true },
});
