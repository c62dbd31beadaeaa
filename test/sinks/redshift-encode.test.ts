import { describe, expect, it } from 'vitest';
import { classify } from '../../sinks/redshift/classify.ts';
import { partText } from '../../sinks/redshift/copy.ts';
import { createTable, insertIntoStage, ROWS_PER_INSERT, refusal } from '../../sinks/redshift/encode.ts';
import redshift from '../../sinks/redshift/sink.ts';
import { makePoint } from '../conformance/points.ts';
import { DEFAULTS } from '../redshift/settings.ts';

describe('redshift', () => {
  it('distributes and sorts its table on Redshift only', () => {
    // Only Redshift accepts this clause. It is not tested on a real one.
    expect(createTable('metrics.points', true)).toBe(
      `CREATE TABLE "metrics"."points" ("window_start" timestamp NOT NULL, "window_ms" int NOT NULL, ` +
        `"series_id" char(32) NOT NULL, "instance" varchar(128) NOT NULL, "name" varchar(512) NOT NULL, ` +
        `"type" varchar(16) NOT NULL, "dimensions" varchar(65535) NOT NULL, "count" bigint NOT NULL, ` +
        `"sum" double precision NOT NULL, "min" double precision, "max" double precision, ` +
        `"last" double precision, "p50" double precision, "p90" double precision, "p95" double precision, ` +
        `"p99" double precision) DISTKEY("series_id") SORTKEY("window_start")`,
    );
    expect(createTable('points', false)).not.toContain('DISTKEY');
  });

  it('keeps its statements within 32,767 parameters', () => {
    expect(insertIntoStage(ROWS_PER_INSERT).match(/\$\d+/g)!.length).toBeLessThanOrEqual(32_767);
  });

  it.each([
    ['name', { name: 'ü'.repeat(257) }, 'too_large'],
    ['dimensions', { dimensions: [['k', '€'.repeat(30_000)]] }, 'too_large'],
    ['NUL in the name', { name: 'a\0b' }, 'invalid_value'],
    ['lone surrogate', { name: '\ud800' }, 'invalid_value'],
    ['instance', { instance: 'i'.repeat(129) }, 'too_large'],
    ['year', { windowStart: 253_402_300_800_000 }, 'invalid_value'],
    ['count', { values: { count: 2 ** 53 } }, 'invalid_value'],
  ] as const)('refuses a point for its %s', (_, parts, reason) => {
    expect(refusal(makePoint(parts))?.reason).toBe(reason);
  });

  it.each([
    ['28P01', 'unauthorized'],
    ['42501', 'unauthorized'],
    ['25006', 'unauthorized'],
    ['3D000', 'not_found'],
    ['42P01', 'not_found'],
    ['42703', 'schema_mismatch'],
    ['42601', 'bad_request'],
    ['57P01', 'connection'],
    ['57P03', 'connection'],
    ['08006', 'connection'],
    ['53300', 'throttled'],
    ['53100', 'server_error'],
    ['40001', 'conflict'],
    ['40P01', 'conflict'],
    ['55P03', 'conflict'],
    ['57014', 'timeout'],
    ['XX000', 'server_error'],
    ['25P03', 'timeout'],
    ['26000', 'connection'],
    ['42P05', 'connection'],
    ['EPIPE', 'connection'],
    ['EAI_AGAIN', 'connection'],
    ['ECONNREFUSED', 'connection'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'untrusted'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'untrusted'],
  ])('classifies %s as %s', (code, reason) => {
    expect(classify(Object.assign(new Error('x'), { code })).reason).toBe(reason);
  });

  // As PgBouncer 1.18, RDS Proxy, PgCat and Supavisor word them. The first ones were seen, the others are documented.
  it.each([
    ['08P01', 'query_wait_timeout', 'throttled'],
    ['08P01', 'no more connections allowed (max_client_conn)', 'throttled'],
    ['08P01', 'server login has been failing, try again later (server_login_retry)', 'connection'],
    ['08P01', 'pgbouncer cannot connect to server', 'connection'],
    ['08P01', 'the database system is starting up', 'connection'],
    ['08P01', 'server conn crashed?', 'connection'],
    ['08P01', 'client_login_timeout (server down)', 'connection'],
    ['57P01', 'terminating connection due to administrator command', 'connection'],
    ['08P01', 'SASL authentication failed', 'unauthorized'],
    ['08P01', 'password authentication failed for user "fanout"', 'unauthorized'],
    ['08P01', 'database "absent" does not exist', 'not_found'],
    ['08P01', 'no such database: absent', 'not_found'],
    ['08P01', 'transaction blocks not allowed in statement pooling mode', 'bad_request'],
    ['58000', 'could not get connection from the pool - AllServersDown', 'throttled'],
    ['XX000', 'Max client connections reached', 'throttled'],
    ['XX000', 'Tenant or user not found', 'unauthorized'],
    ['08000', 'Timed-out waiting to acquire database connection', 'throttled'],
  ])('classifies what a pooler says: %s %s', (code, message, reason) => {
    const { reason: found, advice } = classify(Object.assign(new Error(message), { code }));
    expect(found).toBe(reason);
    expect(advice === '').toBe(/crashed|starting|login_timeout|administrator/.test(message));
  });

  it("classifies Redshift's error 1023, which has no code of its own", () => {
    const message = '1023 DETAIL: Serializable isolation violation on table - 100, transactions: 1, 2';
    expect(classify(Object.assign(new Error(message), { code: 'XX000' })).reason).toBe('conflict');
  });

  it.each([
    ['postgres://h/d?sslmode=perhaps', undefined, ['url']],
    ['postgres://h/d?sslrootcert=/x', undefined, ['url']],
    ['postgres://h/d?sslmode=disable', '/ca.pem', ['caFile']],
    ['postgres://h/d?sslmode=require', '/ca.pem', []],
  ])('checks %s with the CA file %s', (url, caFile, keys) => {
    const problems = redshift.validate?.({ ...DEFAULTS, url, caFile }) ?? [];
    expect(problems.map(({ key }) => key)).toEqual(keys);
  });

  const s3 = { bucket: 'b-1', prefix: 'p' };
  const iamRole = 'default';
  it.each([
    ['postgres://h/d', { table: 'fanout_batch' }, ['table']],
    ['postgres://h/d', { table: 'metrics.fanout_batch' }, ['table']],
    ['postgres://h/d', { s3 }, ['iamRole']],
    ['postgres://h/d', { iamRole }, ['s3']],
    ['postgres://h/d', { s3, iamRole }, []],
    ['postgres://alice@h/d', { cluster: 'c' }, []],
    ['postgres://h/d', { cluster: 'c' }, []],
    ['postgres://h/d', { workgroup: 'w' }, []],
    ['postgres://alice:secret@h/d', { cluster: 'c' }, ['url']],
    ['postgres://alice@h/d', { workgroup: 'w' }, ['url']],
    ['postgres://h', { workgroup: 'w' }, ['url']],
    ['postgres://h/d', { cluster: 'c', workgroup: 'w' }, ['workgroup']],
  ])('checks %s with %o', (url, changed, keys) => {
    const problems = redshift.validate?.({ ...DEFAULTS, url, ...changed }) ?? [];
    expect(problems.map(({ key }) => key)).toEqual(keys);
  });

  it.each([
    ['s3://bucket', { bucket: 'bucket', prefix: '' }],
    ['s3://my.bucket-1/a/b_c=1/', { bucket: 'my.bucket-1', prefix: 'a/b_c=1' }],
    ['bucket/prefix', undefined],
    ['https://bucket/prefix', undefined],
    ['s3://Bucket', undefined],
    [`s3://bucket/'; DROP TABLE x`, undefined],
    [`s3://bucket/${'p'.repeat(513)}`, undefined],
  ])('parses the S3 address %s as %j', (text, address) => {
    expect(redshift.settings.s3.parse(text)).toEqual(address);
  });

  it.each([
    ['default', true],
    ['arn:aws:iam::123456789012:role/reads', true],
    ['arn:aws-cn:iam::123456789012:role/path/reads,arn:aws:iam::123456789012:role/two', true],
    ['arn:aws:iam::123456789012:user/alice', false],
    [`arn:aws:iam::123456789012:role/x' CSV`, false],
    ['reads', false],
  ])('accepts %s as a role: %s', (text, isOne) => {
    expect(redshift.settings.iamRole.parse(text)).toBe(isOne ? text : undefined);
  });

  it('writes one row per line, escapes what would end a field, and writes nothing for NULL', () => {
    const name = 'a|b\\N"c\'\n\r\u2028\t';
    const point = makePoint({ name, dimensions: [['k', '"\n']], instance: '', values: { sum: 0.1 + 0.2 } });
    expect(partText([point, point], false).split(/(?<!\\)\n/)).toEqual([
      `2026-11-23 01:30:00.000|10000|${point.series.id}||a\\|b\\\\N"c'\\\n\\\r\u2028\t|counter|` +
        '{"k":"\\\\"\\\\n"}|1|0.30000000000000004|||||||',
      expect.any(String),
      '',
    ]);
  });

  it.each([
    ['S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 1,CanRetry 1', 'unauthorized'],
    [
      'User arn:aws:redshift:x:1:dbuser:c/u is not authorized to assume IAM Role arn:aws:iam::1:role/r',
      'unauthorized',
    ],
    ['Not authorized to get credentials of role arn:aws:iam::1:role/r', 'unauthorized'],
    [
      'S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket,Rid 1',
      'not_found',
    ],
    ['S3ServiceException:must be addressed,Status 301,Error PermanentRedirect,Rid 1', 'bad_request'],
    ['S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown,Rid 1', 'throttled'],
    ['S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey,Rid 1', 'server_error'],
    ['Manifest file is not in correct json format', 'server_error'],
  ])('classifies what COPY says: %s', (message, reason) => {
    expect(classify(Object.assign(new Error(message), { code: 'XX000' })).reason).toBe(reason);
  });

  it.each(['points', 'metrics.points', 'Points', 'a.b.c', 'x"; DROP TABLE y', ''])(
    'checks the table %s',
    (table) => {
      const isValid = ['points', 'metrics.points'].includes(table);
      expect(redshift.settings.table.parse(table)).toBe(isValid ? table : undefined);
    },
  );
});
