import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/config.ts';
import { CORE_SETTINGS } from '../../src/config/core-settings.ts';
import { memoryNeeded } from '../../src/config/memory.ts';
import {
  CHART,
  type KubernetesObject,
  merged,
  type Rendered,
  type Renderer,
  startRenderer,
  type Values,
} from './chart.ts';
import { generated } from './generate.ts';
import { clusterOf, podOf, processOf } from './pod.ts';
import { problemsOf } from './validate.ts';
import { CLUSTER, combinations, EVERY_SINK, EXTRAS, FROM_CLUSTER } from './values.ts';

let renderer: Renderer;
beforeAll(() => {
  renderer = startRenderer();
});
afterAll(() => renderer?.remove());

function rendered(values: Values = {}): Rendered {
  const [result] = renderer.render([values]);
  if (typeof result !== 'object') throw new Error(result);
  return result;
}

const ofKind = ({ objects }: Rendered, kind: string) => objects.filter((object) => object.kind === kind);
const podSpec = (set: KubernetesObject) => set.spec.template.spec;
const isSubset = (part: object, whole: object) =>
  Object.entries(part).every(([key, value]) => (whole as Record<string, unknown>)[key] === value);

test('the generated files are up to date with the settings and values.yaml: npm run chart', async () => {
  for (const [name, text] of Object.entries(await generated())) {
    const written = readFileSync(join(CHART, name), 'utf8');
    if (name.endsWith('.json')) expect(JSON.parse(written), name).toEqual(JSON.parse(text));
    else expect(written, name).toBe(text);
  }
});

test('chart and program have the same version', () => {
  const { version } = JSON.parse(readFileSync(join(CHART, '..', 'package.json'), 'utf8'));
  expect(parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'))).toMatchObject({
    version,
    appVersion: version,
  });
});

describe('every combination of toggles', () => {
  const all = combinations();
  let results: readonly (Rendered | string)[];
  beforeAll(() => {
    results = renderer.render(all);
  });

  test('renders', () => {
    expect(all.length).toBe(1024);
    expect(results.filter((result) => typeof result === 'string')).toEqual([]);
  });

  test('gives valid objects with unique names', () => {
    const objects = new Set<KubernetesObject>();
    for (const result of results as Rendered[]) {
      const names = result.objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      expect(new Set(names).size).toBe(names.length);
      for (const object of result.objects) objects.add(object);
    }
    expect(objects.size).toBeGreaterThan(1000);
    expect(problemsOf([...objects], renderer.folder)).toEqual([]);
  });

  test('gives pods whose environment the service accepts, and whose slices make up the whole', async () => {
    // Each environment once: most combinations differ in other objects.
    const seen = new Set<string>();
    for (const result of results as Rendered[]) {
      const [set] = ofKind(result, 'StatefulSet');
      const cluster = clusterOf(result.objects, CLUSTER);
      const replicas: number = set!.spec.replicas;
      const { name: own } = set!.metadata;
      const { containers, volumes } = podSpec(set!);
      const name = JSON.stringify([
        [containers[0].env, containers[0].envFrom, volumes],
        [replicas, cluster[`secret ${own}`]],
      ]);
      if (seen.has(name)) continue;
      seen.add(name);
      const last = podOf(set!, replicas - 1, cluster, join(renderer.folder, 'pod'));
      const { core } = await loadConfig(last.env);
      expect(core.slice).toEqual({ index: replicas - 1, of: replicas });
      expect(podSpec(set!).terminationGracePeriodSeconds * 1000).toBeGreaterThan(core.stopTimeout);
      expect(podSpec(set!).containers[0].ports[0].containerPort).toBe(core.httpPort);
    }
    expect(seen.size).toBeGreaterThan(500);
  });

  test('selects its pods, and nothing else, by its labels', () => {
    for (const result of results.slice(-16) as Rendered[]) {
      const sets = ofKind(result, 'StatefulSet');
      const [check] = ofKind(result, 'Pod');
      for (const { spec } of sets) {
        expect(isSubset(spec.selector.matchLabels, spec.template.metadata.labels)).toBe(true);
        expect(ofKind(result, 'Service').map(({ metadata }) => metadata.name)).toContain(spec.serviceName);
      }
      const selectors = result.objects.flatMap(({ kind, spec }) => {
        if (kind === 'Service') return [spec.selector];
        if (kind === 'PodDisruptionBudget') return [spec.selector.matchLabels];
        return kind === 'NetworkPolicy' ? [spec.podSelector.matchLabels] : [];
      });
      for (const selector of selectors) {
        for (const { spec } of sets) expect(isSubset(selector, spec.template.metadata.labels)).toBe(true);
        if (check) expect(isSubset(selector, check.metadata.labels!)).toBe(false);
      }
      for (const monitor of ofKind(result, 'ServiceMonitor')) {
        const found = ofKind(result, 'Service').filter(({ metadata }) =>
          isSubset(monitor.spec.selector.matchLabels, metadata.labels!),
        );
        // Once: a second one would scrape every pod twice.
        expect(found.map(({ spec }) => spec.clusterIP)).toEqual(['None']);
      }
    }
  });
});

test('the validation refuses unknown fields, wrong values and missing fields', () => {
  const set = () => structuredClone(ofKind(rendered(EVERY_SINK), 'StatefulSet')[0]!);
  const broken: readonly [(set: KubernetesObject) => void, RegExp][] = [
    [
      ({ spec }) => Object.assign(spec, { replica: 1 }),
      /'"replica"' does not exist in type 'IStatefulSetSpec'/,
    ],
    [
      (one) => Object.assign(podSpec(one).containers[0], { arg: [] }),
      /'"arg"' does not exist in type 'IContainer'/,
    ],
    [(one) => Object.assign(podSpec(one).volumes[0].emptyDir, { size: '1Gi' }), /'"size"' does not exist/],
    [({ spec }) => Object.assign(spec, { replicas: '1' }), /replicas.* must be integer/],
    [({ spec }) => delete spec.selector, /selector/],
    [(one) => Object.assign(one, { apiVersion: 'apps/v2' }), /no such kind/],
  ];
  for (const [change, expected] of broken) {
    const object = set();
    change(object);
    expect(problemsOf([object], renderer.folder).join('\n')).toMatch(expected);
  }
});

describe('the memory limit', () => {
  const needed = async (maxSeriesBytes: string) =>
    memoryNeeded(await loadConfig({ MAX_SERIES_BYTES: maxSeriesBytes, SINK_SQLITE_ENABLED: 'true' }));
  const render = (maxSeriesBytes: string | undefined, memory: unknown) => {
    const settings = maxSeriesBytes === undefined ? {} : { settings: { maxSeriesBytes } };
    const [result] = renderer.render([{ ...settings, resources: { limits: { memory } } }]);
    return result;
  };

  test.each(['1MB', '48MB', '1.5GiB'])('fits MAX_SERIES_BYTES=%s, or the chart says so', async (budget) => {
    const bytes = await needed(budget);
    expect(typeof render(budget, bytes)).toBe('object');
    expect(typeof render(budget, `${Math.ceil(bytes / 1024)}Ki`)).toBe('object');
    expect(render(budget, bytes - 1)).toContain(
      `settings.maxSeriesBytes: with ${budget}, a pod may need ${(bytes / 1e6).toFixed(0)} MB, and resources.limits.memory is`,
    );
  });

  test('is compared with the default of the service, and may be absent', async () => {
    const bytes = await needed(CORE_SETTINGS.maxSeriesBytes.default!);
    expect(typeof render(undefined, bytes)).toBe('object');
    expect(render(undefined, bytes - 1)).toContain(`with ${CORE_SETTINGS.maxSeriesBytes.default}`);
    expect(typeof render('1GB', null)).toBe('object');
  });
});

describe('a pod', () => {
  test('has its secrets in files, and none in a variable', async () => {
    const [one] = renderer.render([{ ...EVERY_SINK, secrets: { natsToken: 't0ken' } }]);
    const { objects } = one as Rendered;
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(objects), join(renderer.folder, 'secrets'));
    const config = await loadConfig(env);
    expect(config.core.natsToken).toBe('t0ken');
    const influx = config.sinks.find(({ id }) => id === 'influxdb');
    expect(influx?.values).toMatchObject({ token: 'a token: "quoted" $(NOT_EXPANDED) $HOME' });
    expect(JSON.stringify(objects.filter(({ kind }) => kind !== 'Secret'))).not.toMatch(
      /t0ken|quoted|pa%24s/,
    );
    for (const { from, shown, variable } of config.resolved)
      if (shown === '***') expect(from, variable).toBe('file');
  });

  test('takes the address of the bus from a secret, if one is given', async () => {
    const result = rendered({ secrets: { natsUrl: 'nats://u:p4ss@bus:4222' } });
    const [set] = ofKind(result, 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(result.objects), join(renderer.folder, 'url'));
    expect((await loadConfig(env)).core.natsUrl).toEqual(['nats://u:p4ss@bus:4222']);
    expect(result.notes).not.toContain('p4ss');
  });

  test('reads Secrets and ConfigMaps that are not of the chart', async () => {
    const { objects } = rendered(merged(EXTRAS, FROM_CLUSTER));
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(objects, CLUSTER), join(renderer.folder, 'others'));
    const { core, sinks } = await loadConfig(env);
    expect(core.natsPassword).toBe('the password');
    expect(readFileSync(core.natsTlsCaFile!, 'utf8')).toBe('an authority');
    expect(sinks.map(({ id, kind }) => [id, kind])).toEqual([
      ['archive', 'sqlite'],
      ['old_flux', 'influxdb'],
    ]);
    expect(env.AWS_ACCESS_KEY_ID).toBe('id');
  });

  test('runs unprivileged, without capabilities, and writes only to its volumes', () => {
    const [set] = ofKind(rendered({ ...EVERY_SINK, profiles: { enabled: true } }), 'StatefulSet');
    const { securityContext, containers, volumes, automountServiceAccountToken, enableServiceLinks } =
      podSpec(set!);
    expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(containers[0].securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect([automountServiceAccountToken, enableServiceLinks]).toEqual([false, false]);
    const secrets = volumes.find(({ name }: { name: string }) => name === 'secrets');
    expect(secrets.projected.defaultMode).toBe(0o440);
    const writable = containers[0].volumeMounts.filter(({ readOnly }: { readOnly?: true }) => !readOnly);
    expect(writable.map(({ mountPath }: { mountPath: string }) => mountPath)).toEqual([
      '/tmp',
      '/data',
      '/profiles',
    ]);
  });

  test('is controlled over a socket in its own /tmp, and has no token that would allow it over the port', async () => {
    const { objects } = rendered();
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(objects), join(renderer.folder, 'socket'));
    const { core } = await loadConfig(env);
    expect(core).toMatchObject({
      controlSocket: join(renderer.folder, 'socket/tmp/metrics-fanout.sock'),
      controlToken: undefined,
    });
    const { volumes, containers } = podSpec(set!);
    expect(containers[0].volumeMounts).toContainEqual({ name: 'tmp', mountPath: '/tmp' });
    expect(volumes.find(({ name }: { name: string }) => name === 'tmp')).toHaveProperty('emptyDir');
  });

  test('is killed only if it has not answered /livez for two minutes, and has started once /healthz answers', () => {
    const [{ startupProbe, livenessProbe, readinessProbe }] = podSpec(
      ofKind(rendered(), 'StatefulSet')[0]!,
    ).containers;
    const paths = [startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet.path);
    expect(paths).toEqual(['/healthz', '/livez', '/readyz']);
    const { periodSeconds, timeoutSeconds, failureThreshold } = livenessProbe;
    expect((failureThreshold - 1) * periodSeconds + timeoutSeconds).toBeGreaterThanOrEqual(120);
  });

  test('is replaced when a setting or a secret of the values changes, and only then', () => {
    const annotations = (given: Values) =>
      ofKind(rendered(given), 'StatefulSet')[0]!.spec.template.metadata.annotations;
    const before = annotations({ secrets: { natsToken: 'a' } });
    expect(annotations({ secrets: { natsToken: 'b' } })['checksum/secret']).not.toBe(
      before['checksum/secret'],
    );
    expect(annotations({ secrets: { natsToken: 'a' }, dashboard: { enabled: true } })).toEqual(before);
  });

  test('writes to a SQLite file if no sink is on, with the settings of that sink', async () => {
    const result = rendered({ sinks: { sqlite: { settings: { priceMonth: 5 } } } });
    const [set] = ofKind(result, 'StatefulSet');
    const { env } = podOf(set!, 0, clusterOf(result.objects), join(renderer.folder, 'default'));
    const { sinks } = await loadConfig(env);
    expect(sinks.map(({ id, values, prices }) => [id, values, prices])).toEqual([
      [
        'sqlite',
        { path: join(renderer.folder, 'default/data/sqlite.db'), sketch: false },
        { priceMonth: 5, priceGbMonth: undefined },
      ],
    ]);
    expect(set!.spec.volumeClaimTemplates.length).toBe(1);
  });

  test('of a standby has the slice of its ordinal too', async () => {
    const result = rendered({ replicas: 3, standby: 2, sinks: { blackhole: { enabled: true } } });
    const sets = ofKind(result, 'StatefulSet');
    expect(sets.map(({ metadata }) => metadata.name)).toEqual([
      'shop-metrics-fanout',
      'shop-metrics-fanout-standby',
      'shop-metrics-fanout-standby-2',
    ]);
    for (const set of sets) {
      for (const constraint of podSpec(set).topologySpreadConstraints)
        expect(constraint.matchLabelKeys).toEqual(['apps.kubernetes.io/pod-index']);
      const { env } = podOf(set, 1, clusterOf(result.objects), join(renderer.folder, 'standby'));
      expect((await loadConfig(env)).core.slice).toEqual({ index: 1, of: 3 });
    }
  });

  test('in core mode shares the load through a queue group', async () => {
    const result = rendered({ replicas: 2, settings: { metricsSource: 'core' } });
    const [set] = ofKind(result, 'StatefulSet');
    const { core } = await loadConfig(
      podOf(set!, 1, clusterOf(result.objects), join(renderer.folder, 'core')).env,
    );
    expect(core).toMatchObject({ metricsQueueGroup: 'shop-metrics-fanout', slice: { index: 0, of: 1 } });
  });

  test('without the label of its ordinal does not start, and says why', async () => {
    const { objects } = rendered({ persistence: { enabled: false } });
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    const { env } = processOf(podSpec(set!), {}, [], clusterOf(objects), renderer.folder);
    await expect(loadConfig(env)).rejects.toThrow('SLICE: expected a time slice and how many there are');
  });
});

test('helm test checks the bus and every sink with the settings of the pods', async () => {
  const result = rendered(EVERY_SINK);
  const [check] = ofKind(result, 'Pod');
  expect(check!.metadata).toMatchObject({ annotations: { 'helm.sh/hook': 'test' } });
  const { args, env } = processOf(
    check!.spec,
    {},
    [],
    clusterOf(result.objects),
    join(renderer.folder, 'check'),
  );
  expect(args).toEqual(['check']);
  expect((await loadConfig(env)).sinks.length).toBe(11);
});

test('values that cannot work are refused, with the reason', () => {
  const bad: readonly [Values, RegExp][] = [
    [{ settings: { httpHost: '127.0.0.1' } }, /settings.httpHost: the kubelet asks/],
    [
      { replicas: 2, sinks: { long: { enabled: true, kind: 'blackhole', settings: { window: '1m' } } } },
      /sinks\.long\.settings\.window: with several replicas, no pod has all windows/,
    ],
    [{ standby: 1 }, /standby: a sqlite sink writes to a file in its pod/],
    [
      { standby: 1, sinks: { parquet: { enabled: true, settings: { url: 'file:///data/lake' } } } },
      /standby: .* a parquet sink with a folder/,
    ],
    [{ standby: 1, settings: { metricsSource: 'core' } }, /standby: in core mode/],
    [
      { sinks: { influxdb: { enabled: true, settings: { url: 'http://a' }, secrets: { url: 'http://b' } } } },
      /sinks.influxdb: settings.url and secrets.url are both set/,
    ],
  ];
  for (const [result, [, expected]] of renderer
    .render(bad.map(([values]) => values))
    .map((r, i) => [r, bad[i]!] as const))
    expect(result).toMatch(expected);
});

test('a URL with a user or a password appears neither in the pods nor in the error', () => {
  const urlOf = (sink: string, url: string, key = 'url') => ({
    sinks: { [sink]: { enabled: true, settings: { [key]: url } } },
  });
  const archive = { enabled: true, kind: './archive.js' };
  const bad: readonly [Values, string][] = [
    [{ settings: { natsUrl: 'nats://u:p4ss@bus:4222' } }, 'settings.natsUrl'],
    [{ settings: { natsUrl: 'nats://a:4222, u:p4ss@b:4222' } }, 'settings.natsUrl'],
    [{ settings: { natsUrl: 'p4ss@bus' } }, 'settings.natsUrl'],
    [urlOf('influxdb', 'http://u:p4ss@db:8086'), 'sinks.influxdb.settings.url'],
    [urlOf('prometheus', 'https://p4ss@db/api?x=1'), 'sinks.prometheus.settings.url'],
    [urlOf('dynamodb', 'http://u:p4ss@db:8000', 'endpoint'), 'sinks.dynamodb.settings.endpoint'],
    [
      { sinks: { archive: { ...archive, settings: { target: 's3://u:p4ss@h/x' } } } },
      'sinks.archive.settings.target',
    ],
  ];
  const refusals = renderer.render(bad.map(([values]) => values));
  for (const [i, [, path]] of bad.entries()) {
    const secret = path.replace('settings.', 'secrets.');
    expect(refusals[i]).toContain(`${path}: the URL has a user or a password`);
    expect(refusals[i]).toContain(`Move the setting to ${secret}.`);
    expect(refusals[i]).not.toContain('p4ss');
  }
  const good: readonly Values[] = [
    { settings: { natsUrl: 'nats://a:4222,b:4222' } },
    { secrets: { natsUrl: 'nats://u:p4ss@bus:4222' }, settings: { natsUrl: 'nats://u:p4ss@bus:4222' } },
    urlOf('influxdb', 'http://db:8086/a@b?c=d@e'),
    { sinks: { influxdb: { enabled: false, settings: { url: 'http://u:p4ss@db' } } } },
    { sinks: { archive: { ...archive, settings: { contact: 'ops@example.com' } } } },
  ];
  for (const result of renderer.render(good)) {
    if (typeof result === 'string') throw new Error(result);
    const pods = [...ofKind(result, 'StatefulSet'), ...ofKind(result, 'Pod')];
    expect(pods).toHaveLength(2);
    expect(JSON.stringify(pods)).not.toContain('p4ss');
  }
});

test('the alerts are those of the file, with the address of the runbooks, without the disabled ones', () => {
  const file = parse(readFileSync(join(CHART, 'rules', 'metrics-fanout.yaml'), 'utf8'));
  const [plain] = ofKind(rendered({ prometheusRule: { enabled: true } }), 'PrometheusRule');
  expect(plain!.spec).toEqual(file);
  const changed = rendered({ prometheusRule: { ...(EXTRAS.prometheusRule as object), enabled: true } });
  const [{ rules }] = ofKind(changed, 'PrometheusRule')[0]!.spec.groups;
  expect(rules.length).toBe(file.groups[0].rules.length);
  expect(rules.at(-1)).toEqual({ alert: 'Own', expr: 'vector(1)' });
  expect(JSON.stringify(rules)).not.toContain('FanoutNoMessages');
  expect(rules[0].annotations.runbook_url).toBe('https://wiki.example.com/runbooks#fanoutdown');
});

test('the dashboard is the file', () => {
  const [map] = ofKind(rendered({ dashboard: { enabled: true } }), 'ConfigMap').filter(({ metadata }) =>
    metadata.name.endsWith('-dashboard'),
  );
  expect(map!.data['metrics-fanout.json']).toBe(
    readFileSync(join(CHART, 'dashboards', 'metrics-fanout.json'), 'utf8').trimEnd(),
  );
});

test('the notes say what to do next', () => {
  const { notes } = rendered({
    replicas: 3,
    sinks: { influxdb: { enabled: true }, otlp: { enabled: true } },
  });
  expect(notes).toContain('reads nats://nats:4222 and writes to: influxdb, otlp.');
  expect(notes).toContain('helm test shop -n metrics\n');
  expect(notes).toContain('kubectl exec -n metrics shop-metrics-fanout-0 -- metrics-fanout ctl status');
  expect(notes).toContain('Nothing watches it');
  expect(notes).not.toContain('SQLite');
  expect(notes).not.toContain('kubectl delete');
  expect(rendered().notes).toContain(
    'kubectl delete statefulset shop-metrics-fanout -n metrics --cascade=orphan',
  );
  const withoutClaims = rendered({ persistence: { enabled: false } }).notes;
  expect(withoutClaims).toContain('WARNING: persistence is off');
  expect(withoutClaims).not.toContain('kubectl delete');
  expect(notes).not.toMatch(/\n{3}|<no value>/);
});
