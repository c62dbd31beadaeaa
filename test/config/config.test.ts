import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { parseTime } from '../../src/base/time-text.ts';
import { failureOf, failureText } from '../../src/commands/terminal/failure.ts';
import { loadConfig, WITHOUT_SINKS } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { overlap } from '../../src/config/core-settings.ts';
import { setting } from '../../src/settings/builders.ts';
import { maskUrl } from '../../src/settings/url-secrets.ts';

const folder = mkdtempSync(join(tmpdir(), 'fanout-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function errorsOf(env: Record<string, string>): Promise<ConfigError> {
  try {
    await loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

describe('defaults', () => {
  test('an empty environment works, with the embedded sink', async () => {
    const { core, sinks } = await loadConfig({});
    expect(core.natsUrl).toEqual(['nats://127.0.0.1:4222']);
    expect(core.metricsSubjects).toEqual(['metrics', 'metrics.>']);
    expect([core.window, core.lateness, core.maxAhead]).toEqual([10_000, 2000, 1000]);
    expect(core.metricsStreamMaxBytes).toBe(8 * 2 ** 30);
    expect(core.slice).toEqual({ index: 0, of: 1 });
    expect(sinks.map(({ id, timeoutMs, backlogBytes }) => [id, timeoutMs, backlogBytes])).toEqual([
      ['sqlite', 30_000, 64e6],
    ]);
  });

  test('an empty variable counts as not set', async () => {
    const { core } = await loadConfig({ WINDOW: '', NATS_TOKEN: '', SINK_SQLITE_ENABLED: '' });
    expect(core.window).toBe(10_000);
    expect(core.natsToken).toBeUndefined();
  });

  test('the sink that runs if none is named is shown as on by default', async () => {
    const originOf = async (env: Record<string, string>) =>
      (await loadConfig(env)).resolved.find(({ variable }) => variable === 'SINK_SQLITE_ENABLED');
    expect(await originOf({})).toMatchObject({ shown: 'true', from: 'default' });
    expect(await originOf({ SINK_SQLITE_ENABLED: 'true' })).toMatchObject({ from: 'environment' });
  });

  test('the configuration is frozen', async () => {
    const config = await loadConfig({});
    expect(() => Object.assign(config.core, { window: 1 })).toThrow(TypeError);
  });
});

describe('errors', () => {
  test('are reported all at once, each with the variable, what was expected and what it got', async () => {
    const error = await errorsOf({
      WINDOW: '10',
      HTTP_PORT: '70000',
      METRICS_SOURCE: 'kafka',
      SINK_REDSHIFT_ENABLED: 'true',
      SINK_SQLITE_PTAH: '/x',
    });
    expect(error.errors).toEqual([
      { variable: 'METRICS_SOURCE', expected: 'one of jetstream, core', got: 'kafka' },
      { variable: 'WINDOW', expected: 'a duration from 100ms to 24h', got: '10' },
      { variable: 'HTTP_PORT', expected: 'a whole number from 0 to 65535', got: '70000' },
      { variable: 'SINK_REDSHIFT_URL', expected: 'a URL that starts with postgres://', got: undefined },
      {
        variable: 'SINK_SQLITE_PTAH',
        expected: expect.stringContaining('SINK_SQLITE_PATH'),
        got: undefined,
        unknown: true,
        meant: 'SINK_SQLITE_PATH',
      },
    ]);
    expect(error.message.split('\n')).toHaveLength(6);
    expect(error.message).toContain('  WINDOW: expected a duration from 100ms to 24h; got "10"');
  });

  test.each([
    ['a setting of a sink that is not enabled', { SINK_ACME_URL: 'x' }, 'SINK_ACME_URL'],
    ['ENABLED that is neither true nor false', { SINK_INFLUXDB_ENABLED: 'yes' }, 'SINK_INFLUXDB_ENABLED'],
    ['an id that is not a kind', { SINK_ACME_ENABLED: 'true' }, 'SINK_ACME_ENABLED'],
    ['an unknown kind', { SINK_ACME_ENABLED: 'true', SINK_ACME_KIND: 'acne' }, 'SINK_ACME_KIND'],
    ['a module that is not a sink', { SINK_X_ENABLED: 'true', SINK_X_KIND: './package.json' }, 'SINK_X_KIND'],
    ['a glob of a sink that is none', { SINK_SQLITE_NAMES: 'a.*, !' }, 'SINK_SQLITE_NAMES'],
    [
      'a table that DynamoDB cannot have',
      { SINK_DYNAMODB_ENABLED: 'true', SINK_DYNAMODB_TABLE: 'm0' },
      'SINK_DYNAMODB_TABLE',
    ],
    ['a window of a sink that is no multiple', { SINK_SQLITE_WINDOW: '15s' }, 'SINK_SQLITE_WINDOW'],
    ['a window of a sink that is shorter', { SINK_SQLITE_WINDOW: '5s' }, 'SINK_SQLITE_WINDOW'],
    ['a window of a sink, and slices', { SINK_SQLITE_WINDOW: '1m', SLICE: '0/2' }, 'SINK_SQLITE_WINDOW'],
    [
      'windows of two lengths in one table',
      {
        SINK_SQLITE_ENABLED: 'true',
        SINK_OTHER_ENABLED: 'true',
        SINK_OTHER_KIND: 'sqlite',
        SINK_OTHER_WINDOW: '1m',
      },
      'SINK_OTHER_WINDOW',
    ],
    [
      'windows of two lengths in one table, of sinks that differ in what does not say where it is',
      {
        SINK_SQLITE_ENABLED: 'true',
        SINK_SQLITE_KEEP: '7d',
        SINK_SQLITE_PRICE_MONTH: '5',
        SINK_OTHER_ENABLED: 'true',
        SINK_OTHER_KIND: 'sqlite',
        SINK_OTHER_SKETCH: 'true',
        SINK_OTHER_WINDOW: '1m',
      },
      'SINK_OTHER_WINDOW',
    ],
    ['overlapping subjects', { METRICS_SUBJECTS: 'metrics.>,metrics.a' }, 'METRICS_SUBJECTS'],
    ['an empty subject', { METRICS_SUBJECTS: 'a,,b' }, 'METRICS_SUBJECTS'],
    ['a subject that the server reserves', { METRICS_SUBJECTS: '$JS.>' }, 'METRICS_SUBJECTS'],
    ['longer messages than the bus is asked for', { MAX_MESSAGE_BYTES: '9MiB' }, 'MAX_MESSAGE_BYTES'],
    ['a slice out of range', { SLICE: '3/3' }, 'SLICE'],
    ['a start that is not a time', { METRICS_START: 'yesterday' }, 'METRICS_START'],
    ['a URL that is not for NATS', { NATS_URL: 'http://x' }, 'NATS_URL'],
    ['a password without a user', { NATS_PASSWORD: 'x' }, 'NATS_USER'],
    ['a certificate without its key', { NATS_TLS_CERT_FILE: 'x' }, 'NATS_TLS_KEY_FILE'],
    ['a queue group in jetstream mode', { METRICS_QUEUE_GROUP: 'x' }, 'METRICS_QUEUE_GROUP'],
    ['slices in core mode', { METRICS_SOURCE: 'core', SLICE: '0/2' }, 'SLICE'],
    ['two ways to sign in', { NATS_TOKEN: 'x', NATS_USER: 'y' }, 'NATS_USER, NATS_TOKEN'],
    [
      'a domain, and a prefix as well',
      { NATS_JETSTREAM_DOMAIN: 'hub', NATS_JETSTREAM_API_PREFIX: 'hub.js' },
      'NATS_JETSTREAM_DOMAIN, NATS_JETSTREAM_API_PREFIX',
    ],
    ['a prefix with wildcards', { NATS_JETSTREAM_API_PREFIX: 'hub.>' }, 'NATS_JETSTREAM_API_PREFIX'],
    ['a file that does not exist', { NATS_TOKEN_FILE: '/nonexistent' }, 'NATS_TOKEN_FILE'],
    ['a token that is too short', { CONTROL_TOKEN: 'fifteen-letters' }, 'CONTROL_TOKEN'],
    ['a host with a port', { HTTP_ALLOWED_HOSTS: 'a.example.com,b:9464' }, 'HTTP_ALLOWED_HOSTS'],
    ['a host that is a URL', { HTTP_ALLOWED_HOSTS: 'http://a' }, 'HTTP_ALLOWED_HOSTS'],
    ['an empty host', { HTTP_ALLOWED_HOSTS: 'a,' }, 'HTTP_ALLOWED_HOSTS'],
    ['a socket with a relative path', { CONTROL_SOCKET: 'control.sock' }, 'CONTROL_SOCKET'],
    ['a socket path that is too long', { CONTROL_SOCKET: `/${'x'.repeat(107)}` }, 'CONTROL_SOCKET'],
    ['a socket path too long in bytes only', { CONTROL_SOCKET: `/${'ü'.repeat(54)}` }, 'CONTROL_SOCKET'],
    ['a secret given twice', { NATS_TOKEN: 'x', NATS_TOKEN_FILE: '/x' }, 'NATS_TOKEN_FILE'],
  ])('%s', async (_, env, variable) => {
    expect((await errorsOf(env)).errors.map((error) => error.variable)).toContain(variable);
  });

  test('a pod that kubectl scale added says what to do', async () => {
    const { message, fields, code } = failureOf(await errorsOf({ SLICE: '3/3' }));
    expect(message).toBe('the settings have 1 error');
    expect(fields.errors).toEqual([expect.stringContaining('SLICE: expected a time slice')]);
    expect(fields.advice).toContain('do not use kubectl scale');
    expect(fields.advice).toContain('Scale back to 3, then');
    expect(code).toBe(78);
    for (const SLICE of ['3', 'a/b', '0/0', '0/9999'])
      expect(failureOf(await errorsOf({ SLICE })).fields.advice, SLICE).toBeUndefined();
  });
});

describe('misspelled names', () => {
  test.each([
    [{ SINK_INFLXUDB_ENABLED: 'true' }, 'SINK_INFLUXDB_ENABLED'],
    [{ SINK_A_ENABLED: 'true', SINK_A_KIND: 'redshfit' }, 'redshift'],
    [{ SINK_SQLTE_PATH: 'x' }, 'SINK_SQLITE_PATH'],
    [{ SINK_SQLITE_PTAH: 'x' }, 'SINK_SQLITE_PATH'],
    [{ SINK_INFLUXDB_DB: 'x' }, 'SINK_INFLUXDB_DATABASE'],
    [{ SINK_INFLUXDB_ULR: 'x' }, 'SINK_INFLUXDB_URL'],
    // Of a sink that no other variable names, and whose id is no kind.
    [{ SINK_PG_ENABLE: 'true' }, 'SINK_PG_ENABLED'],
    [{ SINK_PG_TYPE: 'postgres' }, 'SINK_PG_KIND'],
    // Other words for the same.
    [{ SINK_INFLUXDB_USERNAME: 'x' }, 'SINK_INFLUXDB_USER'],
    [{ SINK_INFLUXDB_PASS: 'x' }, 'SINK_INFLUXDB_PASSWORD'],
    [{ SINK_POSTGRES_HOST: 'x' }, 'SINK_POSTGRES_URL'],
    [{ SINK_OF_ENABLED: 'false', SINK_OF_KIND: 'influxdb', SINK_OF_USERNAME: 'x' }, 'SINK_OF_USER'],
    [{ SINK_REDSHIFT_ENABLED: 'false', SINK_REDSHIFT_PASWORD_FILE: 'x' }, undefined],
  ])('%j: did you mean %s?', async (env, meant) => {
    const { errors, message } = await errorsOf(env);
    expect(errors.map((error) => error.meant)).toEqual([meant]);
    if (meant !== undefined) expect(message).toContain(`(did you mean ${meant}?)`);
  });

  test('that do not belong to a sink are warnings, not errors: the environment is not ours alone', async () => {
    const { warnings } = await loadConfig({
      METRICS_STRAEM: 'x',
      METRICS_FOO: 'x',
      HTTP_PROT: '1',
      NATS_PASSWORD_FIEL: 'x',
      // Others set these.
      METRICS_PORT_4222_TCP_ADDR: '10.0.0.1',
      METRICS_SERVICE_HOST: '10.0.0.1',
      NATS_VERSION: '2',
      HTTPS_PROXY: 'x',
      LOG_FILE: 'x',
      WINDOWID: '7',
    });
    expect(warnings).toEqual([
      'HTTP_PROT is not a setting: did you mean HTTP_PORT?',
      'METRICS_FOO is not a setting',
      'METRICS_STRAEM is not a setting: did you mean METRICS_STREAM?',
      'NATS_PASSWORD_FIEL is not a setting: did you mean NATS_PASSWORD_FILE?',
    ]);
  });

  test('come together with the errors, all at once, for people and in the log', async () => {
    const error = await errorsOf({ WINDOW: 'x', METRICS_STRAEM: 'x', SINK_POSTGRES_URL: 'postgres://db/db' });
    const warnings = [
      'METRICS_STRAEM is not a setting: did you mean METRICS_STREAM?',
      'SINK_POSTGRES_URL is set, but SINK_POSTGRES_ENABLED is not: this sink is off',
    ];
    const failure = failureOf(error);
    expect(failure).toMatchObject({ message: 'the settings have 1 error', fields: { warnings } });
    expect(failure.fields.errors).toHaveLength(1);
    expect(
      failureText(failure)
        .split('\n')
        .map((line) => line.trim()),
    ).toEqual([
      'the settings have 1 error:',
      'WINDOW: expected a duration from 100ms to 24h; got "x"',
      'No error, but odd:',
      ...warnings,
    ]);
    expect(failureOf(await errorsOf({ WINDOW: 'x' })).fields).not.toHaveProperty('warnings');
  });
});

test('of a sink that has settings, and of which nobody says whether it is on, it is said that it is off', async () => {
  const warningsOf = async (env: Record<string, string>) => (await loadConfig(env)).warnings;
  const forgotten = { SINK_POSTGRES_URL: 'postgres://localhost/db' };
  expect(await warningsOf(forgotten)).toEqual([
    'SINK_POSTGRES_URL is set, but SINK_POSTGRES_ENABLED is not: this sink is off',
  ]);
  const copy = {
    SINK_A_KIND: 'sqlite',
    SINK_A_PATH: 'a.db',
    SINK_A_B_ENABLED: 'false',
    SINK_A_B_KIND: 'sqlite',
  };
  expect(await warningsOf(copy)).toEqual([
    'SINK_A_KIND, SINK_A_PATH are set, but SINK_A_ENABLED is not: this sink is off',
  ]);
  expect(await warningsOf({ ...forgotten, SINK_POSTGRES_ENABLED: 'false' })).toEqual([]);
  // Without any other, it is on.
  expect(await warningsOf({ SINK_SQLITE_PATH: 'a.db' })).toEqual([]);
});

describe('secrets', () => {
  test('may come from a file, without the newline at its end', async () => {
    const { core, resolved } = await loadConfig({ NATS_TOKEN_FILE: file('token', 's3cret\n') });
    expect(core.natsToken).toBe('s3cret');
    expect(resolved.find(({ variable }) => variable === 'NATS_TOKEN')).toEqual({
      variable: 'NATS_TOKEN',
      shown: '***',
      from: 'file',
    });
  });

  test('must be too long to guess if strangers can try them', async () => {
    const token = file('short', 'fifteen-letters\n');
    for (const env of [{ CONTROL_TOKEN: 'fifteen-letters' }, { CONTROL_TOKEN_FILE: token }]) {
      const { message } = await errorsOf(env);
      expect(message).toContain('CONTROL_TOKEN: expected a secret of at least 16 characters; got "***"');
    }
    expect((await loadConfig({ CONTROL_TOKEN: 'sixteen-letters!' })).core.controlToken).toBe(
      'sixteen-letters!',
    );
  });

  test('appear in no error and in no resolved setting', async () => {
    const secret = 'pl4nted';
    const env = {
      NATS_URL: `user:${secret}@host:4222,nats://u:${secret}@other`,
      SINK_REDSHIFT_ENABLED: 'true',
      SINK_REDSHIFT_URL: `postgres://u:${secret}@db/x`,
      SINK_INFLUXDB_ENABLED: 'true',
      SINK_INFLUXDB_URL: 'http://db',
      SINK_INFLUXDB_TOKEN: secret,
      SINK_INFLUXDB_BUCKET: 'b',
      SINK_INFLUXDB_ORG: 'o',
    };
    expect(JSON.stringify((await loadConfig(env)).resolved)).not.toContain(secret);
    const broken = {
      ...env,
      NATS_URL: `ftp://u:${secret}@x`,
      SINK_REDSHIFT_URL: `mysql://u:${secret}@db`,
      WINDOW: 'x',
    };
    const error = await errorsOf(broken);
    expect(error.errors).toHaveLength(3);
    expect(error.message + JSON.stringify(error.errors)).not.toContain(secret);
  });
});

describe('values', () => {
  test.each(['auto', 'off', `/${'x'.repeat(106)}`])('of CONTROL_SOCKET: %s', async (text) => {
    expect((await loadConfig({ CONTROL_SOCKET: text })).core.controlSocket).toBe(text);
  });

  test('of HTTP_ALLOWED_HOSTS are names and addresses, in any case', async () => {
    const { core } = await loadConfig({
      HTTP_ALLOWED_HOSTS: 'Metrics.Example.com, 10.0.0.7,2001:db8::1,a_b',
    });
    expect(core.httpAllowedHosts).toEqual(new Set(['metrics.example.com', '10.0.0.7', '2001:db8::1', 'a_b']));
  });

  const { bytes, duration, interval, boolean, httpUrl } = setting;
  const parse = <T>(make: (options: { meaning: string }) => { parse(text: string): T }, text: string) =>
    make({ meaning: '' }).parse(text);

  test('of sizes and durations are exact, with or without a fraction', () => {
    for (let hundredths = 0; hundredths < 1000; hundredths++) {
      const text = `${Math.floor(hundredths / 100)}.${String(hundredths % 100).padStart(2, '0')}`;
      expect(parse(bytes, `${text}GB`), text).toBe(hundredths * 10_000_000);
      expect(parse(duration, `${text}s`), text).toBe(hundredths * 10);
      expect(parse(duration, `${text}h`), text).toBe(hundredths * 36_000);
    }
    expect(['1.0005s', '0.1B', '.5s', '5.s'].map((text) => parse(duration, text))).toEqual(
      Array(4).fill(undefined),
    );
  });

  test('of intervals are no longer than a timer can wait', () => {
    expect(['0s', '24h', '25h', '25d'].map((text) => parse(interval, text))).toEqual([
      0,
      86_400_000,
      undefined,
      undefined,
    ]);
  });

  test('of booleans are true or false, in any case', () => {
    expect(['TRUE', 'false', 'constructor', '__proto__'].map((text) => parse(boolean, text))).toEqual([
      true,
      false,
      undefined,
      undefined,
    ]);
  });

  test('of NATS_URL have a host, and credentials that can be decoded', async () => {
    const servers = async (text: string) => (await loadConfig({ NATS_URL: text })).core.natsUrl;
    expect(await servers('h, u:50%25@h:1')).toEqual(['h', 'u:50%25@h:1']);
    for (const text of [
      'nats://u:50%@h',
      'nats://50%x@h',
      'nats://u:%ff@h',
      'nats://',
      'h,nats://u:p@:4222',
      'http://h',
    ])
      expect((await errorsOf({ NATS_URL: text })).errors, text).toMatchObject([{ variable: 'NATS_URL' }]);
  });

  test('of URLs have an authority', () => {
    const texts = ['http://h:1/x', 'http:u:secret@h', 'http:/u:secret@h', 'http:\\\\u:secret@h'];
    expect(texts.map((text) => parse(httpUrl, text))).toEqual([texts[0], undefined, undefined, undefined]);
    expect(texts.slice(1).map(maskUrl)).toEqual([undefined, undefined, undefined]);
  });
});

test('a time must exist in the calendar', () => {
  expect(parseTime('2024-02-29t23:59:59.5+01:30')).toBe(Date.UTC(2024, 1, 29, 22, 29, 59, 500));
  expect(parseTime('0001-01-01T00:00:00Z')).toBe(Date.parse('0001-01-01T00:00:00Z'));
  for (const text of ['2026-02-29T00:00:00Z', '2026-04-31T12:00:00Z', '2026-11-23T24:00:00Z', '2026-11-23'])
    expect(parseTime(text), text).toBeUndefined();
});

describe('headers', () => {
  const headers = (text: string) => setting.headers({ meaning: '' }).parse(text);

  test('are read by name, in any case, and their values decoded', () => {
    expect(headers('api-key=abc==, X-Scope-OrgID = a%2Cb%3D1 ,x=')).toEqual({
      'api-key': 'abc==',
      'x-scope-orgid': 'a,b=1',
      x: '',
    });
    expect(headers('authorization=Basic dTpw')).toEqual({ authorization: 'Basic dTpw' });
    expect(headers('x=100%')).toEqual({ x: '100%' });
  });

  test.each(['', 'a', '=b', 'a b=c', 'a=1,', 'a=1,A=2', 'a=b%0D%0Ac: d', 'a=\u{1F600}'])(
    'cannot be %j',
    (text) => {
      expect(headers(text)).toBeUndefined();
    },
  );
});

test('a URL is shown without its secrets, and what is not a URL is not shown at all', () => {
  expect(maskUrl('postgres://u:p@h/d?sslmode=verify-full&sslpassword=p&Token=t#x')).toBe(
    'postgres://***@h/d?sslmode=verify-full&sslpassword=***&Token=***#x',
  );
  // A password with an unescaped slash.
  expect(maskUrl('postgres://u:12/secret@h/db')).toBe('postgres://***@h/db');
  expect(maskUrl('p4ss')).toBeUndefined();
});

describe('sinks', () => {
  test('two of one kind run side by side, each with its own settings', async () => {
    const { sinks } = await loadConfig({
      SINK_SQLITE_ENABLED: 'true',
      SINK_SECOND_FILE_ENABLED: 'true',
      SINK_SECOND_FILE_KIND: 'sqlite',
      SINK_SECOND_FILE_PATH: '/tmp/second.db',
      SINK_SECOND_FILE_START: 'earliest',
    });
    expect(sinks.map(({ id, start, values }) => [id, start.kind, values.path])).toEqual([
      ['second_file', 'earliest', '/tmp/second.db'],
      ['sqlite', 'now', './fanout.db'],
    ]);
  });

  test('a sink that is off needs no settings, but may have them', async () => {
    const { sinks } = await loadConfig({ SINK_REDSHIFT_ENABLED: 'false', SINK_INFLUXDB_URL: 'http://db' });
    expect(sinks.map(({ id }) => id)).toEqual(['sqlite']);
  });

  test('a module outside the project is loaded by its path', async () => {
    const path = file(
      'acme.mjs',
      `export default { kind: 'acme', summary: '', limits: { maxPoints: 1, maxBytes: 1, inFlight: 1 }, settings: {},
        create: () => ({}) };`,
    );
    const { sinks } = await loadConfig({ SINK_ACME_ENABLED: 'true', SINK_ACME_KIND: path });
    expect(sinks.map(({ module }) => module.kind)).toEqual(['acme']);
  });

  test.each([
    '{ maxBytes: 1, inFlight: 1 }',
    '{ maxPoints: 0, maxBytes: 1, inFlight: 1 }',
    '{ maxPoints: 1, maxBytes: 1 }',
  ])('a module with the limits %s is refused: nothing could be written', async (limits) => {
    const path = file(
      `${limits.length}.mjs`,
      `export default { kind: 'acme', summary: '', limits: ${limits}, settings: {}, create: () => ({}) };`,
    );
    const loading = loadConfig({ SINK_ACME_ENABLED: 'true', SINK_ACME_KIND: path });
    await expect(loading).rejects.toThrow('maxPoints, maxBytes and inFlight');
  });

  test.each(['names', 'start', 'timeout'])(
    'a module with a setting called %s is refused: every sink has one',
    async (key) => {
      const setting = "{ meaning: '', expected: '', parse: (text) => text, optional: true }";
      const path = file(
        `own-${key}.mjs`,
        `export default { kind: 'acme', summary: '', limits: { maxPoints: 1, maxBytes: 1, inFlight: 1 },
          settings: { ${key}: ${setting}, fine: ${setting} }, create: () => ({}) };`,
      );
      const loading = loadConfig({ SINK_ACME_ENABLED: 'true', SINK_ACME_KIND: path });
      await expect(loading).rejects.toThrow(`every sink has settings called ${key}: call those`);
    },
  );

  test.each([
    ['({ maxPoints: Number(size), maxBytes: 1, inFlight: 1 })', 'must all be 1 or more'],
    ['({ maxPoints: 1, maxBytes: 1 })', 'must all be 1 or more'],
    ['42', 'must all be 1 or more'],
    ['size.nowhere.at', 'it failed: Cannot read properties of undefined'],
    ['{ throw new Error(size + token) }', 'it failed: 0***'],
  ])('a module whose limitsBy is %s is an error that names the sink', async (made, expected) => {
    const setting = (name: string) =>
      `{ meaning: '', expected: '', parse: (text) => text, optional: false${name === 'token' ? ", mask: () => '***'" : ''} }`;
    const path = file(
      `by-${made.length}.mjs`,
      `export default { kind: 'acme', summary: '', limits: { maxPoints: 1, maxBytes: 1, inFlight: 1 },
        limitsBy: ({ size, token }) => ${made}, settings: { size: ${setting('size')}, token: ${setting('token')} },
        create: () => ({}) };`,
    );
    const env = { SINK_ACME_KIND: path, SINK_ACME_SIZE: '0', SINK_ACME_TOKEN: 'hunter2-hunter2' };
    const error: ConfigError = await loadConfig({ SINK_ACME_ENABLED: 'true', ...env }).catch((e) => e);
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.errors).toHaveLength(1);
    expect(error.message).toMatch(
      /SINK_ACME_ENABLED: expected a sink module whose limitsBy accepts these settings/,
    );
    expect(error.message).toContain(expected);
  });
});

test('two patterns overlap exactly if some subject matches both', () => {
  const token = fc.constantFrom('a', 'b', '*');
  const pattern = fc
    .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([tokens, rest]) => [...tokens, ...(rest ? ['>'] : [])].join('.'));
  const subjects = ['a', 'b'].flatMap((x) => [
    x,
    ...['a', 'b'].flatMap((y) => [
      `${x}.${y}`,
      `${x}.${y}.a`,
      `${x}.${y}.b`,
      `${x}.${y}.a.a`,
      `${x}.${y}.b.a`,
    ]),
  ]);
  const matches = (p: string, s: string) => {
    const source = p.replaceAll('.', '\\.').replaceAll('*', '[^.]+').replace(/>$/, '.+');
    return new RegExp(`^${source}$`).test(s);
  };
  fc.assert(
    fc.property(pattern, pattern, (a, b) => {
      expect(overlap(a, b)).toBe(subjects.some((s) => matches(a, s) && matches(b, s)));
    }),
  );
});

test('a sink that has a KIND and is not ENABLED is off', async () => {
  const { sinks } = await loadConfig({ SINK_PG_KIND: 'postgres', SINK_PG_URL: 'postgres://h/d' });
  expect(sinks.map(({ id }) => id)).toEqual(['sqlite']);
  const { errors } = await errorsOf({ SINK_PG_KIND: 'postgres', SINK_PG_ULR: 'x' });
  expect(errors).toMatchObject([{ variable: 'SINK_PG_ULR', meant: 'SINK_PG_URL' }]);
});

test('what is wrong with a sink is no reason to refuse a command that needs none', async () => {
  const env = { SINK_REDSHIFT_ENABLED: 'true', SINK_NOSUCH_URL: 'x' };
  expect((await loadConfig(env, WITHOUT_SINKS)).sinks).toEqual([]);
  await expect(loadConfig({ ...env, WINDOW: 'x' }, WITHOUT_SINKS)).rejects.toThrow(/1 error/);
});
