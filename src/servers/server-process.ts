/**
 * Starts real servers as child processes for the demo and the tests: on free ports, with a check that they are ready,
 * and with no process left behind.
 */

import { type ChildProcess, execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { spawnTied, type TiedOptions } from '../base/tied-process.ts';
import PACKAGES from './debian-packages.json' with { type: 'json' };

/** A running server. `stop` ends the process and removes its data; calling it twice is fine. */
export interface Server {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** A server that can be made to hang and to continue, and whose data outlive its process. */
export interface RestartableServer extends Server {
  /** Ends the process (SIGKILL is a crash) and keeps its data. */
  halt(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again after `halt`, with the same port and data. */
  resume(): Promise<void>;
  /** Such as SIGSTOP and SIGCONT, for a server that hangs. */
  signal(signal: NodeJS.Signals): void;
}

/** Only what hangs may reach it: a machine with other work to do takes its time. */
const READY_TIMEOUT_MS = 300_000;
const READY_POLL_MS = 50;
/** The same: whoever is killed while it ends may lose what it has not written yet. */
const TERM_GRACE_MS = 120_000;
const KEPT_OUTPUT_CHARACTERS = 8_192;
/** The shell's exit code for a command that does not exist. */
const EXIT_NOT_FOUND = 127;
const PROGRAMS: Readonly<Record<string, string>> = PACKAGES.test;

/**
 * These ports are below those that the system gives to clients, so that no connection takes one before its server does.
 * They are chosen at random.
 */
const PORTS = { from: 20_000, to: 32_000 } as const;
/** For so long nobody else takes a port that was given out: its server may take a while to start, or start again. */
const RESERVED_MS = 600_000;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (!reserve(port)) continue;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    server.close();
    if (isFree) return port;
  }
}

/** Returns false if another process of this user has reserved the port: an empty file for each port says so. */
function reserve(port: number): boolean {
  const folder = join(tmpdir(), `fanout-ports-${process.getuid?.() ?? 0}`);
  const file = join(folder, String(port));
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, '', { flag: 'wx' });
    return true;
  } catch (error) {
    // Where nothing can be reserved, chance has to do.
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) return true;
    if (Date.now() - statSync(file).mtimeMs < RESERVED_MS) return false;
    utimesSync(file, new Date(), new Date());
    return true;
  }
}

/** Creates a new folder in the system's temporary folder. */
export function temporaryFolder(name: string): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `fanout-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** By whom a program is run; by us, if it is empty. */
export interface User {
  readonly uid?: number;
  readonly gid?: number;
}

/** A user for a server that refuses to run as root. */
export async function unprivilegedUser(): Promise<User> {
  if (process.getuid?.() !== 0) return {};
  const run = promisify(execFile);
  const [uid, gid] = await Promise.all(['-u', '-g'].map((flag) => run('id', [flag, 'nobody'])));
  return { uid: Number(uid?.stdout), gid: Number(gid?.stdout) };
}

/** What to do about a program that is missing. */
export function notInstalled(program: string): string {
  const name = PROGRAMS[program];
  return name === undefined
    ? 'the program is not installed'
    : `the program is not installed. On Debian: apt-get install ${name}. Elsewhere, put it on the PATH.`;
}

export interface ServerProcess {
  readonly child: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts `command` and waits until `ready` resolves to true. If the command is missing, ends early or is not ready in
 * time, throws an error with the end of its output.
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
    failure ??= code === EXIT_NOT_FOUND ? notInstalled(command) : `ended with ${code ?? signal}`;
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => endProcess(child, signal);
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (failure === undefined && Date.now() < deadline) {
    const isReady = await ready().catch(() => false);
    await sleep(READY_POLL_MS);
    // The answer may come from another server on the same port. Then ours has ended meanwhile.
    if (isReady && failure === undefined) return { child, stop, signal: (signal) => void child.kill(signal) };
  }
  await stop('SIGKILL');
  throw new Error(`${command}: ${failure ?? `not ready within ${READY_TIMEOUT_MS} ms`}\n${output}`);
}

/** Starts a server that can be started again with the data that its last process left. */
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

/** Resolves when the process has ended. Sends SIGKILL if that takes too long. A stopped process is continued first. */
async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), TERM_GRACE_MS);
  await ended;
  clearTimeout(timer);
}
