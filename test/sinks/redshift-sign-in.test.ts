/** Temporary credentials: requested, used, requested again, and the errors if there are none. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { SignIn } from '../../sinks/redshift/sign-in.ts';
import redshift from '../../sinks/redshift/sink.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { type Sink, SinkError } from '../../src/sink/contract.ts';
import { settlesPromptly } from '../conformance/lifecycle.ts';
import { manyPoints } from '../conformance/points.ts';
import { sinkError } from '../conformance/subject.ts';
import { RedshiftDouble } from '../redshift/double.ts';
import { type Given, type Iam, startIam } from '../redshift/iam.ts';
import { DEFAULTS } from '../redshift/settings.ts';

const NEVER = new AbortController().signal;
const QUARTER_MS = 900_000;
const SECRET = 'ABCIEXAMPLEsecret';
const points = manyPoints(5);
const open: Sink[] = [];
let postgres: Postgres;
let double: RedshiftDouble;
let iam: Iam;
let given = 0;

beforeAll(async () => {
  postgres = await startPostgres();
  await postgres.execute('GRANT ALL ON SCHEMA public TO PUBLIC');
  for (const user of ['IAM:alice', 'IAMR:fanout']) await postgres.execute(`CREATE ROLE "${user}" LOGIN`);
  double = await RedshiftDouble.start({ port: postgres.port });
  iam = await startIam();
  vi.stubEnv('AWS_ENDPOINT_URL_REDSHIFT', iam.endpoint);
  vi.stubEnv('AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS', iam.endpoint);
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((sink) => sink.close()));
  iam.asked.length = 0;
  iam.give = async () => undefined;
});

afterAll(async () => {
  vi.unstubAllEnvs();
  iam.stop();
  await double.stop();
  await postgres.stop();
});

/** A new password each time. The server then accepts that one and no other. */
async function password(user: string, validMs: number): Promise<Given> {
  given += 1;
  await postgres.execute(`ALTER ROLE "${user}" PASSWORD '${SECRET}${given}'`);
  return { user, password: `${SECRET}${given}`, validMs };
}

function made(changed: object, user = ''): Sink {
  const url = `postgres://${user}127.0.0.1:${double.port}/postgres`;
  const table = user === '' ? 'of_the_role' : 'of_alice';
  const config = { ...DEFAULTS, url, table, region: 'eu-west-1', ...changed };
  expect(redshift.validate?.(config)).toEqual([]);
  const sink = redshift.create(config, { id: 't', log: { info() {}, warn() {} } });
  open.push(sink);
  return sink;
}

describe('signing in by IAM', () => {
  beforeAll(() => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAFANOUTTEST');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'the-secret-key');
  });

  it.each([
    [
      { cluster: 'c1' },
      'alice@',
      'redshift/eu-west-1',
      'GetClusterCredentials',
      { ClusterIdentifier: 'c1', DbName: 'postgres', DbUser: 'alice', DurationSeconds: '900' },
    ],
    [
      { cluster: 'c1' },
      '',
      'redshift/eu-west-1',
      'GetClusterCredentialsWithIAM',
      { ClusterIdentifier: 'c1', DbName: 'postgres', DurationSeconds: '900' },
    ],
    [
      { workgroup: 'w1' },
      '',
      'redshift-serverless/eu-west-1',
      'GetCredentials',
      { workgroupName: 'w1', dbName: 'postgres', durationSeconds: 900 },
    ],
  ])('%o as "%s" calls %s: %s', async (changed, user, scope, action, parameters) => {
    iam.give = () => password(user === '' ? 'IAMR:fanout' : 'IAM:alice', QUARTER_MS);
    const sink = made(changed, user);
    await sink.open(NEVER);
    const writing = [0, 1, 2].map((n) => sink.write({ points: manyPoints(5, n) }, NEVER));
    expect(await Promise.all(writing)).toEqual([0, 1, 2].map(() => ({ kind: 'written' })));
    // Three sessions, with the same credentials.
    expect(iam.asked).toEqual([{ action, parameters, scope }]);
  });

  it('asks again before they expire, but only for new sessions', async () => {
    iam.give = () => password('IAMR:fanout', 60_000);
    const sink = made({ workgroup: 'w1' });
    await sink.open(NEVER);
    expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
    expect(iam.asked).toHaveLength(1);
    await Promise.all([0, 1].map((n) => sink.write({ points: manyPoints(5, n) }, NEVER)));
    expect(iam.asked).toHaveLength(2);
  });

  it('asks again if the server no longer accepts them', async () => {
    iam.give = () => password('IAMR:fanout', QUARTER_MS);
    const sink = made({ cluster: 'c1' });
    await sink.open(NEVER);
    await postgres.execute(`ALTER ROLE "IAMR:fanout" PASSWORD 'other'`);
    await postgres.execute(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'IAMR:fanout'`,
    );
    const outcomes = [];
    for (let attempt = 0; attempt < 3; attempt += 1) outcomes.push(await sink.write({ points }, NEVER));
    expect(outcomes.at(-1)).toEqual({ kind: 'written' });
    expect(iam.asked).toHaveLength(2);
    expect(JSON.stringify(outcomes)).not.toContain(SECRET);
  });

  it.each([
    ['ClusterNotFound', 'not_found', { cluster: 'c1' }],
    ['ResourceNotFoundException', 'not_found', { workgroup: 'w1' }],
    ['AccessDenied', 'unauthorized', { cluster: 'c1' }],
    ['AccessDeniedException', 'unauthorized', { workgroup: 'w1' }],
    ['Throttling', 'throttled', { cluster: 'c1' }],
    ['ThrottlingException', 'throttled', { workgroup: 'w1' }],
  ])('reports %s as %s', async (name, reason, changed) => {
    iam.give = async () => name;
    const error = await sinkError(made(changed).open(NEVER));
    expect(error).toMatchObject({ reason, message: expect.stringMatching(/: because$/) });
    expect(error.advice !== '').toBe(reason !== 'throttled');
  });

  it('does not wait for an API that hangs once the signal is aborted', async () => {
    const opening = made({ cluster: 'c1' }).open(AbortSignal.timeout(100));
    await settlesPromptly(opening);
    await expect(opening).rejects.toThrow();
  });

  it('fails if the service has no AWS credentials, or no region', async () => {
    vi.stubEnv('AWS_REGION', undefined);
    vi.stubEnv('AWS_DEFAULT_REGION', undefined);
    vi.stubEnv('AWS_CONFIG_FILE', '/nowhere');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere');
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    const withoutRegion = await sinkError(made({ cluster: 'c1', region: undefined }).open(NEVER));
    expect(withoutRegion).toMatchObject({ reason: 'bad_request', advice: expect.stringMatching(/REGION/) });
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    expect(await sinkError(made({ cluster: 'c1' }).open(NEVER))).toMatchObject({ reason: 'unauthorized' });
  });
});

describe('credentials', () => {
  it('are requested once, and kept until two minutes before they expire; a failure is not kept', async () => {
    let now = 0;
    let asked = 0;
    let fails = false;
    const signIn = new SignIn(
      async () => {
        asked += 1;
        if (fails) throw new Error('no');
        return { user: 'u', password: String(asked), expiresAt: now + QUARTER_MS };
      },
      () => now,
    );
    const passwords = async () =>
      (await Promise.all([1, 2].map(() => signIn.credentials(NEVER)))).map(({ password }) => password);
    expect(await passwords()).toEqual(['1', '1']);
    now = QUARTER_MS - 120_001;
    expect(await passwords()).toEqual(['1', '1']);
    now = QUARTER_MS - 120_000;
    fails = true;
    await expect(signIn.credentials(NEVER)).rejects.toBeInstanceOf(SinkError);
    fails = false;
    expect(await passwords()).toEqual(['3', '3']);
    signIn.forget();
    expect(await passwords()).toEqual(['4', '4']);
  });
});
