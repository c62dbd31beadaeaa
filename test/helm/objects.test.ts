/** What an API server asks of the chart's objects beyond their shape, and what becomes of them in an upgrade. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { BLACKHOLE, changesOf, pathsOf } from './changes.ts';
import {
  CHART,
  DEFAULTS,
  type KubernetesObject,
  merged,
  type Rendered,
  type Renderer,
  schemaErrors,
  startRenderer,
  type Values,
} from './chart.ts';
import { problemsOf } from './validate.ts';
import { combinations, EVERY_SINK, EXTRAS } from './values.ts';

let renderer: Renderer;
beforeAll(() => {
  renderer = startRenderer();
});
afterAll(() => renderer?.remove());

function rendered(values: Values = {}, cluster?: readonly KubernetesObject[]): Rendered {
  const [result] = renderer.render([values], cluster);
  if (typeof result !== 'object') throw new Error(result);
  return result;
}
const ofKind = ({ objects }: Rendered, kind: string) => objects.filter((object) => object.kind === kind);
const setOf = (values: Values = {}) => ofKind(rendered(values), 'StatefulSet')[0]!;
const errorsOf = schemaErrors();

/** The keys by which the API server tells entries of a list apart (x-kubernetes-list-map-keys), by the list's name. */
const LIST_KEYS: Readonly<Record<string, readonly string[]>> = {
  topologySpreadConstraints: ['topologyKey', 'whenUnsatisfiable'],
  containers: ['name'],
  initContainers: ['name'],
  env: ['name'],
  volumes: ['name'],
  volumeMounts: ['mountPath'],
  imagePullSecrets: ['name'],
  hostAliases: ['ip'],
  ports: ['name', 'port', 'containerPort', 'protocol'],
  groups: ['name'],
};

function alike(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) {
    const keys = LIST_KEYS[path.split('.').at(-1)!];
    const names = value.map((entry) => JSON.stringify(keys?.map((key) => entry[key])));
    const twice = keys ? names.filter((name, i) => names.indexOf(name) !== i) : [];
    return [
      ...twice.map((name) => `${path}: ${name}`),
      ...value.flatMap((entry, i) => alike(entry, `${path}.${i}`)),
    ];
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, below]) => alike(below, `${path}.${key}`));
}

describe('no two entries of a list are alike', () => {
  test('in any combination of toggles, with standbys among them', () => {
    const all = combinations().filter((_, i) => i % 7 === 0);
    expect(all.some(({ standby }) => standby === 2)).toBe(true);
    for (const result of renderer.render(all)) expect(alike((result as Rendered).objects)).toEqual([]);
  });

  test.each<[Values, RegExp]>([
    [
      {
        topologySpread: {
          constraints: [1, 2].map((maxSkew) => ({ topologyKey: 'a', whenUnsatisfiable: 'b', maxSkew })),
        },
      },
      /topologySpread.constraints: two entries have the same topologyKey and whenUnsatisfiable, a and b/,
    ],
    [
      {
        extraEnv: [
          { name: 'A', value: '1' },
          { name: 'A', value: '2' },
        ],
      },
      /extraEnv: .* same name, A/,
    ],
    [{ extraVolumes: [{ name: 'tmp', emptyDir: {} }] }, /extraVolumes: .* same name, tmp/],
    [{ extraVolumes: [{ name: 'data', emptyDir: {} }] }, /extraVolumes: .* same name, data/],
    [
      { extraVolumeMounts: [{ name: 'tmp', mountPath: '/tmp' }] },
      /extraVolumeMounts: .* same mountPath, \/tmp/,
    ],
    [{ extraVolumeMounts: [{ name: 'none', mountPath: '/a' }] }, /there is no volume none/],
    [{ extraContainers: [{ name: 'metrics-fanout', image: 'a' }] }, /extraContainers.*: .* same name/],
    [{ initContainers: [{ name: 'a' }, { name: 'a' }] }, /initContainers: .* same name, a/],
    [
      {
        hostAliases: [
          { ip: '::1', hostnames: ['a'] },
          { ip: '::1', hostnames: ['b'] },
        ],
      },
      /hostAliases/,
    ],
    [{ imagePullSecrets: [{ name: 'a' }, { name: 'a' }] }, /^$/],
  ])('or the chart refuses the values: %j', (values, expected) => {
    const [result] = renderer.render([values]);
    // Two references to one Secret are one.
    expect(typeof result === 'string' ? result : '').toMatch(expected);
  });
});

describe('labels and annotations', () => {
  const own = { 'app.kubernetes.io/name': 'other', 'app.kubernetes.io/instance': 'other', more: 'yes' };
  const annotations = {
    'kubectl.kubernetes.io/default-container': 'other',
    'helm.sh/hook': 'other',
    more: 'yes',
  };
  const everywhere: Values = {
    commonLabels: own,
    podLabels: own,
    podAnnotations: annotations,
    serviceMonitor: { enabled: true, labels: own },
    prometheusRule: { enabled: true, labels: own },
    dashboard: { enabled: true, labels: own },
    networkPolicy: { enabled: true },
  };

  test('of the user do not repeat the keys of the chart, which stay', () => {
    // objectsOf throws for a key that occurs twice.
    const { objects } = rendered(everywhere);
    expect(objects.length).toBeGreaterThan(9);
    for (const { kind, metadata } of objects) {
      const name = kind === 'Pod' ? 'metrics-fanout-check' : 'metrics-fanout';
      expect(metadata.labels, kind).toMatchObject({
        'app.kubernetes.io/name': name,
        'app.kubernetes.io/instance': 'shop',
        'app.kubernetes.io/managed-by': 'Helm',
        more: 'yes',
      });
    }
  });

  test('of the user are on pods, on the pod of helm test and on claims', () => {
    const result = rendered(everywhere);
    const { template, selector, volumeClaimTemplates } = ofKind(result, 'StatefulSet')[0]!.spec;
    expect(template.metadata.labels).toEqual({ ...selector.matchLabels, more: 'yes' });
    expect(template.metadata.annotations).toMatchObject({
      'kubectl.kubernetes.io/default-container': 'metrics-fanout',
      more: 'yes',
    });
    expect(volumeClaimTemplates[0].metadata.labels).toMatchObject({ more: 'yes' });
    const [check] = ofKind(result, 'Pod');
    expect(check!.metadata).toMatchObject({ annotations: { 'helm.sh/hook': 'test', more: 'yes' } });
  });
});

test('null for any value renders valid objects, or the schema says that the value is missing', () => {
  const on: Values = {
    serviceMonitor: { enabled: true },
    podMonitor: { enabled: true },
    prometheusRule: { enabled: true },
    dashboard: { enabled: true },
    networkPolicy: { enabled: true },
    profiles: { enabled: true },
  };
  const without = (path: readonly string[]) =>
    merged(on, path.reduceRight<unknown>((value, key) => ({ [key]: value }), null) as Values);
  // A profile without a type is the user's own affair.
  const paths = pathsOf(DEFAULTS).filter((path) => path[1] !== 'seccompProfile' || path.length === 2);
  expect(paths.length).toBeGreaterThan(100);
  const renders = paths.filter((path) => {
    const errors = errorsOf(without(path)).join();
    if (errors !== '') expect(errors).toMatch(new RegExp(`must have (required )?property .*${path.at(-1)}`));
    return errors === '';
  });
  const results = renderer.render(renders.map(without));
  expect(results.filter((result) => typeof result === 'string')).toEqual([]);
  const objects = new Set((results as Rendered[]).flatMap((result) => result.objects));
  expect(problemsOf([...objects], renderer.folder)).toEqual([]);
});

describe('an upgrade', () => {
  /** As the API server stores it: with defaults of its own, and quantities in their shortest form. */
  function stored(set: KubernetesObject): KubernetesObject {
    const copy = structuredClone(set) as KubernetesObject;
    for (const claim of copy.spec.volumeClaimTemplates ?? []) {
      claim.status = { phase: 'Pending' };
      if (claim.spec.resources.requests.storage === '8192Mi') claim.spec.resources.requests.storage = '8Gi';
    }
    return copy;
  }
  const after = (before: Values, now: Values) => {
    const sets = ofKind(rendered(before), 'StatefulSet').map(stored);
    const [result] = renderer.render([now], sets);
    return typeof result === 'string' ? result : 'accepted';
  };

  test.each<[string, Values, Values]>([
    ['sqlite off', {}, BLACKHOLE],
    ['sqlite on', BLACKHOLE, {}],
    ['another size', {}, { persistence: { size: '9Gi' } }],
    ['another class', {}, { persistence: { storageClassName: 'fast' } }],
    ['other modes', {}, { persistence: { accessModes: ['ReadWriteMany'] } }],
    ['other labels of claims', {}, { commonLabels: { team: 'a' } }],
    ['without claims', {}, { persistence: { enabled: false } }],
  ])('that would change volume claims is refused before anything changes: %s', (_, before, now) => {
    expect(after(before, now)).toMatch(
      /cannot change its volume claims. Nothing has been changed. .*: kubectl delete statefulset shop-metrics-fanout -n metrics --cascade=orphan$/,
    );
  });

  test('that would change the labels of the pods is refused, with the command that helps', () => {
    const before = { ...BLACKHOLE, fullnameOverride: 'fanout' };
    expect(after(before, { ...before, nameOverride: 'other' })).toMatch(
      /cannot change. Nothing has been changed. .*: kubectl delete statefulset fanout -n metrics$/,
    );
  });

  test('that changes no claims is accepted: a size in another unit, nothing at all', () => {
    expect(after({ persistence: { size: '8192Mi' } }, { persistence: { size: '8Gi' } })).toBe('accepted');
    for (const values of [{}, BLACKHOLE, EXTRAS, EVERY_SINK]) expect(after(values, values)).toBe('accepted');
  });

  /** What of a StatefulSet may change: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/. */
  const MUTABLE = [
    'replicas',
    'ordinals',
    'template',
    'updateStrategy',
    'revisionHistoryLimit',
    'persistentVolumeClaimRetentionPolicy',
    'minReadySeconds',
  ];
  test('by a change of any one value changes nothing that cannot change, or is refused', () => {
    const fixedOf = (set: KubernetesObject) =>
      Object.fromEntries(Object.entries(set.spec).filter(([key]) => !MUTABLE.includes(key)));
    const refused: string[] = [];
    for (const base of [{}, BLACKHOLE]) {
      const sets = ofKind(rendered(base), 'StatefulSet');
      const changes = changesOf(base);
      expect(changes.length).toBeGreaterThan(40);
      const results = renderer.render(
        changes.map(([, changed]) => changed),
        sets.map(stored),
      );
      for (const [i, result] of results.entries()) {
        const [key] = changes[i]!;
        if (typeof result === 'string') {
          expect(result).toContain('Nothing has been changed');
          refused.push(key);
          continue;
        }
        for (const now of ofKind(result, 'StatefulSet')) {
          const before = sets.find(({ metadata }) => metadata.name === now.metadata.name);
          if (before) expect(fixedOf(now), key).toEqual(fixedOf(before));
        }
      }
    }
    // nameOverride gives the StatefulSet another name, so it is another one.
    expect(refused.sort()).toEqual(['commonLabels', 'persistence']);
  });

  test('is whole in a revision of the StatefulSet: kubectl rollout undo brings back the settings', () => {
    const [before, now] = [setOf(BLACKHOLE), setOf(merged(BLACKHOLE, { settings: { window: '1m' } }))];
    expect(now.spec.template).not.toEqual(before.spec.template);
    const { env, envFrom } = now.spec.template.spec.containers[0];
    expect(env).toContainEqual({ name: 'WINDOW', value: '1m' });
    expect(envFrom).toBeUndefined();
    expect(ofKind(rendered(BLACKHOLE), 'ConfigMap')).toEqual([]);
  });

  test('replaces the pods of a slice one after the other: a standby works on while its primary is replaced', () => {
    const sets = ofKind(rendered({ ...BLACKHOLE, standby: 2, stopTimeoutSeconds: 10 }), 'StatefulSet');
    const waits = sets.map(({ spec }) => {
      const { containers, terminationGracePeriodSeconds } = spec.template.spec;
      const seconds = Number(containers[0].lifecycle?.preStop.exec.command[1] ?? 0);
      // Kubernetes counts the hook as part of the grace period.
      expect(terminationGracePeriodSeconds).toBe(seconds + 25);
      return seconds;
    });
    expect(waits).toEqual([0, 30, 60]);
  });
});

test('every default that the operator would add is written out, so that GitOps sees no drift', () => {
  const result = rendered(merged(EXTRAS, { serviceMonitor: { enabled: true } }));
  const [service] = ofKind(result, 'ServiceMonitor').flatMap(({ spec }) => spec.endpoints);
  const [pod] = ofKind(result, 'PodMonitor').flatMap(({ spec }) => spec.podMetricsEndpoints);
  for (const { relabelings, metricRelabelings = [] } of [service, pod])
    for (const { action } of [...relabelings, ...metricRelabelings]) expect(action).toMatch(/replace|drop/);
  expect(service.relabelings.length).toBe(2);
});

test('a list or a map under `merge` is merged into its object', () => {
  const { objects } = rendered(merged(EXTRAS, BLACKHOLE));
  const find = (kind: string) => objects.find((object) => object.kind === kind)!;
  expect(find('StatefulSet').spec.template.spec).toMatchObject({
    preemptionPolicy: 'Never',
    serviceAccountName: 'shop-metrics-fanout',
  });
  expect(find('Service').spec).toMatchObject({ loadBalancerClass: 'internal', type: 'LoadBalancer' });
  expect(find('Pod').spec.activeDeadlineSeconds).toBe(60);
});

test.each(['SLICE', 'POD_INDEX', 'HTTP_PORT'])('extraEnv may not contain %s', (name) => {
  expect(renderer.render([{ extraEnv: [{ name, value: '1' }] }])[0]).toMatch(`extraEnv: ${name}`);
});

test('a $ in a setting is a $ for the process, whatever Kubernetes makes of $(NAME)', () => {
  const { env } = setOf({ settings: { instanceField: '$(SLICE)$$' } }).spec.template.spec.containers[0];
  expect(env).toContainEqual({ name: 'INSTANCE_FIELD', value: '$$(SLICE)$$$$' });
});

test('images come from the registry of the values, or from the global one', () => {
  const imageOf = (values: Values) => setOf(values).spec.template.spec.containers[0].image;
  const { appVersion } = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'));
  expect(imageOf({ global: { imageRegistry: 'g.example' } })).toBe(`g.example/metrics-fanout:${appVersion}`);
  expect(imageOf({ global: { imageRegistry: 'g' }, image: { registry: 'own' } })).toMatch(/^own\/metrics/);
});

describe('the dashboard outside of the cluster', () => {
  const route = (values: Values) => ({
    httpRoute: { enabled: true, parentRefs: [{ name: 'public' }], ...values },
  });
  const parentRefs = [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'public' }];
  const backendRefs = [{ group: '', kind: 'Service', name: 'shop-metrics-fanout', port: 9464, weight: 1 }];

  test('has an HTTPRoute with every default of the API, which takes its path away', () => {
    const [plain] = ofKind(rendered(route({})), 'HTTPRoute');
    expect(plain!.spec).toEqual({
      parentRefs,
      rules: [{ matches: [{ path: { type: 'PathPrefix', value: '/' } }], backendRefs }],
    });
    const [under] = ofKind(rendered(route({ path: '/fanout', hostnames: ['a.example.com'] })), 'HTTPRoute');
    const rewritten = { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/' } };
    expect(under!.spec).toEqual({
      parentRefs,
      hostnames: ['a.example.com'],
      rules: [
        {
          matches: [{ path: { type: 'PathPrefix', value: '/fanout' } }],
          filters: [{ type: 'URLRewrite', urlRewrite: rewritten }],
          backendRefs,
        },
      ],
    });
    expect(errorsOf({ httpRoute: { enabled: true } }).join()).toContain('/httpRoute/parentRefs');
  });

  test('has an Ingress with a rule for each host, or one for all', () => {
    const rulesOf = (values: Values) =>
      ofKind(rendered({ ingress: { enabled: true, ...values } }), 'Ingress')[0]!.spec.rules;
    expect(
      rulesOf({ hosts: ['*.a.example', 'b.example'] }).map(({ host }: { host: string }) => host),
    ).toEqual(['*.a.example', 'b.example']);
    const port = { name: 'http' };
    const backend = { service: { name: 'shop-metrics-fanout', port } };
    expect(rulesOf({})).toEqual([{ http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }]);
  });

  test('comes with a warning, and not by itself', () => {
    const warning = 'WARNING: the dashboard, /metrics and /api/status ask for no password';
    expect(rendered({ ingress: { enabled: true } }).notes).toContain(warning);
    expect(rendered(route({})).notes).toContain(warning);
    expect(rendered().notes).not.toContain(warning);
    expect(rendered().objects.filter(({ kind }) => /Ingress|HTTPRoute/.test(kind))).toEqual([]);
  });
});

describe('partitions', () => {
  const sinks: Values = {
    postgres: { enabled: true, settings: { table: 'metrics.points' } },
    clickhouse: { enabled: true, settings: { url: 'http://a' } },
    dynamodb: { enabled: true },
    influxdb: { enabled: true, settings: { url: 'http://a', bucket: 'metrics/autogen', database: 'db' } },
    parquet: { enabled: true, settings: { url: 's3://lake/metrics/' } },
    prometheus: { enabled: true, settings: { url: 'http://a' } },
    otlp: { enabled: true, settings: { url: 'http://a', service: 's' } },
  };
  const values: Values = { partitions: 3, replicas: 2, sinks, resources: { limits: { memory: '2Gi' } } };

  test('have a pipeline, a stream, subjects and a place in every store of their own', () => {
    const sets = ofKind(rendered(values), 'StatefulSet');
    expect(sets.map(({ metadata }) => metadata.name)).toEqual(
      [0, 1, 2].map((partition) => `shop-metrics-fanout-${partition}`),
    );
    const [, second] = sets.map(({ spec }) =>
      Object.fromEntries(
        spec.template.spec.containers[0].env.map(({ name, value }: Record<string, string>) => [name, value]),
      ),
    );
    expect(second).toMatchObject({
      PIPELINE: 'default-1',
      METRICS_STREAM: 'METRICS_1',
      METRICS_SUBJECTS: 'part.1.>',
      SLICE: '$(POD_INDEX)/2',
      SINK_POSTGRES_TABLE: 'metrics.points_1',
      SINK_CLICKHOUSE_TABLE: 'fanout_points_1',
      SINK_DYNAMODB_TABLE: 'fanout_points_1',
      SINK_INFLUXDB_BUCKET: 'metrics_1/autogen',
      SINK_INFLUXDB_DATABASE: 'db_1',
      SINK_PARQUET_URL: 's3://lake/metrics/partition=1',
      SINK_PROMETHEUS_LABELS: 'job=metrics-fanout,partition=1',
      SINK_OTLP_SERVICE: 's-1',
    });
  });

  test('have selectors that tell their pods apart, also in the spread of standbys', () => {
    const result = rendered({ ...values, standby: 1 });
    const sets = ofKind(result, 'StatefulSet');
    expect(new Set(sets.map(({ spec }) => JSON.stringify(spec.selector))).size).toBe(6);
    for (const { spec } of sets) {
      const { metadata, spec: pod } = spec.template;
      expect(metadata.labels).toMatchObject(spec.selector.matchLabels);
      for (const { matchLabelKeys } of pod.topologySpreadConstraints)
        expect(matchLabelKeys).toEqual(['apps.kubernetes.io/pod-index', 'metrics-fanout/partition']);
    }
    expect(ofKind(result, 'Pod')[0]!.spec.containers.length).toBe(3);
    expect(problemsOf([...result.objects], renderer.folder)).toEqual([]);
  });

  test.each<[Values, RegExp]>([
    [{ partitions: 2, settings: { metricsSource: 'core' } }, /partitions: in core mode/],
    [{ partitions: 2, settings: { metricsSubjects: 'a.>' } }, /Remove settings.metricsSubjects/],
    [
      { partitions: 2, sinks: { own: { enabled: true, kind: './own.js' } } },
      /does not know how .* .\/own.js/,
    ],
    [
      { partitions: 2, standby: 3, fullnameOverride: 'a'.repeat(40), ...BLACKHOLE },
      /more than 52 characters/,
    ],
  ])('are refused where they cannot work: %j', (bad, expected) => {
    const more = bad.fullnameOverride ? { partitions: 20 } : {};
    expect(renderer.render([{ ...bad, ...more }])[0]).toMatch(expected);
  });

  test('spread subjects with several tokens, and what is below them', () => {
    const partitioning = { subjects: 'metrics.*.host.*.>', tokens: [1, 2], prefix: 'a.b' };
    expect(rendered({ ...BLACKHOLE, partitions: 2, partitioning }).notes).toContain(
      '"metrics.*.host.*.>": "a.b.{{partition(2,1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}.>"',
    );
    expect(errorsOf({ partitioning: { subjects: 'metrics.>' } }).join()).toContain('/partitioning/subjects');
  });
});
