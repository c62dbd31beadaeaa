/** A real nats-server for the demo and the tests, with its own port, store and configuration. */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join, sep } from 'node:path';
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
  /** TLS begins before the server says anything. */
  readonly handshakeFirst?: true;
}

export interface NatsOptions {
  readonly port?: number;
  readonly auth?: NatsAuth;
  readonly tls?: NatsTls;
  /** Default true. */
  readonly jetstream?: boolean;
  /** Of JetStream. */
  readonly domain?: string;
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

/** A path, or a name to look for on the PATH. */
const COMMAND = process.env.FANOUT_NATS_SERVER ?? 'nats-server';
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
  const start = () => startProcess(command, ['-c', file], () => greets(port, options));
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

function findCommand(): string {
  if (COMMAND.includes(sep)) {
    if (existsSync(COMMAND)) return COMMAND;
    throw new Error(`FANOUT_NATS_SERVER: there is no ${COMMAND}`);
  }
  const folders = [...(process.env.PATH ?? '').split(delimiter), SYSTEM_FOLDER];
  const found = folders.map((folder) => join(folder, COMMAND)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error(`${COMMAND}: ${notInstalled(COMMAND)}`);
}

/** Of the server that `startNats` starts, such as 2.9.10. */
export function natsVersion(): string {
  const said = execFileSync(findCommand(), ['--version'], { encoding: 'utf8' });
  const [, version] = /v(\d+\.\d+\.\d+)/.exec(said) ?? [];
  if (version === undefined) throw new Error(`${COMMAND} --version says ${JSON.stringify(said)}`);
  return version;
}

function configuration(options: NatsOptions, port: number, storePath: string): string {
  const { auth, tls, jetstream = true, domain, maxStoreBytes, maxPayloadBytes } = options;
  const { jetstreamExtra = '', extra } = options;
  const lines = [`host: "127.0.0.1"`, `port: ${port}`, `server_name: "fanout-${port}"`];
  if (jetstream) {
    const limit = maxStoreBytes === undefined ? '' : `, max_file_store: ${maxStoreBytes}`;
    const named = domain === undefined ? '' : `, domain: ${domain}`;
    lines.push(`jetstream { store_dir: ${JSON.stringify(storePath)}${limit}${named}, ${jetstreamExtra} }`);
  }
  if (maxPayloadBytes !== undefined) lines.push(`max_payload: ${maxPayloadBytes}`);
  if (auth) lines.push(...authLines(auth));
  if (tls) {
    const verify = tls.ca === undefined ? '' : `, ca_file: ${JSON.stringify(tls.ca)}, verify: true`;
    const first = tls.handshakeFirst ? ', handshake_first: true' : '';
    lines.push(
      `tls { cert_file: ${JSON.stringify(tls.certFile)}, key_file: ${JSON.stringify(tls.keyFile)}${verify}${first} }`,
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

/** A server that is ready sends INFO first, whatever it requires of its clients, unless TLS begins before that. */
function greets(port: number, { tls }: NatsOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const settle = (ready: boolean) => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(false));
    if (tls?.handshakeFirst) socket.once('connect', () => settle(true));
    socket.once('data', (chunk) => settle(chunk.toString('latin1').startsWith('INFO')));
    socket.once('error', () => settle(false));
    socket.once('close', () => settle(false));
  });
}
