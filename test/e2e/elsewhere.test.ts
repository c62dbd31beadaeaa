/** JetStream is elsewhere than the service signs in: in the domain of a hub of a leaf node, or in another account. */
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { counted as amountOf } from '../../src/base/number-format.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { verifyConfirmed, WINDOWS } from './support.ts';

const MESSAGES = 5_000;
const USER = 'fanout';

interface Topology {
  /** Settings with which the service signs in and finds JetStream. */
  readonly env: Readonly<Record<string, string>>;
  /** Where JetStream is. */
  readonly home: NatsConnection;
  /** Where the service signs in, and where the producers are. */
  readonly away: NatsConnection;
  readonly servers: readonly NatsServer[];
}

/** A leaf node with a JetStream of its own. */
async function startLeaf(): Promise<Topology> {
  const port = await freePort();
  const hub = await startNats({ domain: 'hub', extra: `leafnodes { listen: "127.0.0.1:${port}" }` });
  const remotes = `leafnodes { remotes [ { url: "nats-leaf://127.0.0.1:${port}" } ] }`;
  const leaf = await startNats({ domain: 'leaf', extra: remotes });
  const [home, away] = [await connect({ servers: hub.url }), await connect({ servers: leaf.url })];
  const env = { NATS_URL: leaf.url, NATS_JETSTREAM_DOMAIN: 'hub' };
  const hubs = await away.jetstreamManager({ domain: 'hub', checkAPI: false, timeout: LIMIT_MS });
  await eventually('the leaf node has found its hub', () =>
    hubs.getAccountInfo().then(
      () => true,
      () => false,
    ),
  );
  return { env, home, away, servers: [leaf, hub] };
}

/** As in docs/security.md, except that the producers are in the account of the service. */
async function startImport(): Promise<Topology> {
  const nats = await startNats({
    extra: `accounts {
      METRICS {
        jetstream: enabled
        users: [ { user: home, password: home } ]
        imports: [
          { stream: { account: SERVICE, subject: "metrics" } }
          { stream: { account: SERVICE, subject: "metrics.>" } }
        ]
        exports: [
          { service: "$JS.API.STREAM.>", accounts: [SERVICE] }
          { service: "$JS.API.CONSUMER.>", response_type: stream, accounts: [SERVICE] }
          { service: "$KV.fanout-checkpoints.>", accounts: [SERVICE] }
        ]
      }
      SERVICE {
        users: [ { user: ${USER}, password: ${USER} } ]
        exports: [
          { stream: "metrics", accounts: [METRICS] }
          { stream: "metrics.>", accounts: [METRICS] }
        ]
        imports: [
          { service: { account: METRICS, subject: "$JS.API.STREAM.>" }, to: "hub.js.STREAM.>" }
          { service: { account: METRICS, subject: "$JS.API.CONSUMER.>" }, to: "hub.js.CONSUMER.>" }
          { service: { account: METRICS, subject: "$KV.fanout-checkpoints.>" }, to: "hub.js.$KV.fanout-checkpoints.>" }
        ]
      }
    }`,
  });
  const as = (user: string) => connect({ servers: nats.url, user, pass: user });
  const env = {
    NATS_URL: nats.url,
    NATS_USER: USER,
    NATS_PASSWORD: USER,
    NATS_JETSTREAM_API_PREFIX: 'hub.js',
  };
  return { env, home: await as('home'), away: await as(USER), servers: [nats] };
}

describe.each([
  ['a domain behind a leaf node', startLeaf],
  ['the API of another account, under a prefix', startImport],
])('%s', (_, start) => {
  const folder = temporaryFolder('elsewhere');
  let topology: Topology;
  let env: Record<string, string>;
  let service: ServiceProgram;

  beforeAll(async () => {
    topology = await start();
    const sqlite = { SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: join(folder.path, 'fanout.db') };
    env = { ...topology.env, ...WINDOWS, ...sqlite, VERIFY_SHARE: '1', VERIFY_REPLAY_SHARE: '1' };
    service = await startServiceProgram(env);
  });
  afterAll(async () => {
    await service?.stop('SIGKILL');
    await Promise.all([topology?.home, topology?.away].map((connection) => connection?.close()));
    await Promise.all(topology?.servers.map((server) => server.stop()) ?? []);
    folder.remove();
  });

  const manager = () => topology.home.jetstreamManager({ timeout: LIMIT_MS });

  async function produce(): Promise<void> {
    const held = async () => (await (await manager()).streams.info('METRICS')).state.messages;
    const before = await held();
    for (let i = 0; i < MESSAGES; i++)
      topology.away.publish('metrics.a', `{"name":"n${i % 7}","type":"counter","value":1}`);
    await topology.away.flush();
    await eventually('the stream has them', async () => (await held()) === before + MESSAGES);
  }

  async function run(...args: string[]) {
    const program = startProgram(args, env);
    return { code: await program.ended, ...program.output };
  }

  test('the service reads, continues at its checkpoints after a restart, and answers control', async () => {
    await produce();
    await service.untilConfirmed(Date.now() + 1000);
    expect(await service.stop()).toBe(0);
    await produce();
    service = await startServiceProgram({ ...env, HTTP_PORT: new URL(service.url).port });
    expect(service.output.stderr).toContain('the sink continues from its checkpoint');
    await service.untilConfirmed(Date.now() + 1000);
    await eventually('control is on the bus', async () => (await service.status()).control.onBus);
    expect((await run('ctl', 'status', '--all', '--json')).code).toBe(0);
    expect(service.output.stderr).not.toMatch(/"level":"(warn|error)"/);
  });

  test('the commands find the stream and the checkpoints there', async () => {
    const from = new Date(Date.now() - 300_000).toISOString();
    const checked = await run('check');
    expect(checked).toMatchObject({ code: 0, stderr: '' });
    const api = topology.env.NATS_JETSTREAM_API_PREFIX ?? '$JS.hub.API';
    expect(checked.stdout).toContain(`, JetStream under ${api}`);
    const counted = await run('count', '--from', from);
    expect(counted).toMatchObject({ code: 0, stderr: '' });
    expect(counted.stdout).toContain(
      `${amountOf(2 * MESSAGES, 'sample')} from ${amountOf(2 * MESSAGES, 'message')}`,
    );
    expect(await verifyConfirmed(['--from', from], env)).toMatchObject({ code: 0, stderr: '' });
    expect(await run('replay', '--sink', 'sqlite', '--from', from)).toMatchObject({ code: 0, stderr: '' });
  });

  test('everything was created there, and no consumer is left', async () => {
    expect(await service.stop()).toBe(0);
    const jsm = await manager();
    const streams = await jsm.streams.list().next();
    expect(streams.map(({ config }) => config.name).sort()).toEqual(['KV_fanout-checkpoints', 'METRICS']);
    await eventually('no consumer', async () =>
      (await jsm.streams.list().next()).every(({ state }) => state.consumer_count === 0),
    );
    // The leaf node has its own JetStream; the other account has none.
    const local = await topology.away.jetstreamManager({ checkAPI: false, timeout: LIMIT_MS });
    const found = await local.streams
      .list()
      .next()
      .catch(({ code }: { code: string }) => code);
    expect(found).toEqual(topology.servers.length > 1 ? [] : '503');
  });

  test('if nothing answers, the advice names the settings', async () => {
    const { NATS_JETSTREAM_DOMAIN, NATS_JETSTREAM_API_PREFIX, ...plain } = env;
    const program = startProgram(['run'], { ...plain, HTTP_PORT: '0', NATS_JETSTREAM_DOMAIN: 'nowhere' });
    expect(await program.ended).toBe(1);
    expect(program.output.stderr).toMatch(/check NATS_JETSTREAM_DOMAIN.*no JetStream/);
  });
});
