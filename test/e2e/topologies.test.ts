/** Streams that are not made as the service makes them: it, and its commands, count each wanted message once. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { NatsConnection, StreamConfig } from 'nats';
import { afterAll, afterEach, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsOptions, type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { verifyConfirmed, WINDOWS } from './support.ts';

const WANTED = 60;
const OTHERS = 30;
const SAMPLE = '{"name":"a","type":"counter","value":1}';
const ALL = ['metrics.>', 'other.>'];

const folder = temporaryFolder('topologies');
const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});
afterAll(() => folder.remove());

async function server(options: NatsOptions = {}): Promise<{ nats: NatsServer; client: NatsConnection }> {
  const nats = await startNats(options);
  stops.push(() => nats.stop());
  const client = await connect({ servers: nats.url });
  stops.push(() => client.close());
  return { nats, client };
}

const streamsOf = async (client: NatsConnection) =>
  (await client.jetstreamManager({ timeout: LIMIT_MS })).streams;
const add = async (client: NatsConnection, config: Partial<StreamConfig> & { name: string }) =>
  (await streamsOf(client)).add(config);

/** Where the service reads METRICS, and where is published. */
interface Topology {
  readonly at: { readonly nats: NatsServer; readonly client: NatsConnection };
  readonly producers: NatsConnection;
}

async function onOneServer(
  ...configs: readonly (Partial<StreamConfig> & { name: string })[]
): Promise<Topology> {
  const at = await server();
  for (const config of configs) await add(at.client, config);
  return { at, producers: at.client };
}

/** EDGE is on a leaf node, and the hub has METRICS. */
async function onLeafAndHub(): Promise<Topology> {
  const port = await freePort();
  const hub = await server({ domain: 'hub', extra: `leafnodes { listen: "127.0.0.1:${port}" }` });
  const remotes = `leafnodes { remotes [ { url: "nats-leaf://127.0.0.1:${port}" } ] }`;
  const leaf = await server({ domain: 'leaf', extra: remotes });
  await add(leaf.client, { name: 'EDGE', subjects: ALL });
  const external = { api: '$JS.leaf.API', deliver: '' };
  await add(hub.client, { name: 'METRICS', sources: [{ name: 'EDGE', external }] });
  return { at: hub, producers: leaf.client };
}

const transformed = { name: 'METRICS', subjects: ALL, subject_transform: { src: '>', dest: 'stored.>' } };
const EDGE = { name: 'EDGE', subjects: ['other.>'] };

test.for([
  [
    'whose first sequence is 1,000',
    '2.10',
    'metrics.>',
    { name: 'METRICS', subjects: ALL, first_seq: 1_000 },
  ],
  ['with a transform, by what is published', '2.10', 'metrics.>', transformed],
  ['with a transform, by what is stored', '2.10', 'stored.metrics.>', transformed],
  [
    'with subjects and sources',
    '2.9',
    'metrics.>',
    EDGE,
    { name: 'METRICS', subjects: ['metrics.>'], sources: [{ name: 'EDGE' }] },
  ],
  [
    'that is a mirror',
    '2.9',
    'metrics.>',
    { name: 'ORIGIN', subjects: ALL },
    { name: 'METRICS', mirror: { name: 'ORIGIN' } },
  ],
] as const)('a stream %s', async ([, version, wanted, ...configs], context) => {
  needsNats(context, version);
  await expectAll(wanted, await onOneServer(...(configs as unknown as (typeof EDGE)[])));
});

test('a stream of a hub, made of those of leaf nodes', async () => {
  await expectAll('metrics.>', await onLeafAndHub());
});

/** What was published before the service starts is in its first windows. */
async function expectAll(METRICS_SUBJECTS: string, { at, producers }: Topology): Promise<void> {
  const from = Date.now() - 60_000;
  for (let i = 0; i < WANTED; i++) producers.publish('metrics.a', SAMPLE);
  for (let i = 0; i < OTHERS; i++) producers.publish('other.a', SAMPLE);
  const streams = await streamsOf(at.client);
  await eventually(
    'the stream has them',
    async () => (await streams.info('METRICS')).state.messages === WANTED + OTHERS,
  );
  const file = join(folder.path, `${at.nats.port}.db`);
  const sqlite = { SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: file };
  const env = { NATS_URL: at.nats.url, METRICS_SUBJECTS, ...WINDOWS, ...sqlite };
  const service = await startServiceProgram(env);
  stops.push(() => service.stop('SIGKILL'));
  const end = Date.now() + 1_000;
  await service.untilConfirmed(end);
  expect(rows(file)).toEqual({ samples: WANTED, sum: WANTED });
  const { messages, source } = await service.status();
  expect(messages.received).toBe(WANTED);
  expect(source).toMatchObject({ gaps: 0, unfit: null });
  const span = ['--from', new Date(from).toISOString(), '--to', new Date(end).toISOString()];
  const counting = startProgram(['count', ...span], env);
  expect(await counting.ended).toBe(0);
  expect(counting.output.stdout).toContain(`${WANTED} samples from ${WANTED} messages`);
  const { code, stderr, report } = await verifyConfirmed(span, env);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(report!.sinks[0]!.rows).toMatchObject({ missing: 0, extra: 0, different: 0 });
  expect(report!.sinks[0]!.rows.equal).toBeGreaterThan(0);
}

function rows(file: string) {
  const database = new DatabaseSync(file, { readOnly: true, timeout: LIMIT_MS });
  try {
    const row = database.prepare('SELECT sum(count) AS samples, sum(sum) AS sum FROM points').get()!;
    return { samples: row.samples, sum: row.sum };
  } finally {
    database.close();
  }
}
