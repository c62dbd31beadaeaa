/** A mirror has the messages of its origin, only later. Here it is on a leaf node that loses the link to its hub. */
import type { StreamConfig } from 'nats';
import { afterEach, expect, test } from 'vitest';
import type { Bus } from '../../../src/bus/connect.ts';
import { apiSubject } from '../../../src/bus/jetstream-api.ts';
import { MirrorLevel } from '../../../src/bus/read/mirror-level.ts';
import { manager } from '../../../src/bus/stream.ts';
import { startNats } from '../../../src/servers/nats.ts';
import { freePort } from '../../../src/servers/server-process.ts';
import { FaultProxy } from '../../faults/proxy.ts';
import { LIMIT_MS } from '../../limits.ts';
import { needsNats } from '../server-version.ts';
import { busAt, numbers, publishStored, settings, startReading, until } from '../support.ts';

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  while (stops.length > 0) await stops.pop()!();
});

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const add = async (bus: Bus, config: Partial<StreamConfig> & { name: string }) =>
  (await manager(bus)).streams.add(config);

/** ORIGIN is on the hub; its mirror METRICS is on the leaf. */
async function setUp() {
  const port = await freePort();
  const hub = await startNats({
    jetstreamExtra: 'domain: hub',
    extra: `leafnodes { listen: "127.0.0.1:${port}", no_advertise: true }`,
  });
  stops.push(() => hub.stop());
  const way = await FaultProxy.start(port);
  stops.push(() => way.stop());
  const remotes = `leafnodes { reconnect: 1, remotes: [ { url: "nats-leaf://127.0.0.1:${way.port}" } ] }`;
  const leaf = await startNats({ jetstreamExtra: 'domain: leaf', extra: remotes });
  stops.push(() => leaf.stop());
  const [atHub, atLeaf] = await Promise.all([busAt(hub.url), busAt(leaf.url)]);
  stops.push(() => Promise.all([atHub.close(), atLeaf.close()]));
  await add(atHub, { name: 'ORIGIN', subjects: ['metrics', 'metrics.>'] });
  const external = { api: '$JS.hub.API', deliver: '' };
  await add(atLeaf, { name: 'METRICS', mirror: { name: 'ORIGIN', external } });
  const core = settings({ NATS_URL: leaf.url, IDLE_SLACK: '50ms' });
  const reading = startReading(atLeaf, core, { kind: 'earliest' });
  stops.push(() => reading.stop());
  return { atHub, way, ...reading };
}

test('a mirror is read like its origin; idle time moves without lag, and waits while the origin is out of reach', async () => {
  const { atHub, way, reader, source } = await setUp();
  const told: number[] = [];
  const publish = async (from: number, to: number) => {
    for (let i = from; i < to; i++) {
      await atHub.connection.jetstream().publish('metrics', String(i), { timeout: LIMIT_MS });
      await sleep(30);
    }
  };
  reader.onMessage = () => told.push(reader.progressTimes.at(-1) ?? 0);
  await publishStored(atHub, 0, 100);
  await until('the first', () => reader.sequences.length === 100);
  for (let round = 0; round < 2; round++) {
    const now = Date.now();
    await until('idle', () => reader.progressTimes.at(-1)! > now);
    way.hang();
    const cut = Date.now();
    const { length } = reader.sequences;
    await publish(length, length + 20);
    await sleep(5_000);
    expect(reader.sequences).toHaveLength(length);
    expect(reader.progressTimes.at(-1)).toBeLessThan(cut);
    await way.pass();
    await until('the rest', () => reader.sequences.length === length + 20);
  }
  expect(reader.sequences).toEqual(numbers(1, 141));
  expect(reader.payloads).toEqual(numbers(0, 140).map(String));
  // No window had to be opened again.
  for (const [i, time] of reader.times.entries()) expect(told[i]).toBeLessThanOrEqual(time);
  expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
});

test('a mirror of which somebody makes a stream of its own moves on by itself', async (context) => {
  needsNats(context, '2.12');
  const nats = await startNats();
  stops.push(() => nats.stop());
  const bus = await busAt(nats.url);
  stops.push(() => bus.close());
  await add(bus, { name: 'ORIGIN', subjects: ['metrics', 'metrics.>'] });
  await add(bus, { name: 'METRICS', mirror: { name: 'ORIGIN' } });
  const core = settings({ NATS_URL: nats.url, IDLE_SLACK: '50ms' });
  const { reader, stop } = startReading(bus, core, { kind: 'earliest' });
  stops.push(stop);
  await publishStored(bus, 0, 10);
  await until('the first', () => reader.sequences.length === 10);
  const { streams } = await manager(bus);
  await streams.delete('ORIGIN');
  const { config } = await streams.info('METRICS');
  const { mirror: _, ...own } = config;
  // The client cannot say that there is no mirror any more.
  const changed = JSON.stringify({ ...own, subjects: ['metrics', 'metrics.>'] });
  await bus.connection.request(apiSubject(bus, 'STREAM.UPDATE', 'METRICS'), changed);
  await sleep(1_500);
  await publishStored(bus, 10, 20);
  await until('the rest', () => reader.sequences.length === 20);
  const now = Date.now();
  await until('idle', () => reader.progressTimes.at(-1)! > now);
});

test('the level of a mirror is its previous report, once it has heard from its origin again', () => {
  const level = new MirrorLevel();
  const well = { lag: 0, heardMsAgo: 10, isBroken: false };
  level.take(well, 1_000, 1_005);
  expect(level.at(2_000)).toBeUndefined();
  // Nothing was heard in between.
  level.take({ ...well, heardMsAgo: 1_010 }, 2_000, 2_005);
  expect(level.at(3_000)).toBeUndefined();
  level.take(well, 3_000, 3_005);
  expect(level.at(3_004)).toBeUndefined();
  expect(level.at(3_005)).toBe(990);
  // The known level stays valid. From here on, it needs two good reports again.
  for (const bad of [{ lag: 1 }, { isBroken: true }, { heardMsAgo: -1 }]) {
    level.take({ ...well, ...bad }, 4_000, 4_005);
    level.take(well, 5_000, 5_005);
    expect(level.at(6_000)).toBe(990);
  }
  level.take(well, 6_000, 6_005);
  expect(level.at(6_005)).toBe(4_990);
});
