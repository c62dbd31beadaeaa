/**
 * Checks objects against the models of Kubernetes and of the Prometheus operator, which are generated from their own
 * definitions: the validators refuse wrong and missing values, the compiler refuses unknown fields.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  PodMonitor,
  PrometheusRule,
  ServiceMonitor,
} from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import { StatefulSet } from 'kubernetes-models/apps/v1';
import { Ingress, NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ConfigMap, Pod, Secret, Service, ServiceAccount } from 'kubernetes-models/v1';
import type { KubernetesObject } from './chart.ts';

interface Model {
  new (data: never): { validate(): void };
  readonly apiVersion: string;
}

const OPERATOR = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
const MODELS: Readonly<Record<string, readonly [from: string, model: Model]>> = {
  ConfigMap: ['kubernetes-models/v1', ConfigMap],
  Pod: ['kubernetes-models/v1', Pod],
  Secret: ['kubernetes-models/v1', Secret],
  Service: ['kubernetes-models/v1', Service],
  ServiceAccount: ['kubernetes-models/v1', ServiceAccount],
  StatefulSet: ['kubernetes-models/apps/v1', StatefulSet],
  NetworkPolicy: ['kubernetes-models/networking.k8s.io/v1', NetworkPolicy],
  PodDisruptionBudget: ['kubernetes-models/policy/v1', PodDisruptionBudget],
  Ingress: ['kubernetes-models/networking.k8s.io/v1', Ingress],
  PodMonitor: [OPERATOR, PodMonitor],
  ServiceMonitor: [OPERATOR, ServiceMonitor],
  PrometheusRule: [OPERATOR, PrometheusRule],
};
const MODULES = join(dirname(fileURLToPath(import.meta.url)), '../../node_modules');

/** What is wrong with them, in words. */
export function problemsOf(objects: readonly KubernetesObject[], folder: string): string[] {
  const problems = objects.flatMap((object) => {
    const [, Model] = MODELS[object.kind] ?? [];
    if (Model?.apiVersion !== object.apiVersion) return [`${object.apiVersion} ${object.kind}: no such kind`];
    try {
      new Model(object as never).validate();
      return [];
    } catch (error) {
      return [`${object.kind} ${object.metadata.name}: ${String(error)}`];
    }
  });
  return [...problems, ...unknownFields(objects, folder)];
}

function unknownFields(objects: readonly KubernetesObject[], folder: string): string[] {
  const kinds = [...new Set(objects.map(({ kind }) => kind))].filter((kind) => MODELS[kind] !== undefined);
  const imports = kinds.map((kind) => `import type { I${kind} } from '${MODELS[kind]![0]}';\n`);
  const lines = objects.map(({ kind, ...rest }, i) =>
    MODELS[kind] === undefined
      ? ''
      : `export const o${i}: I${kind} = ${JSON.stringify({ kind, ...rest })};\n`,
  );
  const file = join(folder, 'objects.ts');
  writeFileSync(file, [...imports, ...lines].join(''));
  // Modules are looked up next to the file.
  const modules = join(folder, 'node_modules');
  if (!existsSync(modules)) symlinkSync(MODULES, modules);
  const options = ['--noEmit', '--skipLibCheck', '--strict', '--module', 'nodenext', '--pretty', 'false'];
  const { stdout } = spawnSync(join(MODULES, '.bin/tsc'), ['--ignoreConfig', ...options, file], {
    encoding: 'utf8',
  });
  return stdout.split('\n').filter((line) => line !== '');
}
