/** Starts real servers as child processes, for the demo and the tests: free port, ready check, no process left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A server that runs. `stop` ends the process and removes its data; calling it twice is fine. */
export interface Server {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 50;
const TERM_GRACE_MS = 5_000;
const KEPT_OUTPUT_CHARACTERS = 8_192;

/**
 * Below the ports that the system gives to clients, so that no connection takes it before its server does; at random,
 * so that test files that run beside each other do not take the same.
 */
const PORTS = { from: 20_000, to: 32_000 } as const;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    server.close();
    if (isFree) return port;
  }
}

/** A folder of its own under the system's temporary one. */
export function temporaryFolder(name: string): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `fanout-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export interface ServerProcess {
  readonly child: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Starts `command` and waits until `ready` resolves to true. The child dies with this process, whatever ends it but
 * SIGKILL. Throws with the last output where the command is missing, ends early or is not ready in time.
 */
export async function startProcess(
  command: string,
  args: readonly string[],
  ready: () => Promise<boolean>,
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<ServerProcess> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let output = '';
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT_CHARACTERS);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let failure: string | undefined;
  child.on('error', (error) => {
    failure = error.message;
  });
  child.on('exit', (code, signal) => {
    failure ??= `ended with ${code ?? signal}`;
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    process.off('exit', kill);
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    child.kill('SIGCONT');
    const timer = setTimeout(kill, TERM_GRACE_MS);
    await ended;
    clearTimeout(timer);
  };
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (failure === undefined && Date.now() < deadline) {
    const isReady = await ready().catch(() => false);
    await sleep(READY_POLL_MS);
    // Whoever answered may be another server on the same port: then ours has ended meanwhile.
    if (isReady && failure === undefined) return { child, stop };
  }
  await stop('SIGKILL');
  throw new Error(`${command}: ${failure ?? `not ready within ${READY_TIMEOUT_MS} ms`}\n${output}`);
}
