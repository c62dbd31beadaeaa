/**
 * A real Kubernetes API server with etcd and the controller manager. There are no nodes: `startNode` says that pods are
 * ready, as a kubelet would, without running them. kubelet.ts runs those of one namespace.
 */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import {
  freePort,
  type ServerProcess,
  startProcess,
  temporaryFolder,
} from '../../src/servers/server-process.ts';
import type { KubernetesObject } from '../helm/chart.ts';

const TOKEN = 'an-administrator';
const NODE_MS = 200;

interface Answer {
  readonly code: number;
  // biome-ignore lint/suspicious/noExplicitAny: of any kind.
  readonly body: any;
}

export interface ApiServer {
  /** For helm and kubectl. */
  readonly kubeconfig: string;
  readonly folder: string;
  ask(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Objects of a kind, by its path, such as /api/v1/namespaces/a/pods. */
  list(path: string): Promise<KubernetesObject[]>;
  /** From then on, somebody else runs the pods of the namespace. */
  leave(namespace: string): void;
  stop(): Promise<void>;
}

export async function startApiServer(): Promise<ApiServer> {
  const folder = temporaryFolder('cluster');
  const at = (name: string) => join(folder.path, name);
  const [etcdPort, peerPort, port] = await Promise.all([freePort(), freePort(), freePort()]);
  const started: ServerProcess[] = [];
  const etcd = `http://127.0.0.1:${etcdPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(at('key.pem'), privateKey.export({ type: 'pkcs1', format: 'pem' }));
  writeFileSync(at('tokens.csv'), `${TOKEN},admin,1,system:masters\n`);
  const kubeconfig = at('kubeconfig');
  const cluster = { server: `https://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'a', cluster }],
      users: [{ name: 'a', user: { token: TOKEN } }],
      contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
      'current-context': 'a',
    }),
  );
  const ask = (method: string, path: string, body?: unknown) => askApi(port, method, path, body);
  const isReady = (path: string) =>
    ask('GET', path).then(
      ({ code }) => code === 200,
      () => false,
    );
  started.push(
    await startProcess(
      'etcd',
      [
        '--data-dir',
        at('etcd'),
        '--listen-client-urls',
        etcd,
        '--advertise-client-urls',
        etcd,
        '--listen-peer-urls',
        peer,
        '--initial-advertise-peer-urls',
        peer,
        '--initial-cluster',
        `default=${peer}`,
      ],
      () =>
        fetch(`${etcd}/health`).then(
          ({ ok }) => ok,
          () => false,
        ),
    ),
    await startProcess(
      'kube-apiserver',
      [
        '--etcd-servers',
        etcd,
        '--secure-port',
        String(port),
        '--bind-address',
        '127.0.0.1',
        '--cert-dir',
        at('certs'),
        '--token-auth-file',
        at('tokens.csv'),
        '--authorization-mode',
        'RBAC',
        '--service-account-issuer',
        'https://kubernetes.default.svc',
        '--service-account-key-file',
        at('key.pem'),
        '--service-account-signing-key-file',
        at('key.pem'),
        '--service-cluster-ip-range',
        '10.96.0.0/16',
      ],
      () => isReady('/readyz'),
    ),
    await startProcess(
      'kube-controller-manager',
      [
        '--kubeconfig',
        kubeconfig,
        '--service-account-private-key-file',
        at('key.pem'),
        '--secure-port',
        '0',
        '--leader-elect=false',
      ],
      () => isReady('/api/v1/namespaces/default/serviceaccounts/default'),
    ),
  );
  const left = new Set<string>();
  const node = startNode(ask, left);
  return {
    kubeconfig,
    folder: folder.path,
    ask,
    list: async (path) => (await ask('GET', path)).body.items ?? [],
    leave: (namespace) => void left.add(namespace),
    async stop() {
      clearInterval(node);
      for (const server of started.reverse()) await server.stop('SIGTERM');
      if (existsSync(folder.path)) folder.remove();
    },
  };
}

function askApi(port: number, method: string, path: string, body?: unknown): Promise<Answer> {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const content = body === undefined ? '' : JSON.stringify(body);
  const headers = {
    authorization: `Bearer ${TOKEN}`,
    'content-type': type,
    // Node.js gives none to a DELETE.
    'content-length': Buffer.byteLength(content),
  };
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method, path, headers, rejectUnauthorized: false };
    const asked = request(options, (reply) => {
      let text = '';
      reply.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      reply.on('end', () =>
        resolve({ code: reply.statusCode!, body: text.startsWith('{') ? JSON.parse(text) : text }),
      );
    });
    asked.on('error', reject).end(content);
  });
}

/** Makes every pod ready. One that runs to its end has succeeded at once. */
function startNode(ask: ApiServer['ask'], left: ReadonlySet<string>): NodeJS.Timeout {
  return setInterval(async () => {
    const { body } = await ask('GET', '/api/v1/pods').catch(() => ({ body: {} }));
    for (const { metadata, spec, status } of body.items ?? []) {
      if (status.phase !== 'Pending' || left.has(metadata.namespace)) continue;
      const ready = { type: 'Ready', status: 'True', lastTransitionTime: new Date().toISOString() };
      const phase = spec.restartPolicy === 'Never' ? 'Succeeded' : 'Running';
      const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/status`;
      await ask('PATCH', path, { status: { phase, conditions: [ready] } }).catch(() => {});
    }
  }, NODE_MS);
}
