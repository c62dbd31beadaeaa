/** Bursts of plain publishes of which the server drops some: the watch counts what `load --truth` says is missing. */
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { isNatsOlder } from '../../src/bus/nats-version.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, natsVersion, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { eventually } from './control-support.ts';
import { sample } from './support.ts';

/** FANOUT_BURSTS=10 repeats each of them. */
const RUNS = Array.from({ length: Number(process.env.FANOUT_BURSTS ?? 1) }, (_, i) => i + 1);
const MESSAGES = 50_000;
const folder = temporaryFolder('bursts');
let stops: (() => Promise<unknown>)[];

beforeEach(() => {
  stops = [];
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
});
afterAll(() => folder.remove());

/** Slices of the service on a server. Each listens all the time, and to all that is published. */
async function watching(
  jetstreamExtra = '',
): Promise<{ nats: NatsServer; slices: readonly ServiceProgram[] }> {
  const nats = await startNats({ jetstreamExtra });
  stops.push(() => nats.stop());
  const env = { NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true', WATCH_SHARE: '1' };
  const slices: ServiceProgram[] = [];
  for (const SLICE of ['0/2', '1/2']) {
    const service = await startServiceProgram({ ...env, SLICE });
    stops.push(() => service.stop());
    slices.push(service);
  }
  const client = await connect({ servers: nats.url });
  stops.push(() => client.close());
  for (const { status } of slices) {
    await eventually('it listens', async () => {
      await publish(client, 1);
      return (await status()).source.watch.heard > 0;
    });
  }
  return { nats, slices };
}

async function publish(client: NatsConnection, many: number): Promise<void> {
  for (let i = 0; i < many; i++)
    client.publish('metrics.other', JSON.stringify({ name: 'a', type: 'gauge', value: Math.random() }));
  await client.flush();
}

/** Returns how many of the messages the stream lacks when it is read back. */
async function load(nats: NatsServer, run: number): Promise<{ readonly lost: number }> {
  const burst = ['--rate', '0', '--count', `${MESSAGES}`];
  const truth = ['--truth', join(folder.path, 'truth.jsonl'), '--json', '--seed', `${run}`];
  const program = startProgram(['load', ...burst, ...truth], { NATS_URL: nats.url });
  await program.ended;
  return { lost: JSON.parse(program.output.stdout).not_stored };
}

/** What the watch says when it has judged the burst, and what came after it. */
async function judged({ status, url }: ServiceProgram, atLeast: number) {
  const watch = async () => (await status()).source.watch;
  await eventually('the burst is judged', async () => {
    const { heard, unstored } = await watch();
    return heard >= MESSAGES && unstored >= atLeast;
  });
  const { spans } = await watch();
  // A span waits for the stream; by then, those of the burst are over.
  await eventually('the spans after it', async () => (await watch()).spans >= spans + 12);
  const found = await watch();
  await eventually('the metric says so', async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return sample(text, 'fanout_bus_unstored_messages_total') === found.unstored;
  });
  return found;
}

test.for(RUNS)(
  'of a burst that is heard whole, each message that is dropped counts: run %i',
  async (run, context) => {
    needsNats(context, '2.11');
    const { nats, slices } = await watching('max_buffered_msgs: 500');
    const { lost } = await load(nats, run);
    expect(lost).toBeGreaterThan(0);
    for (const service of slices)
      expect(await judged(service, lost)).toMatchObject({ unstored: lost, unknownSpans: 0, error: 0 });
  },
);

test.for(RUNS)('of a burst of which the stream stores all, none: run %i', async (run) => {
  // By default, 2.11 drops what a stream is more than 10,000 messages behind with. Before, there is no limit.
  const isUnlimited = isNatsOlder(natsVersion(), '2.11');
  const { nats, slices } = await watching(isUnlimited ? '' : `max_buffered_msgs: ${2 * MESSAGES}`);
  const { lost } = await load(nats, run);
  expect(lost).toBe(0);
  for (const service of slices) {
    const found = await judged(service, 0);
    expect(found.unstored).toBe(0);
    // Whoever is busy may come too late to tell, and says so.
    if (found.unknownSpans > 0) expect(found.unknown).toBe('the stream is read too slowly');
  }
});
