/**
 * `npm run test:cluster`: applies the chart to a real API server with a real helm. Needs etcd, kube-apiserver,
 * kube-controller-manager and kubectl on the PATH. `-- --helm PATH` for each helm (default: the one on the PATH),
 * `-- --crds FOLDER` for each folder with the definitions of the Prometheus operator and the Gateway API,
 * `-- --processes` for that part only whose pods are real processes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { BLACKHOLE, changesOf, pathsOf } from '../helm/changes.ts';
import { DEFAULTS, type KubernetesObject, merged, type Values } from '../helm/chart.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { processes } from './processes.ts';
import { Release, until } from './release.ts';

const { values: options } = parseArgs({
  options: {
    helm: { type: 'string', multiple: true, default: ['helm'] },
    crds: { type: 'string', multiple: true, default: [] },
    processes: { type: 'boolean', default: false },
  },
});
const MAX_PROBLEM_CHARACTERS = 500;
const UNCHANGED = 'Nothing has been changed';
let passed = 0;
const failures: string[] = [];

function say(what: string, problem: string | undefined): void {
  if (problem === undefined) passed += 1;
  else failures.push(`${what}: ${problem}`);
  process.stdout.write(
    `${problem === undefined ? 'ok  ' : 'FAIL'} ${what}${problem ? `: ${problem.slice(0, MAX_PROBLEM_CHARACTERS)}` : ''}\n`,
  );
}

/** Whether an upgrade was taken, or refused before anything changed. */
async function change(
  release: Release,
  what: string,
  values: Values,
): Promise<'taken' | 'refused' | 'broken'> {
  const versions = async () =>
    (await release.objects()).map(({ metadata }) => [
      metadata.name,
      (metadata as { generation?: number }).generation,
    ]);
  const before = await versions();
  const { code, text } = await release.apply(values);
  if (code === 0) return 'taken';
  if (text.includes(UNCHANGED) && isDeepStrictEqual(await versions(), before)) return 'refused';
  say(what, text.trim().split('\n').at(-1));
  return 'broken';
}

const isReady = (pod: KubernetesObject) => pod.status.phase === 'Running';

async function standbys(release: Release): Promise<void> {
  const { code, text } = await release.apply({ ...BLACKHOLE, replicas: 2, standby: 1 });
  say('standby: 1 is installed', code === 0 ? undefined : text);
  const all = await until(async () => (await release.pods()).filter(isReady).length === 4);
  say('four pods are admitted under PodSecurity restricted', all ? undefined : 'they are not');
  const tested = await release.helm('test', 'shop', '--timeout', '60s');
  const named = (await release.pods()).filter(({ metadata }) => metadata.name.endsWith('-check'));
  // There is no kubelet to ask for a log.
  say('the pod of helm test is admitted and goes', named.length === 0 ? undefined : tested.text);
}

const SET_NAME = 'statefulset/shop-metrics-fanout';
const SET = '/apis/apps/v1/namespaces/NS/statefulsets/shop-metrics-fanout';

async function settingsOf(release: Release): Promise<string> {
  // The controller makes a revision of what it has seen.
  await until(async () => {
    const { body } = await release.get(SET);
    return body.metadata.generation === body.status.observedGeneration;
  });
  const { body } = await release.get(SET);
  const { env } = body.spec.template.spec.containers[0];
  return env.find(({ name }: { name: string }) => name === 'WINDOW')?.value ?? 'none';
}

async function undo(release: Release): Promise<void> {
  const seen: string[] = [];
  for (const window of ['1m', '2m']) {
    await release.apply({ ...BLACKHOLE, settings: { window } });
    seen.push(await settingsOf(release));
  }
  await release.kubectl('rollout', 'undo', SET_NAME);
  seen.push(await settingsOf(release));
  say('kubectl rollout undo brings back the settings', seen.join() === '1m,2m,1m' ? undefined : seen.join());
  await release.kubectl('scale', SET_NAME, '--replicas=5');
  // Helm 4 takes what kubectl has set for a conflict.
  const values = { ...BLACKHOLE, settings: { window: '3m' } };
  const { code, text } = await release
    .apply(values)
    .then((ended) => (ended.text.includes('conflict') ? release.apply(values, '--force-conflicts') : ended));
  const after = (await release.get(SET)).body.spec.replicas;
  say(
    'the upgrade after kubectl has the values again',
    code === 0 && after === 1 ? undefined : `${after}: ${text}`,
  );
}

async function claims(release: Release): Promise<void> {
  await release.helm('uninstall', 'shop', '--wait');
  await release.apply({});
  await until(async () => (await release.pods()).filter(isReady).length === 1);
  const uid = async () => (await release.pods())[0]?.metadata as unknown as { uid: string };
  const before = await uid();
  say(
    'sqlite off is refused before anything changes',
    (await change(release, 'sqlite off', BLACKHOLE)) === 'refused' ? undefined : 'it is not',
  );
  const { text } = await release.apply(BLACKHOLE);
  const [, command] = /: (kubectl delete statefulset .* --cascade=orphan)/.exec(text) ?? [];
  // The kubectl of Debian 12 is older than the word that it is given.
  const [, ...args] = command?.split(' ') ?? [];
  const deleted = await release.run('kubectl', args);
  say('the command of the refusal works', deleted.code === 0 ? undefined : deleted.text);
  say('it leaves the pod running', (await uid())?.uid === before.uid ? undefined : 'it does not');
  say(
    'then the upgrade is taken',
    (await change(release, 'after it', BLACKHOLE)) === 'taken' ? undefined : 'it is not',
  );
  const adopted = await until(async () => {
    const [pod] = await release.pods();
    return (
      pod !== undefined &&
      isReady(pod) &&
      !pod.spec.volumes.some((one: object) => 'persistentVolumeClaim' in one)
    );
  });
  say('and the pod is replaced by one without a claim', adopted ? undefined : 'it is not');
}

async function everyChange(release: Release, kinds: ReadonlySet<string>): Promise<void> {
  for (const base of [BLACKHOLE, {}]) {
    await release.helm('uninstall', 'shop', '--wait');
    await release.apply(base);
    const counts = { taken: 0, refused: 0, broken: 0 };
    for (const [key, changed] of changesOf(base)) {
      if (key === 'podMonitor' && !kinds.has('PodMonitor')) continue;
      for (const values of [changed, base]) counts[await change(release, `${key}, changed`, values)] += 1;
    }
    const name = base === BLACKHOLE ? 'blackhole' : 'sqlite';
    say(
      `${name}: ${counts.taken} changes of values are taken, ${counts.refused} refused before anything changes`,
      counts.broken === 0 ? undefined : `${counts.broken} are refused half-way`,
    );
  }
}

async function nulls(release: Release): Promise<void> {
  const bad: string[] = [];
  const paths = pathsOf(DEFAULTS);
  for (const path of paths) {
    const { code, text } = await release.template(
      path.reduceRight<unknown>((value, key) => ({ [key]: value }), null) as Values,
    );
    if (code !== 0 && !text.includes("values don't meet the specifications of the schema"))
      bad.push(`${path.join('.')}: ${text}`);
  }
  say(
    `null for each of ${paths.length} values renders, or the schema refuses it`,
    bad.length === 0 ? undefined : bad.join('\n'),
  );
}

async function drift(release: Release, kinds: ReadonlySet<string>): Promise<void> {
  const values = merged(BLACKHOLE, {
    serviceMonitor: { enabled: true, relabelings: [{ targetLabel: 'a', replacement: 'b' }] },
    podMonitor: { enabled: true, metricRelabelings: [{ sourceLabels: ['a'], targetLabel: 'b' }] },
    prometheusRule: { enabled: true },
    httpRoute: { enabled: kinds.has('HTTPRoute'), parentRefs: [{ name: 'public' }], path: '/a' },
  });
  const { code, text } = await release.apply(values);
  if (code !== 0) return say('the objects of other operators are taken', text);
  const { text: shown } = await release.helm('get', 'manifest', 'shop');
  for (const document of parseAllDocuments(shown) as { toJSON(): KubernetesObject }[]) {
    const object = document.toJSON();
    if (!kinds.has(object?.kind)) continue;
    const path = `/apis/${object.apiVersion}/namespaces/NS/${object.kind.toLowerCase()}s/${object.metadata.name}`;
    const { body } = await release.get(path);
    const same = isDeepStrictEqual(body.spec, object.spec);
    say(`${object.kind}: the API server adds nothing`, same ? undefined : JSON.stringify(body.spec));
  }
}

/** Returns the kinds that the cluster then knows. */
async function define(api: ApiServer): Promise<ReadonlySet<string>> {
  const kinds = new Set<string>();
  for (const folder of options.crds) {
    for (const name of readdirSync(folder).filter((one) => one.endsWith('.yaml'))) {
      for (const document of parseAllDocuments(readFileSync(join(folder, name), 'utf8'))) {
        const crd = document.toJSON() as KubernetesObject | null;
        if (!/^(ServiceMonitor|PodMonitor|PrometheusRule|HTTPRoute)$/.test(crd?.spec?.names?.kind ?? ''))
          continue;
        const { code, body } = await api.ask(
          'POST',
          '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
          crd,
        );
        if (code === 201) kinds.add(crd!.spec.names.kind);
        else throw new Error(JSON.stringify(body));
      }
    }
  }
  return kinds;
}

async function namespace(name: string): Promise<string> {
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await api.ask('POST', '/api/v1/namespaces', { metadata: { name, labels } });
  return name;
}

async function withoutProcesses(release: Release, kinds: ReadonlySet<string>): Promise<void> {
  await standbys(release);
  await undo(release);
  if (kinds.size > 0) await drift(release, kinds);
  await claims(release);
  await everyChange(release, kinds);
  await nulls(release);
  await release.helm('uninstall', 'shop', '--wait');
  const left = [...(await release.objects()), ...(await release.pods())];
  say(
    'uninstall leaves nothing but claims',
    left.length === 0 ? undefined : left.map(({ metadata }) => metadata.name).join(),
  );
}

const api = await startApiServer();
try {
  const kinds = await define(api);
  for (const [i, helm] of options.helm.entries()) {
    const release = new Release(api, helm, await namespace(`metrics-${i}`));
    process.stdout.write(`${(await release.helm('version', '--short')).text}`);
    if (!options.processes) await withoutProcesses(release, kinds);
    await processes(api, new Release(api, helm, await namespace(`processes-${i}`)), say);
  }
} finally {
  await api.stop();
}
process.stdout.write(`${passed} passed, ${failures.length} failed\n`);
process.exitCode = failures.length === 0 ? 0 : 1;
