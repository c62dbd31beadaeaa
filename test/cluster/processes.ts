/**
 * The chart's pods as real processes, against a real bus and a real store, while traffic goes on: rolling updates, a
 * drain, `kubectl scale`, standbys. At the end, the store must hold exactly what was sent.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../../src/config/config.ts';
import { EXIT_CONFIG } from '../../src/config/config-error.ts';
import { startNats } from '../../src/servers/nats.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { compareSinks, isEqual } from '../../src/verify/rows.ts';
import { startTraffic, WINDOW_MS, WINDOWS } from '../chaos/traffic.ts';
import { merged, type Values } from '../helm/chart.ts';
import { ROOT } from '../projects.ts';
import type { ApiServer } from './api-server.ts';
import { type Kubelet, NODES, startKubelet } from './kubelet.ts';
import { type Release, type Say, until } from './release.ts';

const MAIN = join(ROOT, 'dist', 'src', 'bin.js');
const TRAFFIC = { seed: 3, rate: 200, series: 50 } as const;
const DATABASE = 'fanout';
const NEW_WINDOW = '2s';
/** How many windows of a missing slice are looked at. */
const MISSING_WINDOWS = 6;
/** What a pod that stops hands over, and what was open then. */
const HANDED_OVER_WINDOWS = 5;
const LOOK_MS = 50;
const WAIT = ['--wait', '--timeout', '10m'] as const;
const SET = 'statefulset/shop-metrics-fanout';

interface Scene {
  readonly release: Release;
  readonly kubelet: Kubelet;
  readonly postgres: Postgres;
  readonly values: Values;
  readonly say: Say;
}

export async function processes(api: ApiServer, release: Release, say: Say): Promise<void> {
  execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.ts')], { stdio: 'ignore' });
  const [nats, postgres, port] = await Promise.all([startNats(), startPostgres(), freePort()]);
  api.leave(release.namespace);
  const kubelet = await startKubelet(api, release.namespace, MAIN);
  const url = await postgres.createDatabase(DATABASE);
  const { WINDOW: window, LATENESS: lateness, MAX_AHEAD: maxAhead, METRICS_START: metricsStart } = WINDOWS;
  const values = {
    replicas: 2,
    service: { port },
    settings: { natsUrl: nats.url, window, lateness, maxAhead, metricsStart },
    sinks: { postgres: { enabled: true, secrets: { url } } },
  };
  const scene = { release, kubelet, postgres, values, say };
  const env = { ...WINDOWS, NATS_URL: nats.url, SINK_POSTGRES_ENABLED: 'true', SINK_POSTGRES_URL: url };
  try {
    await install(scene);
    const traffic = startTraffic(TRAFFIC, env, join(api.folder, `${release.namespace}.jsonl`));
    try {
      await traffic.begun();
      await rollOut(scene);
      await drain(scene);
      await scale(scene);
      await moreSlices(scene);
      await hotStandbys(scene);
      const { truth, messages } = await traffic.end(new AbortController().signal);
      const { sinks } = await loadConfig(env);
      const compare = async () => (await compareSinks(sinks, truth, WINDOW_MS)).get('postgres')!;
      await until(async () => isEqual(await compare()));
      const result = await compare();
      say(
        `the store holds exactly the ${truth.length} rows of ${messages} messages`,
        isEqual(result) && result.points === truth.length ? undefined : JSON.stringify(result),
      );
    } finally {
      await traffic.kill();
    }
    await ends(scene);
  } finally {
    await kubelet.stop();
    await Promise.all([nats.stop(), postgres.stop()]);
  }
}

/** By name, which pods there are. */
async function uids({ release }: Scene): Promise<ReadonlyMap<string, string>> {
  const pods = (await release.pods()) as unknown as { metadata: { name: string; uid: string } }[];
  return new Map(pods.map(({ metadata }) => [metadata.name, metadata.uid]));
}

const isServing = ({ kubelet }: Scene, pods: number) =>
  until(async () => kubelet.pods.length === pods && kubelet.pods.every(({ isReady }) => isReady));

/** Applies values on top of those of the scene. Says what helm said if it failed. */
async function upgrade(
  { release, values }: Scene,
  more: Values,
  ...options: readonly string[]
): Promise<string | undefined> {
  const { code, text } = await release.apply(merged(values, more), ...WAIT, ...options);
  return code === 0 ? undefined : text;
}

async function install(scene: Scene): Promise<void> {
  const { release, kubelet, say } = scene;
  say('processes: helm --wait waits until both pods are ready', await upgrade(scene, {}));
  say('they are', kubelet.pods.filter(({ isReady }) => isReady).length === 2 ? undefined : 'they are not');
  await release.helm('test', 'shop', '--timeout', '10m');
  const check = kubelet.ends.find(({ pod }) => pod.endsWith('-check'));
  say(
    'the check of helm test passes',
    check?.code === 0 ? undefined : JSON.stringify(check ?? 'it was not run'),
  );
}

/** Runs `change`. `alone`: the slices, given as ends of pods' names, of which at some moment no pod was ready. */
async function watched<T>(
  { kubelet }: Scene,
  slices: readonly string[],
  change: () => Promise<T>,
): Promise<{ result: T; alone: readonly string[] }> {
  const alone = new Set<string>();
  let isOver = false;
  const watching = (async () => {
    for (; !isOver; await sleep(LOOK_MS))
      for (const slice of slices)
        if (!kubelet.pods.some(({ name, isReady }) => isReady && name.endsWith(slice))) alone.add(slice);
  })();
  const result = await change().finally(() => {
    isOver = true;
  });
  await watching;
  return { result, alone: [...alone] };
}

async function rollOut(scene: Scene): Promise<void> {
  const { say } = scene;
  const before = await uids(scene);
  // No moment without any pod.
  const { result, alone } = await watched(scene, [''], () =>
    upgrade(scene, { settings: { logLevel: 'warn' } }),
  );
  const after = await uids(scene);
  const kept = [...after].filter(([name, uid]) => before.get(name) === uid);
  const isWell = after.size === 2 && kept.length === 0 && alone.length === 0;
  say('a changed setting replaces the pods, one by one', result ?? (isWell ? undefined : `${kept} ${alone}`));
}

/** Each of the nodes in turn; the second one has both pods by then. */
async function drain(scene: Scene): Promise<void> {
  const { release, say } = scene;
  for (const node of NODES) {
    const before = await uids(scene);
    const { result, alone } = await watched(scene, [''], () =>
      release.kubectl('drain', node, '--ignore-daemonsets', '--delete-emptydir-data'),
    );
    const isBack = await isServing(scene, 2);
    const moved = [...(await uids(scene))].filter(([name, uid]) => before.get(name) !== uid).length;
    const isWell = result.code === 0 && isBack && alone.length === 0 && moved === (node === NODES[0] ? 1 : 2);
    say(`kubectl drain ${node} moves its pods, one by one`, isWell ? undefined : `${moved}: ${result.text}`);
    await release.kubectl('uncordon', node);
  }
}

/** What the chart's README says about `kubectl scale`. */
async function scale(scene: Scene): Promise<void> {
  const { release, kubelet, say } = scene;
  const before = await uids(scene);
  await release.kubectl('scale', SET, '--replicas=3');
  const surplus = () => kubelet.ends.find(({ pod, code }) => pod.endsWith('-2') && code === EXIT_CONFIG);
  await until(async () => surplus() !== undefined);
  const isSaid = surplus()?.output.includes('SLICE') === true;
  say(
    'one pod too many exits with 78 and says so',
    isSaid ? undefined : (surplus()?.output ?? 'it does not'),
  );
  const after = await uids(scene);
  const isKept = [...before].every(([name, uid]) => after.get(name) === uid);
  say(
    'the others go on',
    isKept && kubelet.pods.filter((one) => one.isReady).length === 2 ? undefined : 'no',
  );
  await release.kubectl('scale', SET, '--replicas=1');
  await isServing(scene, 1);
  const from = (await windowsSince(scene, 0)).at(-1)! + HANDED_OVER_WINDOWS;
  const written = async (slice: number) =>
    (await windowsSince(scene, from)).filter((number) => number % 2 === slice).length;
  await until(async () => (await written(0)) >= MISSING_WINDOWS);
  const early = await written(1);
  say('one pod too few leaves its windows unwritten', early === 0 ? undefined : `${early} are written`);
  await release.kubectl('scale', SET, '--replicas=2');
  const isWritten = await until(async () => (await written(1)) >= MISSING_WINDOWS);
  say('until it is back', isWritten ? undefined : 'they are not written');
  await isServing(scene, 2);
  say(
    'after scaling back, the next upgrade is taken',
    await upgrade(scene, { settings: { logLevel: 'info' } }),
  );
}

/** The numbers of the windows in the store, from one on. */
async function windowsSince({ postgres }: Scene, from: number): Promise<readonly number[]> {
  const number = `(extract(epoch from window_start) * 1000 / ${WINDOW_MS})::bigint`;
  const { rows } = await postgres.execute(
    `select distinct ${number} as number from fanout_points where ${number} >= ${from} order by number`,
    DATABASE,
  );
  return rows.map((row) => Number(row.number));
}

/** `kubectl scale` has left its mark: Helm 4 takes the first other number after it for a conflict. */
async function moreSlices(scene: Scene): Promise<void> {
  const { say } = scene;
  const refused = await upgrade(scene, { replicas: 3 });
  const problem = refused?.includes('conflict')
    ? await upgrade(scene, { replicas: 3 }, '--force-conflicts')
    : refused;
  say('helm makes three slices of two', problem ?? ((await isServing(scene, 3)) ? undefined : 'not ready'));
}

/** A standby works on while the primary pod of its slice is replaced. Old and new windows have a boundary in common. */
async function hotStandbys(scene: Scene): Promise<void> {
  const { say, postgres } = scene;
  const standby = { replicas: 2, standby: 1 };
  const problem = await upgrade(scene, standby);
  say(
    'and two of three, each with a standby',
    problem ?? ((await isServing(scene, 4)) ? undefined : 'not ready'),
  );
  const changed = merged(standby, { settings: { window: NEW_WINDOW, changeDelay: '5s' } });
  const { result, alone } = await watched(scene, ['-0', '-1'], () => upgrade(scene, changed));
  await isServing(scene, 4);
  say(
    'with a standby, other windows leave no slice without a ready pod',
    result ?? (alone.length === 0 ? undefined : `slices ${alone}`),
  );
  const areWritten = await until(async () => {
    const { rows } = await postgres.execute(
      `select from fanout_points where window_ms <> ${WINDOW_MS} limit 1`,
      DATABASE,
    );
    return rows.length > 0;
  });
  say('and the new windows are written', areWritten ? undefined : 'they are not');
}

/** SIGTERM ends a process well, and nothing else ends one. */
async function ends(scene: Scene): Promise<void> {
  const { release, kubelet, say } = scene;
  await release.helm('uninstall', 'shop', '--wait');
  await until(async () => kubelet.pods.length === 0);
  // The pod that was one too many.
  const surplus = new Set(
    kubelet.ends.filter(({ pod, code }) => pod.endsWith('-2') && code === EXIT_CONFIG).map(({ uid }) => uid),
  );
  const isWell = ({ pod, uid, code, wasAsked }: (typeof kubelet.ends)[number]) =>
    surplus.has(uid) || (code === 0 && (wasAsked || pod.endsWith('-check')));
  const bad = kubelet.ends.filter((end) => !isWell(end));
  say(
    `${kubelet.ends.length} processes ended as they should`,
    bad.length === 0 ? undefined : JSON.stringify(bad[0]),
  );
}
