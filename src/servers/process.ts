/** Starts real servers as child processes, for the demo and the tests: free port, ready check, no process left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A server that runs. `stop` ends the process and removes its data; calling it twice is fine. */
export interface Server {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** A server that can be made to hang, and to go on, and whose data outlive its process. */
export interface RestartableServer extends Server {
  /** Ends the process (SIGKILL is a crash) and keeps its data. */
  halt(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again after `halt`, on the same port and data. */
  resume(): Promise<void>;
  /** Such as SIGSTOP and SIGCONT, for a server that hangs. */
  signal(signal: NodeJS.Signals): void;
}

/** Only what hangs may reach it: a machine with other work to do takes its time. */
const READY_TIMEOUT_MS = 120_000;
const READY_POLL_MS = 50;
const TERM_GRACE_MS = 5_000;
const KEPT_OUTPUT_CHARACTERS = 8_192;
/** Of the shell, for a command that is not there. */
const EXIT_NOT_FOUND = 127;
export const NOT_FOUND = 'the program is not installed';

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

/**
 * Becomes the program, and leaves a watcher behind that holds the other end of our pipe: when that ends, whatever ended
 * us, the watcher ends the program and removes its data. A word from us means that the program has ended first.
 */
const RUN_WHILE_FD_3_IS_OPEN = `
signal=$1; folder=$2; shift 2
(
  trap '' INT TERM HUP
  [ -z "$(cat <&3)" ] || exit 0
  kill -$signal $$
  tenths=0
  while kill -0 $$ && [ $tenths -lt 50 ]; do sleep 0.1; tenths=$((tenths + 1)); done
  kill -KILL $$
  [ -z "$folder" ] || rm -rf "$folder"
) >/dev/null 2>&1 &
exec "$@" 3<&-
`;

export interface TiedOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly uid?: number;
  readonly gid?: number;
  /** What ends the program when we end. */
  readonly signal?: 'TERM' | 'QUIT' | 'KILL';
  /** Removed after the program's end when we end first. */
  readonly folder?: string;
}

/** Starts a program that does not outlive this process, whatever ends it, SIGKILL included. */
export function spawnTied(command: string, args: readonly string[], options: TiedOptions = {}): ChildProcess {
  const { signal = 'TERM', folder = '', ...rest } = options;
  const child = spawn('sh', ['-c', RUN_WHILE_FD_3_IS_OPEN, 'sh', signal, folder, command, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // A terminal's Ctrl-C is for us alone: we decide what ends, and when.
    detached: true,
    ...rest,
  });
  // The watcher has nothing left to watch: it must not end whatever gets the same number next, and the data may be
  // wanted again.
  const pipe = child.stdio[3] as Socket | undefined;
  child.once('exit', () => pipe?.end('ended'));
  pipe?.resume();
  pipe?.on('error', () => {});
  return child;
}

export interface ServerProcess {
  readonly child: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts `command` and waits until `ready` resolves to true. Throws with the last output where the command is missing,
 * ends early or is not ready in time.
 */
export async function startProcess(
  command: string,
  args: readonly string[],
  ready: () => Promise<boolean>,
  options: TiedOptions = {},
): Promise<ServerProcess> {
  const child = spawnTied(command, args, options);
  let output = '';
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT_CHARACTERS);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  let failure: string | undefined;
  child.on('exit', (code, signal) => {
    failure ??= code === EXIT_NOT_FOUND ? NOT_FOUND : `ended with ${code ?? signal}`;
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => endProcess(child, signal);
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (failure === undefined && Date.now() < deadline) {
    const isReady = await ready().catch(() => false);
    await sleep(READY_POLL_MS);
    // Whoever answered may be another server on the same port: then ours has ended meanwhile.
    if (isReady && failure === undefined) return { child, stop, signal: (signal) => void child.kill(signal) };
  }
  await stop('SIGKILL');
  throw new Error(`${command}: ${failure ?? `not ready within ${READY_TIMEOUT_MS} ms`}\n${output}`);
}

/** Starts a server that can be started again, on the data that its last process left. */
export async function startRestartable(
  start: () => Promise<ServerProcess>,
): Promise<Pick<RestartableServer, 'halt' | 'resume' | 'signal'>> {
  let running: ServerProcess | undefined = await start();
  return {
    async halt(signal = 'SIGTERM') {
      await running?.stop(signal);
      running = undefined;
    },
    async resume() {
      running ??= await start();
    },
    signal(signal) {
      running?.signal(signal);
    },
  };
}

/** Resolves when the process has ended; SIGKILL where it takes its time. A process that is stopped goes on first. */
async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), TERM_GRACE_MS);
  await ended;
  clearTimeout(timer);
}
