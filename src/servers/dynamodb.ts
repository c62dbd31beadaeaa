/** An emulator of DynamoDB in memory (`dynalite`) for the demo and the tests, in a process of its own. */
import { createRequire } from 'node:module';
import { freePort, type RestartableServer, startProcess, startRestartable } from './server-process.ts';

/**
 * The child's program; its arguments are dynalite's path and the port. dynalite throws where a client cuts a request
 * off, which must not end it.
 */
const PROGRAM = `
const [dynalite, port] = process.argv.slice(1);
process.on('uncaughtException', (error) => {
  if (error.code !== 'ECONNRESET') throw error;
});
require(dynalite)({ createTableMs: 0, deleteTableMs: 0 }).listen(Number(port), '127.0.0.1');
`;

/** It keeps nothing: a restart leaves it empty. */
export async function startDynamoDb(): Promise<RestartableServer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = ['--input-type=commonjs', '-e', PROGRAM, dynalitePath(), String(port)];
  const server = await startRestartable(() => startProcess(process.execPath, args, () => answers(url)));
  return { ...server, url, port, stop: () => server.halt() };
}

async function answers(url: string): Promise<boolean> {
  return (await fetch(url)).ok;
}

function dynalitePath(): string {
  try {
    return createRequire(import.meta.url).resolve('dynalite');
  } catch (cause) {
    throw new Error('dynalite is not installed: npm install --save-dev dynalite', { cause });
  }
}
