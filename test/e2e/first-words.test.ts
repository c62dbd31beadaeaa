/** The first message of a service that the bus refuses: the cause, not its consequences. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsOptions, type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Certificates, makeCertificates } from '../bus/credentials.ts';
import { eventually } from './control-support.ts';
import { WINDOWS } from './support.ts';

const folder = temporaryFolder('first-words');
const sqlite = { SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: join(folder.path, 'fanout.db') };
const servers: NatsServer[] = [];
const services: ServiceProgram[] = [];
let certificates: Certificates;

beforeAll(() => {
  certificates = makeCertificates(folder.path);
});
afterAll(async () => {
  await Promise.all(services.map((service) => service.stop('SIGKILL')));
  await Promise.all(servers.map((server) => server.stop()));
  folder.remove();
});

async function bus(options: NatsOptions): Promise<NatsServer> {
  const server = await startNats(options);
  servers.push(server);
  return server;
}

/** The output of a service that ends, without the info lines. */
async function complaints(env: Record<string, string>): Promise<string[]> {
  const program = startProgram(['run'], { HTTP_HOST: '127.0.0.1', HTTP_PORT: '0', ...sqlite, ...env });
  expect(await program.ended).toBe(1);
  return program.output.stderr.split('\n').filter((line) => line !== '' && !line.includes('"level":"info"'));
}

const NO_JETSTREAM = 'accounts { BARE { users: [ { user: fan, password: right } ] } }';

test.each([
  ['a wrong password', { auth: { kind: 'user', user: 'fan', password: 'right' } }, /refused the sign-in/],
  ['an account without JetStream', { extra: NO_JETSTREAM }, /no JetStream to this account/],
] as const)('%s', async (what, options, cause) => {
  const { url } = await bus(options);
  const password = what === 'a wrong password' ? 'wrong' : 'right';
  const said = await complaints({ NATS_URL: url, NATS_USER: 'fan', NATS_PASSWORD: password });
  expect(said).toHaveLength(1);
  expect(JSON.parse(said[0]!)).toMatchObject({
    msg: expect.stringMatching(cause),
    advice: expect.any(String),
  });
});

test.each(['otherCa', 'ca'] as const)('one side does not trust the other: %s', async (ca) => {
  const isMutual = ca === 'ca';
  const tls = { ...certificates.server, ...(isMutual ? { ca: certificates.ca } : {}) };
  const { port } = await bus({ tls });
  const said = await complaints({
    NATS_URL: `tls://127.0.0.1:${port}`,
    NATS_TLS_CA_FILE: certificates[ca],
  });
  const cause = isMutual ? /asks clients for a certificate/ : /no TLS connection/;
  expect(said).toHaveLength(1);
  expect(JSON.parse(said[0]!)).toMatchObject({
    msg: expect.stringMatching(cause),
    advice: expect.any(String),
  });
});

test('a fault that keeps only control off the bus is logged with its own advice', async () => {
  const { url } = await bus({ extra: 'max_connections: 1' });
  const service = await startServiceProgram({ NATS_URL: url, ...WINDOWS, ...sqlite });
  services.push(service);
  await eventually('it is logged', async () => service.output.stderr.includes('no control over the bus'));
  const [line] = service.output.stderr.split('\n').filter((text) => text.includes('no control over the bus'));
  expect(JSON.parse(line!)).toMatchObject({
    level: 'warn',
    error: expect.stringMatching(/maximum connections exceeded/),
    advice: expect.stringMatching(/max_connections/),
  });
  expect(await service.status()).toMatchObject({ ready: true, control: { onBus: false } });
});

test('for people, lines of the log are text, and the last one says what to do below it', async () => {
  const { url } = await bus({ extra: NO_JETSTREAM });
  const said = await complaints({
    NATS_URL: url,
    NATS_USER: 'fan',
    NATS_PASSWORD: 'right',
    LOG_FORMAT: 'text',
  });
  const lines = said.join('\n');
  expect(lines).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} INFO {2}listening .*dashboard="?http:\/\/127\.0\.0\.1:\d+\/"?/,
  );
  expect(lines).toMatch(/metrics-fanout: .*no JetStream to this account\n {2}Enable JetStream/);
});
