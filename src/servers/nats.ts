/** A real nats-server for the demo and the tests, with its own port, store and configuration. */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import {
  freePort,
  notInstalled,
  type RestartableServer,
  startProcess,
  startRestartable,
  temporaryFolder,
} from './server-process.ts';

/** Who may sign in; without it, anyone. */
export type NatsAuth =
  | { readonly kind: 'user'; readonly user: string; readonly password: string }
  | { readonly kind: 'token'; readonly token: string }
  /** The public keys that may sign in. */
  | { readonly kind: 'nkey'; readonly publicKeys: readonly string[] }
  /** Decentralised: the operator's JWT and the account JWTs, by public key; one of them may be the system account. */
  | {
      readonly kind: 'jwt';
      readonly operator: string;
      readonly accounts: Readonly<Record<string, string>>;
      readonly systemAccount?: string;
    };

/** PEM files. With a `ca`, clients must show a certificate that it signed. */
export interface NatsTls {
  readonly certFile: string;
  readonly keyFile: string;
  readonly ca?: string;
}

export interface NatsOptions {
  readonly port?: number;
  readonly auth?: NatsAuth;
  readonly tls?: NatsTls;
  /** Default true. */
  readonly jetstream?: boolean;
  /** Storage that JetStream may use; default: the server's own choice. */
  readonly maxStoreBytes?: number;
  readonly maxPayloadBytes?: number;
  /** Inserted unchanged into the block of JetStream's configuration. */
  readonly jetstreamExtra?: string;
  /** Lines of nats-server configuration, inserted unchanged. */
  readonly extra?: string;
}

export interface NatsServer extends RestartableServer {
  /** Where JetStream keeps its data. */
  readonly storePath: string;
}

const COMMAND = 'nats-server';
/** Names another nats-server than that of the machine: its path. */
const PROGRAM_VARIABLE = 'FANOUT_NATS_SERVER';
/** Debian's package installs it in this folder, which is not on every user's PATH. */
const SYSTEM_FOLDER = '/usr/sbin';
const PROBE_TIMEOUT_MS = 1_000;

/** Throws if the binary is missing, and says what to install. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  const command = findCommand();
  const folder = temporaryFolder('nats');
  const port = options.port ?? (await freePort());
  const file = join(folder.path, 'nats.conf');
  const storePath = join(folder.path, 'jetstream');
  writeFileSync(file, configuration(options, port, storePath), { mode: 0o600 });
  const start = () => startProcess(command, ['-c', file], () => greets(port));
  const server = await startRestartable(start).catch((error) => {
    folder.remove();
    throw error;
  });
  return {
    ...server,
    url: `nats://127.0.0.1:${port}`,
    port,
    storePath,
    async stop() {
      await server.halt('SIGKILL');
      folder.remove();
    },
  };
}

/** Returns the version of the nats-server that is started here, such as 2.9.10. */
export function natsVersion(): string {
  const text = execFileSync(findCommand(), ['--version'], { encoding: 'utf8' });
  const version = /v(\d+\.\d+\.\d+)/.exec(text)?.[1];
  if (version === undefined) throw new Error(`${COMMAND} --version says ${text.trim()}`);
  return version;
}

function findCommand(): string {
  const given = process.env[PROGRAM_VARIABLE];
  if (given !== undefined) return given;
  const folders = [...(process.env.PATH ?? '').split(delimiter), SYSTEM_FOLDER];
  const found = folders.map((folder) => join(folder, COMMAND)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error(`${COMMAND}: ${notInstalled(COMMAND)}`);
}

function configuration(options: NatsOptions, port: number, storePath: string): string {
  const { auth, tls, jetstream = true, maxStoreBytes, maxPayloadBytes, jetstreamExtra = '', extra } = options;
  const lines = [`host: "127.0.0.1"`, `port: ${port}`, `server_name: "fanout-${port}"`];
  if (jetstream) {
    const limit = maxStoreBytes === undefined ? '' : `, max_file_store: ${maxStoreBytes}`;
    lines.push(`jetstream { store_dir: ${JSON.stringify(storePath)}${limit}, ${jetstreamExtra} }`);
  }
  if (maxPayloadBytes !== undefined) lines.push(`max_payload: ${maxPayloadBytes}`);
  if (auth) lines.push(...authLines(auth));
  if (tls) {
    const verify = tls.ca === undefined ? '' : `, ca_file: ${JSON.stringify(tls.ca)}, verify: true`;
    lines.push(
      `tls { cert_file: ${JSON.stringify(tls.certFile)}, key_file: ${JSON.stringify(tls.keyFile)}${verify} }`,
    );
  }
  if (extra !== undefined) lines.push(extra);
  return `${lines.join('\n')}\n`;
}

function authLines(auth: NatsAuth): string[] {
  switch (auth.kind) {
    case 'user':
      return [
        `authorization { user: ${JSON.stringify(auth.user)}, password: ${JSON.stringify(auth.password)} }`,
      ];
    case 'token':
      return [`authorization { token: ${JSON.stringify(auth.token)} }`];
    case 'nkey':
      return [`authorization { users: [ ${auth.publicKeys.map((key) => `{ nkey: ${key} }`).join(', ')} ] }`];
    case 'jwt': {
      const preload = Object.entries(auth.accounts).map(([key, jwt]) => `  ${key}: ${jwt}`);
      const system = auth.systemAccount === undefined ? [] : [`system_account: ${auth.systemAccount}`];
      return [
        `operator: ${auth.operator}`,
        ...system,
        'resolver: MEMORY',
        'resolver_preload: {',
        ...preload,
        '}',
      ];
    }
  }
}

/** A server that is ready sends INFO first, whatever it requires of its clients. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const settle = (ready: boolean) => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(false));
    socket.once('data', (chunk) => settle(chunk.toString('latin1').startsWith('INFO')));
    socket.once('error', () => settle(false));
    socket.once('close', () => settle(false));
  });
}
