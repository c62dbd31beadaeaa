/** Everything that stands in for Redshift and what it needs, and the environment in which the SDK finds it. */
import { vi } from 'vitest';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { RedshiftDouble } from './double.ts';
import { BUCKET, KEYS, type S3, startS3 } from './s3.ts';

export const ROLE = 'arn:aws:iam::123456789012:role/reads-metrics';

export interface Rig {
  readonly postgres: Postgres;
  readonly double: RedshiftDouble;
  readonly s3: S3;
  /** Of the double, or of a proxy in front of it. */
  url(port?: number): string;
  stop(): Promise<void>;
}

export async function startRig(): Promise<Rig> {
  const postgres = await startPostgres();
  // As on Redshift, where a transaction sees the data as of its first statement.
  await postgres.execute(`ALTER SYSTEM SET default_transaction_isolation TO 'repeatable read'`);
  await postgres.execute('SELECT pg_reload_conf()');
  const s3 = await startS3();
  const double = await RedshiftDouble.start({
    port: postgres.port,
    s3: { endpoint: s3.endpoint, ...KEYS },
    roles: [ROLE],
  });
  vi.stubEnv('AWS_ENDPOINT_URL_S3', s3.front);
  vi.stubEnv('AWS_ACCESS_KEY_ID', KEYS.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', KEYS.secretAccessKey);
  vi.stubEnv('AWS_REGION', 'us-east-1');
  return {
    postgres,
    double,
    s3,
    url: (port = double.port) => `postgres://postgres:${postgres.password}@127.0.0.1:${port}/postgres`,
    async stop() {
      vi.unstubAllEnvs();
      await double.stop();
      await s3.stop();
      await postgres.stop();
    },
  };
}

/** Settings with which batches go through S3. */
export const S3_SETTINGS = { s3: { bucket: BUCKET, prefix: 'to/redshift' }, iamRole: ROLE, s3MinPoints: 1 };
