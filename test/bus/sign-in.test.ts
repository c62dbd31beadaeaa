import { once } from 'node:events';
import { unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { BusError } from '../../src/bus/bus-error.ts';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { ensureStream } from '../../src/bus/stream.ts';
import { type NatsOptions, type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { startTlsFront } from '../faults/tls.ts';
import { type Certificates, makeCertificates, makeDecentralised, makeNkey } from './credentials.ts';
import { needsNats } from './server-version.ts';
import { memoryLog, settings, until } from './support.ts';

const SECRET = 'swordfish-7741';
const folder = temporaryFolder('sign-in-test');
let certificates: Certificates;
const stops: (() => Promise<void>)[] = [];

beforeAll(() => {
  certificates = makeCertificates(folder.path);
});
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});
afterAll(() => folder.remove());

async function server(options: NatsOptions): Promise<NatsServer> {
  const started = await startNats(options);
  stops.push(() => started.stop());
  return started;
}

async function attach(env: Record<string, string>, log = memoryLog()): Promise<Bus> {
  const bus = await connect(settings(env), log);
  stops.push(() => bus.close());
  return bus;
}

/** The error must make sense to an operator, and must never contain a secret. */
async function refusal(env: Record<string, string>): Promise<BusError> {
  const error = await attach(env).then(
    () => new Error('the bus let us in'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BusError);
  const { message, advice } = error as BusError;
  expect(advice).toMatch(/^[A-Z].*\.$/);
  expect(`${message} ${advice}`).not.toContain(SECRET);
  return error as BusError;
}

function file(name: string, content: string): string {
  const path = join(folder.path, name);
  writeFileSync(path, content);
  return path;
}

test('user and password', async () => {
  const { url } = await server({ auth: { kind: 'user', user: 'fan', password: SECRET } });
  const bus = await attach({ NATS_URL: url, NATS_USER: 'fan', NATS_PASSWORD: SECRET });
  expect(bus.connected).toBe(true);
  const wrong = await refusal({ NATS_URL: url, NATS_USER: 'fan', NATS_PASSWORD: 'other' });
  expect(wrong.message).toMatch(/refused the sign-in/);
  expect(wrong.advice).toMatch(/NATS_USER and NATS_PASSWORD/);
  expect((await refusal({ NATS_URL: url })).advice).toMatch(/Set NATS_USER/);
});

test('user and password in NATS_URL, escaped, beginning with digits', async () => {
  const { port } = await server({ auth: { kind: 'user', user: 'fan', password: `12${SECRET}@/` } });
  await attach({ NATS_URL: `nats://fan:12${SECRET}%40%2F@127.0.0.1:${port}` });
  await refusal({ NATS_URL: `nats://fan:${SECRET}@127.0.0.1:${port}` });
  const both = await refusal({ NATS_URL: `nats://fan:${SECRET}@127.0.0.1:${port}`, NATS_TOKEN: SECRET });
  expect(both.message).toMatch(/in NATS_URL and also in other NATS_\* variables/);
  const two = `nats://fan:${SECRET}@127.0.0.1:${port},nats://other:${SECRET}@127.0.0.1:${port}`;
  expect((await refusal({ NATS_URL: two })).message).toMatch(/different credentials/);
});

test('token', async () => {
  const { url, port } = await server({ auth: { kind: 'token', token: SECRET } });
  await attach({ NATS_URL: url, NATS_TOKEN: SECRET });
  await attach({ NATS_URL: `nats://${SECRET}@127.0.0.1:${port}` });
  expect((await refusal({ NATS_URL: url, NATS_TOKEN: 'other' })).advice).toMatch(/NATS_TOKEN/);
  await refusal({ NATS_URL: url });
});

test('NKey seed', async () => {
  const [right, wrong] = [makeNkey(), makeNkey()];
  const { url } = await server({ auth: { kind: 'nkey', publicKeys: [right.publicKey] } });
  await attach({ NATS_URL: url, NATS_NKEY_SEED_FILE: file('right.nk', `${right.seed}\n`) });
  const refused = await refusal({ NATS_URL: url, NATS_NKEY_SEED_FILE: file('wrong.nk', wrong.seed) });
  expect(refused.advice).toMatch(/NATS_NKEY_SEED_FILE/);
  await refusal({ NATS_URL: url });
});

test.each(['', 'garbage\n'])(
  'a file of credentials that contains %j for a while does not end a running service',
  async (bad) => {
    const { publicKey, seed } = makeNkey();
    const nats = await server({ auth: { kind: 'nkey', publicKeys: [publicKey] } });
    const path = file('rewritten.nk', seed);
    const bus = await attach({ NATS_URL: nats.url, NATS_NKEY_SEED_FILE: path });
    await nats.halt();
    writeFileSync(path, bad);
    await nats.resume();
    await until('signed in again', () => bus.stats.reconnects === 1);
  },
);

test('credentials of a decentralised account with JetStream; they can be rotated at runtime', async () => {
  const { auth, newCreds } = makeDecentralised();
  const nats = await server({ auth });
  const path = file('user.creds', newCreds());
  const log = memoryLog();
  const core = settings({ NATS_URL: nats.url, NATS_CREDS_FILE: path, METRICS_STREAM_MAX_BYTES: '16MiB' });
  const bus = await attach({ NATS_URL: nats.url, NATS_CREDS_FILE: path }, log);
  expect((await ensureStream(bus, core)).messages).toBe(0);
  const stranger = makeDecentralised().newCreds();
  const refused = await refusal({ NATS_URL: nats.url, NATS_CREDS_FILE: file('stranger.creds', stranger) });
  expect(refused.advice).toMatch(/NATS_CREDS_FILE/);
  await refusal({ NATS_URL: nats.url });
  // New content is used at the next sign-in. A file that is gone does not end a running service.
  await nats.halt();
  writeFileSync(path, newCreds());
  await nats.resume();
  await until('signed in again', () => bus.stats.reconnects === 1);
  unlinkSync(path);
  await nats.halt();
  await nats.resume();
  await until('signed in with the content that was read last', () => bus.stats.reconnects === 2);
});

describe('files that cannot be used are named', () => {
  const missing = join(folder.path, 'missing');
  test.each([
    ['NATS_CREDS_FILE', {}],
    ['NATS_NKEY_SEED_FILE', {}],
    ['NATS_TLS_CA_FILE', {}],
    ['NATS_TLS_CERT_FILE', { NATS_TLS_KEY_FILE: missing }],
    ['NATS_TLS_KEY_FILE', { NATS_TLS_CERT_FILE: import.meta.filename }],
  ])('%s is missing', async (variable, more) => {
    const error = await refusal({ NATS_URL: 'nats://127.0.0.1:1', [variable]: missing, ...more });
    expect(error.message).toMatch(
      new RegExp(`^the file in ${variable} cannot be read: .*missing \\(ENOENT\\)`),
    );
  });

  test.each(['NATS_CREDS_FILE', 'NATS_NKEY_SEED_FILE'])('%s holds something else', async (variable) => {
    const error = await refusal({ NATS_URL: 'nats://127.0.0.1:1', [variable]: file('junk', SECRET) });
    expect(error.message).toMatch(new RegExp(`^the file in ${variable} does not hold`));
  });
});

describe('TLS', () => {
  test('a server signed by the CA is trusted; others are not', async () => {
    const { port } = await server({ tls: certificates.server });
    const url = `tls://127.0.0.1:${port}`;
    await attach({ NATS_URL: url, NATS_TLS_CA_FILE: certificates.ca });
    const untrusted = await refusal({ NATS_URL: url, NATS_TLS_CA_FILE: certificates.otherCa });
    expect(untrusted.message).toMatch(/no TLS connection/);
    expect(untrusted.advice).toMatch(/NATS_TLS_CA_FILE/);
    await refusal({ NATS_URL: url });
  });

  test('a certificate has to be valid for the name or the address in NATS_URL', async () => {
    const [byAddress, byName] = [
      await server({ tls: certificates.server }),
      await server({ tls: certificates.named }),
    ];
    const ca = { NATS_TLS_CA_FILE: certificates.ca };
    await attach({ NATS_URL: `nats://localhost:${byName.port}`, ...ca });
    const wrongName = await refusal({ NATS_URL: `nats://localhost:${byAddress.port}`, ...ca });
    expect(wrongName.message).toMatch(/no TLS connection.*ALTNAME/);
    await refusal({ NATS_URL: `tls://127.0.0.1:${byName.port}`, ...ca });
  });

  test('if TLS is required, no password is sent to a server without TLS', async () => {
    const { url } = await server({});
    const error = await refusal({ NATS_URL: url, NATS_TLS_CA_FILE: certificates.ca, NATS_TOKEN: SECRET });
    expect(error.message).toMatch(/does not offer TLS/);
  });

  test('mutual: the server refuses a client without a certificate', async () => {
    const { url } = await server({ tls: { ...certificates.server, ca: certificates.ca } });
    const ca = { NATS_URL: url, NATS_TLS_CA_FILE: certificates.ca };
    const { certFile, keyFile } = certificates.client;
    await attach({ ...ca, NATS_TLS_CERT_FILE: certFile, NATS_TLS_KEY_FILE: keyFile });
    const log = memoryLog();
    await expect(connect(settings(ca), log, { wait: true })).rejects.toMatchObject({
      message: expect.stringMatching(/asks clients for a certificate/),
      advice: expect.stringMatching(/Set NATS_TLS_CERT_FILE/),
    });
  });
});

describe('a server that starts with the TLS handshake', () => {
  test.each([
    ['without TLS', {}],
    ['that waits for the server', { NATS_TLS_CA_FILE: 'ca' }],
  ])('the advice to a client %s names the setting', async (_, more) => {
    const nats = await server({});
    const front = await startTlsFront(nats.port, certificates.server);
    stops.push(async () => front.stop());
    const env = Object.fromEntries(Object.keys(more).map((name) => [name, certificates.ca]));
    const core = settings({ NATS_URL: `nats://127.0.0.1:${front.port}`, ...env });
    // The client does not wait for the server to change.
    await expect(connect(core, memoryLog(), { wait: true })).rejects.toMatchObject({
      message: expect.stringMatching(/says nothing before TLS begins/),
      advice: expect.stringMatching(/Set NATS_TLS_HANDSHAKE_FIRST=true/),
    });
  });

  test('can be used with the setting, and is trusted like any other', async (context) => {
    needsNats(context, '2.10.4');
    const nats = await server({ tls: { ...certificates.server, handshakeFirst: true } });
    const env = { NATS_URL: `nats://127.0.0.1:${nats.port}`, NATS_TLS_HANDSHAKE_FIRST: 'true' };
    const bus = await attach({ ...env, NATS_TLS_CA_FILE: certificates.ca });
    await nats.halt();
    await nats.resume();
    await until('connected again', () => bus.stats.reconnects === 1);
    expect((await refusal({ ...env, NATS_TLS_CA_FILE: certificates.otherCa })).message).toMatch(
      /no TLS conn/,
    );
    expect((await refusal(env)).message).toMatch(/no TLS connection/);
  });

  test('if the server does not, the advice is to unset the setting', async () => {
    for (const { port } of [await server({ tls: certificates.server }), await server({})]) {
      const env = { NATS_URL: `nats://127.0.0.1:${port}`, NATS_TLS_HANDSHAKE_FIRST: 'true' };
      expect((await refusal({ ...env, NATS_TLS_CA_FILE: certificates.ca })).advice).toMatch(
        /Unset NATS_TLS_HANDSHAKE_FIRST/,
      );
    }
  });
});

test('without a server, connecting fails, or waits and logs this once', async () => {
  const port = await freePort();
  const env = { NATS_URL: `nats://127.0.0.1:${port}` };
  expect((await refusal(env)).message).toMatch(
    /cannot be reached at 127\.0\.0\.1:\d+ \(CONNECTION_REFUSED\)/,
  );
  const log = memoryLog();
  // Accepts every connection and counts it, but is not a NATS server.
  let attempts = 0;
  const nobody = createServer((socket) => {
    attempts += 1;
    socket.destroy();
  }).listen(port, '127.0.0.1');
  await once(nobody, 'listening');
  const waiting = connect(settings(env), log, { wait: true });
  await until('several attempts', () => attempts >= 4);
  expect(log.lines.map((line) => line.message)).toEqual(['waiting for the bus']);
  nobody.close();
  await once(nobody, 'close');
  await server({ port });
  const bus = await waiting;
  stops.push(() => bus.close());
  expect(log.lines.map((line) => line.message)).toEqual(['waiting for the bus', 'connected to the bus']);
});

test('waiting ends on abort, and at once if the sign-in is refused', async () => {
  const abort = new AbortController();
  const waiting = connect(settings({ NATS_URL: 'nats://127.0.0.1:1' }), memoryLog(), {
    wait: true,
    signal: abort.signal,
  });
  abort.abort();
  await expect(waiting).rejects.toThrow(BusError);
  const { url } = await server({ auth: { kind: 'token', token: SECRET } });
  await expect(connect(settings({ NATS_URL: url }), memoryLog(), { wait: true })).rejects.toThrow(/refused/);
});

test('a server that was down at first can still be used later', async () => {
  const early = await server({});
  const port = await freePort();
  const urls = `nats://127.0.0.1:${port},${early.url}`;
  const bus = await attach({ NATS_URL: urls });
  expect(bus.server).toBe(`127.0.0.1:${early.port}`);
  await server({ port });
  await early.halt();
  await until('on the other server', () => bus.stats.reconnects === 1);
  expect(bus.server).toBe(`127.0.0.1:${port}`);
});

test('disconnections, refused sign-ins and reconnections are counted and logged', async () => {
  const port = await freePort();
  const first = await server({ port, auth: { kind: 'token', token: SECRET } });
  const log = memoryLog();
  const bus = await attach({ NATS_URL: first.url, NATS_TOKEN: SECRET }, log);
  await first.stop();
  await until('lost', () => !bus.connected);
  const second = await server({ port, auth: { kind: 'token', token: 'changed' } });
  await until('more refusals than the client would accept by itself', () => bus.stats.authErrors >= 3);
  await second.stop();
  await server({ port, auth: { kind: 'token', token: SECRET } });
  await until('back', () => bus.connected);
  expect(bus.stats).toMatchObject({ disconnects: 1, reconnects: 1 });
  const refusals = log.lines.filter(({ message }) => message === 'the bus refuses the sign-in');
  expect(refusals.map(({ fields }) => fields)).toMatchObject([{ advice: 'Check NATS_TOKEN.' }]);
  expect(JSON.stringify(log.lines)).not.toContain(SECRET);
});

test('a callback that throws is counted, and reading goes on', async () => {
  const { url } = await server({});
  const bus = await attach({ NATS_URL: url });
  const seen: string[] = [];
  const stop = bus.subscribe('talk.*', ({ data, subject }) => {
    seen.push(subject);
    if (data.length === 0) throw new Error('empty');
  });
  bus.publish('talk.a', '');
  bus.publish('talk.b', 'x');
  await until('both', () => seen.length === 2);
  expect(bus.stats.callbackErrors).toBe(1);
  stop();
});

test('publish never throws, and its buffer is bounded', async () => {
  const nats = await server({ maxPayloadBytes: 1024 * 1024 });
  const bus = await attach({ NATS_URL: nats.url });
  expect(bus.publish('x', 'y')).toBe(true);
  expect(bus.publish('x', 'y'.repeat(2 * 1024 * 1024))).toBe(false);
  const large = new Uint8Array(512 * 1024);
  const sent = Array.from({ length: 100 }, () => bus.publish('x', large)).filter(Boolean).length;
  expect(sent).toBeLessThan(20);
  await bus.flush();
  await until('room again', () => bus.publish('x', large));
  await nats.halt();
  await until('lost', () => !bus.connected);
  expect(bus.publish('x', 'y')).toBe(false);
  await bus.close();
  expect(bus.publish('x', 'y')).toBe(false);
});
