/** A real InfluxDB 1.x (`influxd`) for the demo and the tests. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { influxdOf, programsNamed } from './programs.ts';
import {
  freePort,
  type RestartableServer,
  startProcess,
  startRestartable,
  temporaryFolder,
} from './server-process.ts';

export interface InfluxDbOptions {
  /** Turns on sign-in, with this user as the administrator. */
  readonly admin?: { readonly user: string; readonly password: string };
  /** A larger body of a request is refused with 413. */
  readonly maxBodyBytes?: number;
  /** How many writes the server handles at once; unlimited if absent. */
  readonly maxConcurrentWrites?: number;
  /** Points with a further value of a tag are dropped; unlimited if absent. */
  readonly maxValuesPerTag?: number;
}

const DEFAULT_MAX_BODY_BYTES = 25_000_000;

/** Starts `influxd`, without logs or usage reports, on free ports and with its data in a temporary folder. */
export async function startInfluxDb(options: InfluxDbOptions = {}): Promise<RestartableServer> {
  const folder = temporaryFolder('influxdb');
  try {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const config = join(folder.path, 'influxdb.conf');
    await writeFile(config, configText(folder.path, port, await freePort(), options));
    const program = influxd1();
    const start = () => startProcess(program, ['run', '-config', config], () => answersPing(url));
    const server = await startRestartable(start);
    const stop = async () => {
      // At once, because nobody needs the data.
      await server.halt('SIGKILL');
      folder.remove();
    };
    if (options.admin)
      await createAdmin(url, options.admin).catch(async (error) => {
        await stop();
        throw error;
      });
    return { ...server, url, port, stop };
  } catch (error) {
    folder.remove();
    throw error;
  }
}

/** The one that is there, without asking for its version; of several, the first 1.x. */
function influxd1(): string {
  return (programsNamed('influxd').length > 1 ? influxdOf(1) : undefined) ?? 'influxd';
}

async function answersPing(url: string): Promise<boolean> {
  return (await fetch(`${url}/ping`)).status === 204;
}

/** Creating the first user of a server that requires sign-in needs no sign-in. */
async function createAdmin(url: string, admin: { user: string; password: string }): Promise<void> {
  const quoted = (text: string) => text.replace(/["'\\]/g, '\\$&');
  const q = `CREATE USER "${quoted(admin.user)}" WITH PASSWORD '${quoted(admin.password)}' WITH ALL PRIVILEGES`;
  const response = await fetch(`${url}/query`, { method: 'POST', body: new URLSearchParams({ q }) });
  if (!response.ok) throw new Error(`influxd: the administrator could not be created: ${response.status}`);
}

function configText(folder: string, port: number, rpcPort: number, options: InfluxDbOptions): string {
  return `
reporting-enabled = false
bind-address = "127.0.0.1:${rpcPort}"
[meta]
  dir = "${folder}/meta"
  logging-enabled = false
[data]
  dir = "${folder}/data"
  wal-dir = "${folder}/wal"
  query-log-enabled = false
  max-values-per-tag = ${options.maxValuesPerTag ?? 0}
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
[logging]
  level = "error"
  suppress-logo = true
[http]
  bind-address = "127.0.0.1:${port}"
  auth-enabled = ${options.admin !== undefined}
  log-enabled = false
  max-body-size = ${options.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES}
  max-concurrent-write-limit = ${options.maxConcurrentWrites ?? 0}
`;
}
