import {
  CA_FILE_MEANS,
  PG_TABLE,
  parsePgTable,
  pgTlsProblems,
  SKETCH_MEANS,
  SSL_MODES_MEAN,
  setting,
  type Values,
} from '../../src/sink/index.ts';

/** The temporary table of a transaction. */
export const STAGE = 'fanout_batch';

/** The most points of a batch that goes through S3. Each batch costs Redshift a COPY and a commit, however large. */
export const MAX_COPIED_POINTS = 100_000;

/** Where batches are put for COPY. The prefix has no slash at either end. */
export interface S3Address {
  readonly bucket: string;
  readonly prefix: string;
}

/** An address in which nothing needs quotes in a statement or escapes in a URL. */
const S3_ADDRESS = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9_.=/-]*))?$/;
const MAX_PREFIX_CHARACTERS = 512;
const ROLE = 'arn:aws[a-z-]*:iam::\\d{12}:role\\/[\\w+=,.@\\/-]+?';
const IAM_ROLE = new RegExp(`^(default|${ROLE}(,${ROLE})*)$`);

function parseS3(text: string): S3Address | undefined {
  const [, bucket, path = ''] = S3_ADDRESS.exec(text) ?? [];
  const prefix = path.replace(/^\/+|\/+$/g, '');
  return bucket === undefined || prefix.length > MAX_PREFIX_CHARACTERS ? undefined : { bucket, prefix };
}

export const settings = {
  url: setting.url(['postgres:', 'postgresql:'], {
    meaning: `postgres://user:password@host:5439/database; ${SSL_MODES_MEAN}`,
    required: true,
  }),
  table: setting.custom(parsePgTable, PG_TABLE, {
    meaning: 'the table, with its schema if that is not on the search path; created if it is missing',
    default: 'fanout_points',
  }),
  caFile: setting.text({ meaning: CA_FILE_MEANS }),
  sketch: setting.boolean({ meaning: SKETCH_MEANS, default: 'false' }),
  s3: setting.custom(parseS3, 'an address such as s3://bucket/prefix', {
    meaning:
      'where large batches are put as files for COPY, which are then removed; without it, all batches are sent by INSERT',
  }),
  iamRole: setting.custom(
    (text) => (IAM_ROLE.test(text) ? text : undefined),
    'default, or the ARN of a role such as arn:aws:iam::123456789012:role/name, or a comma-separated chain of ARNs',
    { meaning: 'the role that Redshift uses to read S3; required with S3' },
  ),
  s3MinPoints: setting.integer(1, MAX_COPIED_POINTS, {
    meaning: 'smaller batches are sent by INSERT even if S3 is set, because COPY would take longer',
    default: '1000',
  }),
  cluster: setting.text({
    meaning:
      'identifier of a provisioned cluster: signs in with temporary credentials from IAM, as the user in the URL or, ' +
      'without one, as the IAM identity of the service',
  }),
  workgroup: setting.text({
    meaning: 'name of a Redshift Serverless workgroup: signs in with temporary credentials from IAM',
  }),
  region: setting.text({
    meaning:
      'region of the bucket, the cluster and the workgroup; default: AWS_REGION, or wherever else the AWS SDK finds one',
  }),
};

export type RedshiftConfig = Values<typeof settings>;

/** Returns where the password comes from: the URL, or IAM for a cluster or a workgroup. */
export function signsInBy({ cluster, workgroup }: RedshiftConfig): 'password' | 'cluster' | 'workgroup' {
  if (cluster !== undefined) return 'cluster';
  return workgroup === undefined ? 'password' : 'workgroup';
}

interface Problem {
  readonly key: keyof typeof settings;
  readonly expected: string;
}

export function validate(config: RedshiftConfig): readonly Problem[] {
  return [
    ...problemsOfTable(config),
    ...pgTlsProblems(config),
    ...problemsOfS3(config),
    ...problemsOfSignIn(config),
  ];
}

/** The temporary table would hide it. */
function problemsOfTable({ table }: RedshiftConfig): Problem[] {
  const isHidden = table.split('.').at(-1) === STAGE;
  return isHidden
    ? [{ key: 'table', expected: `another name than ${STAGE}, which the sink itself uses` }]
    : [];
}

function problemsOfS3({ s3, iamRole }: RedshiftConfig): Problem[] {
  if (s3 !== undefined && iamRole === undefined) {
    return [{ key: 'iamRole', expected: 'the role that Redshift uses to read S3, because S3 is set' }];
  }
  if (s3 === undefined && iamRole !== undefined) {
    return [{ key: 's3', expected: 'an address such as s3://bucket/prefix, because IAM_ROLE is set' }];
  }
  return [];
}

function problemsOfSignIn(config: RedshiftConfig): Problem[] {
  const by = signsInBy(config);
  if (by === 'password') return [];
  const { username, password, pathname } = new URL(config.url);
  const problems: Problem[] = [];
  if (config.cluster !== undefined && config.workgroup !== undefined) {
    problems.push({ key: 'workgroup', expected: 'only one of CLUSTER and WORKGROUP' });
  }
  if (password !== '' || (username !== '' && by === 'workgroup')) {
    const what = by === 'workgroup' ? 'user or password' : 'password';
    problems.push({ key: 'url', expected: `a URL without a ${what}, because IAM provides it` });
  }
  if (pathname.length <= 1) problems.push({ key: 'url', expected: 'a URL that names the database' });
  return problems;
}
