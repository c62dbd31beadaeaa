/** Two nodes that run the pods of one namespace as processes of this machine, and the scheduler that places them. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubernetesObject } from '../helm/chart.ts';
import { clusterOf } from '../helm/pod.ts';
import type { ApiServer } from './api-server.ts';
import { type Host, LocalPod, type ProcessEnd } from './local-pod.ts';

export const NODES = ['node-0', 'node-1'] as const;
const SYNC_MS = 200;
/** Nodes that have not been heard of for 50 seconds would count as lost. */
const HEARTBEAT_MS = 5_000;

export interface Kubelet {
  /** Of all processes that ended. */
  readonly ends: readonly ProcessEnd[];
  readonly pods: readonly LocalPod[];
  stop(): Promise<void>;
}

interface Namespace {
  readonly api: ApiServer;
  readonly path: string;
  readonly pods: Map<string, LocalPod>;
  readonly host: Host;
  /** The status that the API server was told, by pod. */
  readonly reported: Map<string, string>;
}

/** `main`: the program that stands for the image. */
export async function startKubelet(api: ApiServer, namespace: string, main: string): Promise<Kubelet> {
  const pods = new Map<string, LocalPod>();
  const ends: ProcessEnd[] = [];
  const folder = join(api.folder, namespace);
  mkdirSync(folder);
  const path = `/api/v1/namespaces/${namespace}`;
  const host: Host = { folder, main, ended: (end) => void ends.push(end) };
  const stopping = new AbortController();
  const every = async (ms: number, work: () => Promise<void>) => {
    while (!stopping.signal.aborted) {
      await work();
      await sleep(ms, undefined, { signal: stopping.signal }).catch(() => {});
    }
  };
  for (const name of NODES) await api.ask('POST', '/api/v1/nodes', { metadata: { name } });
  const loops = [
    every(HEARTBEAT_MS, () => beat(api)),
    every(SYNC_MS, () => sync({ api, path, pods, host, reported: new Map() })),
  ];
  return {
    ends,
    get pods() {
      return [...pods.values()];
    },
    async stop() {
      stopping.abort();
      await Promise.all(loops);
      await Promise.all([...pods.values()].map((pod) => pod.end(0)));
      for (const name of NODES) await api.ask('DELETE', `/api/v1/nodes/${name}`);
    },
  };
}

async function beat(api: ApiServer): Promise<void> {
  const now = new Date().toISOString();
  const ready = { type: 'Ready', status: 'True', lastHeartbeatTime: now, lastTransitionTime: now };
  for (const name of NODES)
    await api.ask('PATCH', `/api/v1/nodes/${name}/status`, { status: { conditions: [ready] } });
}

/** The conditions of others stay, such as that an eviction is under way. */
async function report({ api, path, reported }: Namespace, pod: LocalPod, seen: KubernetesObject['status']) {
  const status = pod.status() as { readonly conditions: readonly { readonly type: string }[] };
  const text = JSON.stringify(status);
  if (reported.get(pod.uid) === text) return;
  const own = new Set(status.conditions.map(({ type }) => type));
  const others = (seen.conditions ?? []).filter(({ type }: { type: string }) => !own.has(type));
  const body = { status: { ...status, conditions: [...others, ...status.conditions] } };
  const { code } = await api.ask('PATCH', `${path}/pods/${pod.name}/status`, body);
  if (code === 200) reported.set(pod.uid, text);
}

async function sync(namespace: Namespace): Promise<void> {
  const { api, path, pods } = namespace;
  const known = [...pods.values()];
  const { code, body } = await api.ask('GET', `${path}/pods`);
  if (code !== 200) return;
  const objects: readonly KubernetesObject[] = body.items;
  const listed = new Set(objects.map(({ metadata }) => (metadata as unknown as { uid: string }).uid));
  // One that has had its end goes without a word when it is deleted.
  for (const pod of known.filter(({ uid }) => !listed.has(uid)))
    void pod.end(0).then(() => pods.delete(pod.uid));
  for (const object of objects) {
    const { name, uid, deletionTimestamp, deletionGracePeriodSeconds } =
      object.metadata as typeof object.metadata & {
        uid: string;
        deletionTimestamp?: string;
        deletionGracePeriodSeconds?: number;
      };
    const pod = pods.get(uid);
    if (deletionTimestamp !== undefined) {
      const ended = pod?.end(deletionGracePeriodSeconds ?? 0) ?? Promise.resolve();
      void ended.then(() => remove(api, path, name, uid)).then(() => pods.delete(uid));
    } else if (object.spec.nodeName === undefined) await place(api, path, object);
    else if (pod === undefined) await start(namespace, object);
    if (pod !== undefined) await report(namespace, pod, object.status);
  }
}

function remove(api: ApiServer, path: string, name: string, uid: string): Promise<unknown> {
  const options = { gracePeriodSeconds: 0, preconditions: { uid } };
  return api.ask('DELETE', `${path}/pods/${name}`, options).catch(() => {});
}

/** On a node that takes pods; neighbours on different ones. */
async function place(api: ApiServer, path: string, { metadata: { name } }: KubernetesObject): Promise<void> {
  const open = (await api.list('/api/v1/nodes')).filter(({ spec }) => !spec.unschedulable);
  const node = open[Number(/\d+$/.exec(name)?.[0] ?? 0) % open.length];
  if (node === undefined) return;
  const target = { apiVersion: 'v1', kind: 'Node', name: node.metadata.name };
  await api.ask('POST', `${path}/pods/${name}/binding`, { metadata: { name }, target });
}

let addresses = 0;

async function start({ api, path, pods, host }: Namespace, object: KubernetesObject): Promise<void> {
  const kinds = { secrets: 'Secret', configmaps: 'ConfigMap' } as const;
  const lists = await Promise.all(
    Object.entries(kinds).map(async ([plural, kind]) =>
      (await api.list(`${path}/${plural}`)).map((one) => ({ data: {}, ...one, kind })),
    ),
  );
  addresses += 1;
  const address = `127.1.${addresses >> 8}.${addresses & 255}`;
  const pod = new LocalPod(object, clusterOf(lists.flat() as KubernetesObject[]), address, host);
  pods.set(pod.uid, pod);
}
