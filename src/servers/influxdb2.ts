/** A real InfluxDB 2 (`influxd`) for the tests, where there is one: Debian has none. */
import { join } from 'node:path';
import { influxdOf } from './programs.ts';
import {
  freePort,
  type RestartableServer,
  startProcess,
  startRestartable,
  temporaryFolder,
} from './server-process.ts';

export interface InfluxDb2 extends RestartableServer {
  readonly org: string;
  /** May do everything. */
  readonly token: string;
  /** Makes a bucket, which keeps everything unless `keepSeconds` is given (an hour at least). Resolves to its id. */
  createBucket(name: string, keepSeconds?: number): Promise<string>;
  removeBucket(name: string): Promise<void>;
  /** Makes a token with these rights on the bucket. */
  createToken(bucketId: string, actions: readonly ('read' | 'write')[]): Promise<string>;
}

const ORG = 'fanout';
const TOKEN = 'a-token-of-the-tests';
const SETUP = { username: 'admin', password: 'stores-of-tests', org: ORG, bucket: 'first', token: TOKEN };
const HEADERS = { authorization: `Token ${TOKEN}`, 'content-type': 'application/json' };

/** The program; undefined if there is none on the PATH. */
export const influxd2 = (): string | undefined => influxdOf(2);

/** Starts it, without a user interface or usage reports, on a free port and with its data in a temporary folder. */
export async function startInfluxDb2(): Promise<InfluxDb2> {
  const program = influxd2();
  if (program === undefined) throw new Error('there is no InfluxDB 2 on the PATH');
  const folder = temporaryFolder('influxdb2');
  const at = (name: string) => join(folder.path, name);
  try {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const paths = [
      `--bolt-path=${at('bolt')}`,
      `--sqlite-path=${at('sqlite')}`,
      `--engine-path=${at('engine')}`,
    ];
    const flags = [`--http-bind-address=127.0.0.1:${port}`, '--reporting-disabled', '--log-level=error'];
    const ready = async () => (await fetch(`${url}/health`)).ok;
    const start = () => startProcess(program, ['run', ...paths, ...flags], ready, { folder: folder.path });
    const server = await startRestartable(start);
    const stop = async () => {
      // At once, because nobody needs the data.
      await server.halt('SIGKILL');
      folder.remove();
    };
    try {
      const { org } = (await call(`${url}/api/v2/setup`, SETUP)) as { org: { id: string } };
      return { ...server, ...managed(url, org.id), url, port, org: ORG, token: TOKEN, stop };
    } catch (error) {
      await stop();
      throw error;
    }
  } catch (error) {
    folder.remove();
    throw error;
  }
}

function managed(url: string, orgID: string) {
  return {
    async createBucket(name: string, keepSeconds = 0) {
      const retentionRules = [{ type: 'expire', everySeconds: keepSeconds }];
      const made = await call(`${url}/api/v2/buckets`, { orgID, name, retentionRules });
      return (made as { id: string }).id;
    },
    async removeBucket(name: string) {
      const found = await call(`${url}/api/v2/buckets?${new URLSearchParams({ name })}`);
      const [bucket] = (found as { buckets: { id: string }[] }).buckets;
      await call(`${url}/api/v2/buckets/${bucket!.id}`, undefined, 'DELETE');
    },
    async createToken(bucketId: string, actions: readonly ('read' | 'write')[]) {
      const resource = { type: 'buckets', id: bucketId, orgID };
      const permissions = actions.map((action) => ({ action, resource }));
      const made = await call(`${url}/api/v2/authorizations`, { orgID, permissions });
      return (made as { token: string }).token;
    },
  };
}

async function call(
  url: string,
  body?: object,
  method = body === undefined ? 'GET' : 'POST',
): Promise<unknown> {
  const response = await fetch(url, {
    method,
    headers: HEADERS,
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${new URL(url).pathname}: ${response.status} ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}
