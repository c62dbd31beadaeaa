/** An in-memory emulator of DynamoDB (`dynalite`) for the demo and the tests, in a separate process. */
import { createRequire } from 'node:module';
import { freePort, type RestartableServer, startProcess, startRestartable } from './server-process.ts';

/**
 * The program of the child; its arguments are dynalite's path and the port. If a client cuts off a request, dynalite
 * throws, which must not end the process.
 */
const PROGRAM = `
const [dynalite, port] = process.argv.slice(1);
process.on('uncaughtException', (error) => {
  if (error.code !== 'ECONNRESET') throw error;
});
require(dynalite)({ createTableMs: 0, deleteTableMs: 0 }).listen(Number(port), '127.0.0.1');
`;

/** Starts the emulator. It stores nothing on disk, so it is empty after a restart. */
export async function startDynamoDb(): Promise<RestartableServer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = ['--input-type=commonjs', '-e', PROGRAM, dynalitePath(), String(port)];
  const server = await startRestartable(() => startProcess(process.execPath, args, () => answers(url)));
  return { ...server, url, port, stop: () => server.halt('SIGKILL') };
}

async function answers(url: string): Promise<boolean> {
  return (await fetch(url)).ok;
}

function dynalitePath(): string {
  try {
    return createRequire(import.meta.url).resolve('dynalite');
  } catch (cause) {
    throw new Error('dynalite is not installed. Run npm install --save-dev dynalite.', { cause });
  }
}
