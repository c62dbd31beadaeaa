import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBucket } from '../../src/bus/kv/bucket.ts';
import { loadConfig } from '../../src/config/config.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { compareSinks, isEqual } from '../../src/verify/rows.ts';
import { busAt } from '../bus/support.ts';
import { LIMIT_MS } from '../limits.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { untilConfirmed } from './heal.ts';
import { Instances } from './instances.ts';
import { type RunningTraffic, startTraffic, WINDOW_MS, WINDOWS } from './traffic.ts';

const BUCKET_STREAM = 'KV_fanout-checkpoints';
const KILLS = Number(process.env.CLUSTER_KILLS ?? 3);
const DOWN_MS = 4_000;
const BETWEEN_MS = 3_000;
/** Enough to compare: the bus accepts nothing while it elects a leader, which takes longer on a busy machine. */
const LEAST_MESSAGES = 3_000;
/**
 * Rounds. In a third of them, a server that stood still while others wrote answers before it has caught up.
 */
const LAGS = 20;
const WRITES = 50;
const LAG_MS = 50;

const folder = temporaryFolder('cluster');
let cluster: Cluster;
let instances: Instances | undefined;
let traffic: RunningTraffic | undefined;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(async () => {
  await Promise.all([instances?.stop('SIGKILL'), traffic?.kill()]);
  await cluster?.stop();
  folder.remove();
});

async function leader(stream: string) {
  for (const deadline = Date.now() + LIMIT_MS; ; await sleep(200)) {
    const server = await cluster.leaderOf(stream);
    if (server !== undefined) return server;
    if (Date.now() > deadline) throw new Error(`${stream} has no leader`);
  }
}

test('the leader of three servers is killed again and again: in the end, the store equals the truth', async () => {
  await cluster.addStream('METRICS', ['metrics', 'metrics.>']);
  const env = {
    NATS_URL: cluster.url,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
    ...WINDOWS,
  };
  traffic = startTraffic({ seed: 1, rate: 1_500, series: 300 }, env, join(folder.path, 'truth.jsonl'));
  instances = new Instances(env);
  instances.keep();
  await traffic.begun();
  await sleep(BETWEEN_MS);
  for (let kill = 0; kill < KILLS; kill++) {
    // The leader of the checkpoints too, which may be another server.
    const victim = await leader(kill % 2 === 0 ? 'METRICS' : BUCKET_STREAM);
    await victim.halt('SIGKILL');
    // A service that starts now finds two servers, and possibly no leader yet.
    if (kill % 2 === 1) await instances.end(instances.running[0]!, 'SIGKILL');
    await sleep(DOWN_MS);
    await victim.resume();
    await sleep(BETWEEN_MS);
  }
  await leader('METRICS');
  await expect.poll(async () => (await cluster.messagesOf('METRICS')) ?? 0).toBeGreaterThan(LEAST_MESSAGES);
  const { held, truth, end } = await traffic.end(new AbortController().signal);
  expect(await untilConfirmed(instances, end, LIMIT_MS, new AbortController().signal)).toEqual([]);
  // Otherwise, the bucket would be lost together with the only server that holds it.
  expect(await cluster.replicasOf(BUCKET_STREAM)).toBe(cluster.servers.length);
  await instances.stop('SIGTERM');
  expect(instances.failures).toEqual([]);
  expect(held).toBeGreaterThan(LEAST_MESSAGES);
  const sqlite = (await compareSinks((await loadConfig(env)).sinks, truth, WINDOW_MS)).get('sqlite')!;
  expect(isEqual(sqlite), JSON.stringify(sqlite)).toBe(true);
  expect(sqlite.points).toBe(truth.length);
});

test('a read of the bucket returns the last write, whichever server is asked and however much it lags', async () => {
  const anywhere = await busAt(cluster.url);
  await expect.poll(() => openBucket(anywhere, cluster.servers.length)).toBeDefined();
  const leading = await leader(BUCKET_STREAM);
  const lagging = cluster.servers.find((server) => server !== leading)!;
  const [writer, reader] = [await busAt(leading.url), await busAt(lagging.url)];
  const [written, read] = await Promise.all(
    [writer, reader].map((bus) => openBucket(bus, cluster.servers.length)),
  );
  for (let round = 0; round < LAGS; round++) {
    lagging.signal('SIGSTOP');
    let last = 0;
    for (let i = 0; i < WRITES; i++) last = await written!.put('lag', `${round}.${i}`);
    const entry = read!.get('lag');
    await sleep(LAG_MS);
    lagging.signal('SIGCONT');
    expect((await entry)!.revision).toBe(last);
  }
  await Promise.all([anywhere, writer, reader].map((bus) => bus.close()));
});
