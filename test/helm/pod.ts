/** What Kubernetes makes of a pod before its process starts, as far as the process sees it: variables and files. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { KubernetesObject } from './chart.ts';

/** Contents of Secrets (decoded) and ConfigMaps, by kind and name: `secret nats`. */
export type Cluster = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface Process {
  readonly args: readonly string[];
  /** Paths in it are paths in the folder. */
  readonly env: Readonly<Record<string, string>>;
}

/** The objects' own Secrets and ConfigMaps on top of those that exist. */
export function clusterOf(objects: readonly KubernetesObject[], existing: Cluster = {}): Cluster {
  const own = objects.flatMap(({ kind, metadata, data }) => {
    if (kind === 'ConfigMap') return [[`configMap ${metadata.name}`, data as Record<string, string>]];
    if (kind !== 'Secret') return [];
    const decoded = Object.entries(data as Record<string, string>).map(([key, value]) => [
      key,
      Buffer.from(value, 'base64').toString(),
    ]);
    return [[`secret ${metadata.name}`, Object.fromEntries(decoded)]];
  });
  return { ...existing, ...Object.fromEntries(own) };
}

/** Pod `ordinal` of a StatefulSet. Its volumes are folders below `folder`. */
export function podOf(set: KubernetesObject, ordinal: number, cluster: Cluster, folder: string): Process {
  const { spec, metadata } = set.spec.template;
  const labels = {
    ...metadata.labels,
    'apps.kubernetes.io/pod-index': String(ordinal),
    'statefulset.kubernetes.io/pod-name': `${set.metadata.name}-${ordinal}`,
  };
  const claims = (set.spec.volumeClaimTemplates ?? []).map((claim: KubernetesObject) => ({
    name: claim.metadata.name,
    claim,
  }));
  return processOf(spec, labels, claims, cluster, folder);
}

/** Throws if the pod would not start, because something that it refers to does not exist. */
export function processOf(
  // biome-ignore lint/suspicious/noExplicitAny: validated elsewhere.
  spec: any,
  labels: Readonly<Record<string, string>>,
  // biome-ignore lint/suspicious/noExplicitAny: validated elsewhere.
  claims: readonly any[],
  cluster: Cluster,
  folder: string,
): Process {
  const [container] = spec.containers;
  const mounts: { readonly mountPath: string }[] = container.volumeMounts ?? [];
  for (const { name, mountPath } of container.volumeMounts ?? []) {
    const volume = [...claims, ...spec.volumes].find((one) => one.name === name);
    if (volume === undefined) throw new Error(`no volume ${name}`);
    mkdirSync(join(folder, mountPath), { recursive: true });
    for (const [path, text] of filesOf(volume, cluster)) write(join(folder, mountPath, path), text);
  }
  const inFolder = (text: string) =>
    mounts.some(({ mountPath }) => text === mountPath || text.startsWith(`${mountPath}/`))
      ? join(folder, text)
      : text;
  const env = Object.entries(environmentOf(container, labels, cluster)).map(([name, text]) => [
    name,
    inFolder(text),
  ]);
  return { args: container.args, env: Object.fromEntries(env) };
}

// biome-ignore lint/suspicious/noExplicitAny: validated elsewhere.
function filesOf({ projected, claim, emptyDir }: any, cluster: Cluster): [path: string, text: string][] {
  if (claim !== undefined || emptyDir !== undefined) return [];
  // A kind of volume that only users add.
  if (projected === undefined) return [];
  // biome-ignore lint/suspicious/noExplicitAny: validated elsewhere.
  return projected.sources.flatMap((source: any) => {
    const [kind] = Object.keys(source);
    const { name, items } = source[kind!];
    const content = contentOf(cluster, `${kind} ${name}`);
    if (items === undefined) return Object.entries(content);
    return items.map(({ key, path }: { key: string; path: string }) => {
      if (content[key] === undefined) throw new Error(`no key ${key} in ${kind} ${name}`);
      return [path, content[key]];
    });
  });
}

// biome-ignore lint/suspicious/noExplicitAny: validated elsewhere.
function environmentOf(container: any, labels: Readonly<Record<string, string>>, cluster: Cluster) {
  const env: Record<string, string> = {};
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    const name = configMapRef ? `configMap ${configMapRef.name}` : `secret ${secretRef.name}`;
    Object.assign(env, contentOf(cluster, name));
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    env[name] = valueFrom === undefined ? expanded(value ?? '', env) : fieldOf(valueFrom, labels);
  }
  return env;
}

/** `$(NAME)` stands for what was set before; `$$(NAME)` for itself. */
function expanded(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^)]+)\)/g, (all, name?: string) =>
    name === undefined ? '$' : (env[name] ?? all),
  );
}

function fieldOf(
  valueFrom: { readonly fieldRef: { readonly fieldPath: string } },
  labels: Readonly<Record<string, string>>,
): string {
  const [, label] = /^metadata\.labels\['(.*)'\]$/.exec(valueFrom.fieldRef.fieldPath) ?? [];
  if (label === undefined) throw new Error(`unknown field ${valueFrom.fieldRef.fieldPath}`);
  return labels[label] ?? '';
}

function contentOf(cluster: Cluster, name: string): Readonly<Record<string, string>> {
  const content = cluster[name];
  if (content === undefined) throw new Error(`no ${name}`);
  return content;
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
