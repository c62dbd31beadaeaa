/** A release of the chart in a namespace of a real API server, as helm and kubectl see it. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CHART, type KubernetesObject, type Values } from '../helm/chart.ts';
import { LIMIT_MS } from '../limits.ts';
import type { ApiServer } from './api-server.ts';

/** A helm that was built without one knows none. */
const KUBERNETES = '1.33.0';
const POLL_MS = 200;
const run = promisify(execFile);

/** Says that a check has passed, or the problem. */
export type Say = (what: string, problem: string | undefined) => void;

export interface Ended {
  readonly code: number;
  readonly text: string;
}

export class Release {
  readonly namespace: string;
  readonly #api: ApiServer;
  readonly #helm: string;

  constructor(api: ApiServer, helm: string, namespace: string) {
    this.#api = api;
    this.#helm = helm;
    this.namespace = namespace;
  }

  async run(program: string, args: readonly string[]): Promise<Ended> {
    const env = { ...process.env, KUBECONFIG: this.#api.kubeconfig, HOME: this.#api.folder };
    return await run(program, args, { env, maxBuffer: 2 ** 26 }).then(
      ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }),
      (error) => ({ code: Number(error.code) || 1, text: `${error.stdout}${error.stderr}` }),
    );
  }

  helm(...args: readonly string[]): Promise<Ended> {
    return this.run(this.#helm, [...args, '-n', this.namespace]);
  }

  apply(values: Values, ...more: readonly string[]): Promise<Ended> {
    return this.helm('upgrade', '--install', 'shop', CHART, '-f', this.#file(values), ...more);
  }

  template(values: Values): Promise<Ended> {
    return this.helm('template', 'shop', CHART, '--kube-version', KUBERNETES, '-f', this.#file(values));
  }

  kubectl(...args: readonly string[]): Promise<Ended> {
    return this.run('kubectl', [...args, '-n', this.namespace]);
  }

  /** What a change of the release would change, with what the API server counts changes by. */
  async objects(): Promise<KubernetesObject[]> {
    const core = `/api/v1/namespaces/${this.namespace}`;
    const apps = `/apis/apps/v1/namespaces/${this.namespace}`;
    const paths = [`${core}/secrets`, `${core}/services`, `${core}/configmaps`, `${apps}/statefulsets`];
    const lists = await Promise.all(paths.map((path) => this.#api.list(path)));
    // Helm's own record of the release.
    return lists
      .flat()
      .filter(({ type, metadata }) => !/^helm/.test(type ?? '') && metadata.name.startsWith('shop'));
  }

  pods(): Promise<KubernetesObject[]> {
    return this.#api.list(`/api/v1/namespaces/${this.namespace}/pods`);
  }

  get(path: string): ReturnType<ApiServer['ask']> {
    return this.#api.ask('GET', path.replace('NS', this.namespace));
  }

  #file(values: Values): string {
    const file = join(this.#api.folder, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    return file;
  }
}

export async function until(isTrue: () => Promise<boolean>): Promise<boolean> {
  for (const end = Date.now() + LIMIT_MS; Date.now() < end; ) {
    if (await isTrue()) return true;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return false;
}
