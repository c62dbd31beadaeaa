/** The chart with every sink and three replicas. Its pods run as processes of their own against real servers. */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ALL_FIELDS } from '../../src/aggregate/point.ts';
import { loadConfig } from '../../src/config/config.ts';
import { type ClickHouse, startClickHouse } from '../../src/servers/clickhouse.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type Prometheus, startPrometheus, startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import { freePort, type Server } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { compareSinks, compareWithTruth, isEqual } from '../../src/verify/rows.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { CHART, type KubernetesObject, startRenderer, type Values } from '../helm/chart.ts';
import { type Cluster, clusterOf, podOf, processOf } from '../helm/pod.ts';
import { dashboardQueries } from '../helm/queries.ts';
import { KEY, type Receiver, startReceiver } from '../sinks/otlp-receiver.ts';
import { ctl } from './control-support.ts';
import { endOf, startTraffic, WINDOW_MS } from './support.ts';

const REPLICAS = 3;
const CLICKHOUSE = { user: 'fanout', password: 'a <secret> & more' };
/** Sinks that no other pod sees, or that nobody can read. */
const NOT_SHARED = ['sqlite', 'otlp', 'nats', 'blackhole'];

interface Pod {
  readonly env: Readonly<Record<string, string>>;
  service: ServiceProgram;
}

let stack: Stack;
let clickhouse: ClickHouse;
let remote: Server;
let receiver: Receiver;
let objects: readonly KubernetesObject[];
let cluster: Cluster;
const pods: Pod[] = [];
let prometheus: Prometheus | undefined;

/** Values as a user of these servers would write them: some secrets in the values, some in a Secret of their own. */
function valuesFor(stack: Stack): Values {
  const { env } = stack;
  return {
    replicas: REPLICAS,
    stopTimeoutSeconds: 5,
    settings: {
      natsUrl: stack.nats.url,
      metricsStart: 'earliest',
      window: '1s',
      lateness: '500ms',
      maxAhead: '500ms',
      // With the default budget, eleven sinks do not fit the default memory limit.
      maxSeriesBytes: '24MB',
      verifyShare: 1,
      verifyDelay: '1s',
    },
    sinks: {
      influxdb: { enabled: true, settings: { api: 'v1', url: stack.influxdb.url, database: 'fanout' } },
      redshift: { enabled: true, secrets: { url: { secretName: 'stores', key: 'redshift' } } },
      postgres: {
        enabled: true,
        settings: { partition: 'day' },
        secrets: { url: { secretName: 'stores', key: 'postgres' } },
      },
      // On a volume that all pods mount.
      parquet: { enabled: true, settings: { url: pathToFileURL(join(stack.folder, 'lake')).href } },
      dynamodb: {
        enabled: true,
        settings: { endpoint: stack.dynamodb.url, region: env.SINK_DYNAMODB_REGION },
      },
      sqlite: { enabled: true },
      clickhouse: {
        enabled: true,
        settings: { url: clickhouse.url, user: CLICKHOUSE.user },
        secrets: { password: CLICKHOUSE.password },
      },
      prometheus: { enabled: true, settings: { url: `${remote.url}/api/v1/write` } },
      otlp: { enabled: true, settings: { url: receiver.url }, secrets: { headers: `api-key=${KEY}` } },
      nats: { enabled: true, settings: { delivery: 'core' } },
      blackhole: { enabled: true },
    },
    extraEnvFrom: [{ secretRef: { name: 'aws' } }],
  };
}

/** In a cluster, every pod has its own network, where the port is free. Here they share one network. */
async function startPod(ordinal: number): Promise<Pod> {
  const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
  const pod = podOf(set!, ordinal, cluster, join(stack.folder, `pod-${ordinal}`));
  const env = { ...pod.env, HTTP_HOST: '127.0.0.1', HTTP_PORT: String(await freePort()) };
  return { env, service: await startServiceProgram(env) };
}

beforeAll(async () => {
  [stack, clickhouse, remote, receiver] = await Promise.all([
    startStack(),
    startClickHouse(CLICKHOUSE),
    startPrometheusReceiver({ outOfOrder: '1h' }),
    startReceiver(),
  ]);
  const renderer = startRenderer();
  try {
    const [rendered] = renderer.render([valuesFor(stack)]);
    if (typeof rendered !== 'object') throw new Error(rendered);
    objects = rendered.objects;
  } finally {
    renderer.remove();
  }
  const { AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '', SINK_REDSHIFT_URL = '' } = stack.env;
  cluster = clusterOf(objects, {
    'secret stores': {
      redshift: SINK_REDSHIFT_URL,
      postgres: await stack.postgres.createDatabase('fanout_pg'),
    },
    'secret aws': { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY },
  });
  pods.push(...(await Promise.all(Array.from({ length: REPLICAS }, (_, ordinal) => startPod(ordinal)))));
  prometheus = await startPrometheus(
    pods.map(({ service }) => service.url),
    join(CHART, 'rules', 'metrics-fanout.yaml'),
  );
});
afterAll(async () => {
  await Promise.all(pods.map(({ service }) => service.stop('SIGKILL')));
  await Promise.all([prometheus, stack, clickhouse, remote, receiver].map((one) => one?.stop()));
});

/** As with `kubectl exec`: in the environment of the pod. The bus is out of reach, so only the socket is left. */
test('ctl in a pod reaches its instance without a token; over the port, it does not', async () => {
  const [{ env, service }] = pods as [Pod];
  const asked = await ctl({ ...env, NATS_URL: 'nats://127.0.0.1:1' }, 'status', '--json');
  const { instance } = await service.status();
  expect(asked, asked.stderr).toMatchObject({ code: 0, answers: [{ via: 'socket', instance }] });
  const forwarded = await ctl(env, 'detach', '--url', service.url);
  expect(forwarded).toMatchObject({ code: 1, stdout: expect.stringContaining('CONTROL_TOKEN') });
});

interface RulesAnswer {
  readonly data: { readonly groups: { readonly rules: { name: string; health: string; state: string }[] }[] };
}

let truth: TruthRow[];
const equal = (result: Parameters<typeof isEqual>[0], name: string) =>
  expect(isEqual(result), `${name}: ${JSON.stringify(result)}`).toBe(true);

test('the pods write the truth to every store, even if one of them is killed', async () => {
  const traffic = startTraffic(stack, ['--rate', '1500', '--series', '100', '--late', '0.05']);
  await sleep(3000);
  await pods[1]!.service.stop('SIGKILL');
  // The StatefulSet starts it again, with the same volumes.
  pods[1]!.service = await startServiceProgram(pods[1]!.env);
  await sleep(3000);
  truth = await traffic.end();
  await Promise.all(pods.map(({ service }) => service.untilConfirmed(endOf(truth))));

  for (const [name, value] of Object.entries(pods[0]!.env))
    if (name.startsWith('AWS_')) process.env[name] = value;
  const { sinks } = await loadConfig(pods[0]!.env);
  expect(sinks.length).toBe(11);
  const shared = sinks.filter(({ id }) => !NOT_SHARED.includes(id));
  for (const [id, result] of await compareSinks(shared, truth, WINDOW_MS)) {
    equal(result, id);
    expect(result.points, id).toBe(truth.length);
  }
  const received = (await (await fetch(`${receiver.url}/read`)).json()) as StoredPoint[];
  equal(await compareWithTruth(truth, toStream(received)), 'otlp');
});

test("each pod's SQLite file holds the windows of its slice", async () => {
  const sizes = await Promise.all(
    pods.map(async ({ env }, ordinal) => {
      const { sinks } = await loadConfig(env);
      const own = truth.filter(({ windowStart }) => (windowStart! / WINDOW_MS) % REPLICAS === ordinal);
      const [result] = (
        await compareSinks(
          sinks.filter(({ id }) => id === 'sqlite'),
          own,
          WINDOW_MS,
        )
      ).values();
      equal(result!, `pod ${ordinal}`);
      return own.length;
    }),
  );
  expect(Math.min(...sizes)).toBeGreaterThan(0);
  expect(sizes.reduce((sum, size) => sum + size)).toBe(truth.length);
});

/** Metrics that have no sample until then: their labels name what is in trouble. */
const ONLY_IN_TROUBLE = ['fanout_sink_failed_write_', 'fanout_samples_folded_total'];

test('a real Prometheus follows the alerts, none of which fires, and answers every query of the dashboard', async () => {
  await prometheus!.untilScraped();
  expect(await prometheus!.query('sum(up{job="metrics-fanout"})')).toEqual([REPLICAS]);
  expect(await prometheus!.query('max(fanout_slices) - count(count by (slice) (fanout_slices))')).toEqual([
    0,
  ]);
  const answer = (await (await fetch(`${prometheus!.url}/api/v1/rules`)).json()) as RulesAnswer;
  const { rules } = answer.data.groups[0]!;
  expect(rules.length).toBeGreaterThan(20);
  expect(rules.filter(({ health, state }) => health !== 'ok' || state === 'firing')).toEqual([]);
  for (const { title, expr } of dashboardQueries('30s')) {
    const values = await prometheus!.query(expr);
    // Queries that show only trouble have no result.
    const isOfTrouble = expr.endsWith('> 0') || ONLY_IN_TROUBLE.some((name) => expr.includes(name));
    if (!isOfTrouble) expect(values.length, `${title}: ${expr}`).toBeGreaterThan(0);
  }
});

test('the pod of helm test finds no problem', async () => {
  const [check] = objects.filter(({ kind, metadata }) => kind === 'Pod' && metadata.name.endsWith('-check'));
  const { args, env } = processOf(check!.spec, {}, [], cluster, join(stack.folder, 'check'));
  const program = startProgram([...args, '--json'], env);
  const code = await program.ended;
  const findings: { what: string; state: string; detail: string }[] = JSON.parse(program.output.stdout);
  // The pod has a folder of its own, and not the volume of any other pod.
  const ownFile = {
    what: 'sink sqlite (sqlite)',
    state: 'warn',
    detail: expect.stringMatching(/made the file/),
  };
  expect(findings.filter(({ state }) => state !== 'ok')).toMatchObject([ownFile]);
  // Bus, stream, limits, reading, checkpoints and memory.
  expect(findings.length).toBe(11 + 6);
  expect(code).toBe(0);
});

test('the pods end cleanly on SIGTERM, with a timeout shorter than the grace period of Kubernetes', async () => {
  const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
  const graceMs = set!.spec.template.spec.terminationGracePeriodSeconds * 1000;
  for (const { env } of pods) expect((await loadConfig(env)).core.stopTimeout).toBeLessThan(graceMs);
  expect(await Promise.all(pods.map(({ service }) => service.stop('SIGTERM')))).toEqual([0, 0, 0]);
  for (const { service } of pods) expect(service.output.stderr).toContain('"msg":"stopped"');
});

/** JSON has no undefined and no order of fields. */
async function* toStream(points: readonly StoredPoint[]): AsyncGenerator<StoredPoint> {
  for (const point of points)
    yield { ...point, ...Object.fromEntries(ALL_FIELDS.map((f) => [f, point[f] ?? null])) };
}
