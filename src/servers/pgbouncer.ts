/** A real pooler in front of a PostgreSQL, for the tests: Debian's package `pgbouncer`. */
import { chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import {
  freePort,
  type RestartableServer,
  startProcess,
  startRestartable,
  temporaryFolder,
  unprivilegedUser,
} from './server-process.ts';

export interface PgBouncerOptions {
  /** The server behind it, and the password of its user `postgres`. */
  readonly port: number;
  readonly password: string;
  /** For how long a client keeps a session of the server. */
  readonly mode: 'session' | 'transaction' | 'statement';
  /** Most sessions of the server for each database. */
  readonly poolSize: number;
  /** More of its settings, such as `query_wait_timeout`. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

/** It ends at once with SIGTERM. With SIGINT, it waits until its clients have ended their transactions. */
export type PgBouncer = RestartableServer;

const CONNECT_TIMEOUT_MS = 5_000;
const MAX_CLIENTS = 200;

export async function startPgBouncer(options: PgBouncerOptions): Promise<PgBouncer> {
  const { password, mode, poolSize } = options;
  const user = await unprivilegedUser();
  const folder = temporaryFolder('pgbouncer');
  const port = await freePort();
  const [config, users] = ['pgbouncer.ini', 'users.txt'].map((name) => join(folder.path, name));
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: users,
    pool_mode: mode,
    default_pool_size: poolSize,
    max_client_conn: MAX_CLIENTS,
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  const databases = ['[databases]', `* = host=127.0.0.1 port=${options.port}`];
  writeFileSync(config!, `${[...databases, '[pgbouncer]', ...lines].join('\n')}\n`);
  writeFileSync(users!, `"postgres" "${password}"\n`, { mode: 0o600 });
  if (user.uid !== undefined && user.gid !== undefined) {
    for (const path of [folder.path, config!, users!]) chownSync(path, user.uid, user.gid);
  }
  const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
  const start = () => startProcess('pgbouncer', [config!], () => answers(url), user);
  try {
    const server = await startRestartable(start);
    return {
      ...server,
      url,
      port,
      async stop() {
        await server.halt('SIGKILL');
        folder.remove();
      },
    };
  } catch (error) {
    folder.remove();
    throw error;
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on('error', () => {});
  try {
    await client.connect();
    return true;
  } finally {
    await client.end();
  }
}
