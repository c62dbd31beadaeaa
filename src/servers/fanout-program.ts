/** Runs this program as a child process, as its users do: the service, or `load`. */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { MAIN } from '../base/own-program.ts';
import { spawnTied } from '../base/tied-process.ts';

/** Limits memory as `npm start` and the image do: docs/sizing.md. */
const NODE_OPTIONS = ['--no-warnings', '--max-semi-space-size=2', '--max-old-space-size=512'];
/** Without it Node.js starts 0.1 s sooner, and each thread takes 3 MB more: for commands, that is the better choice. */
const SERVICE_OPTION = '--no-node-snapshot';
const ENVIRONMENT = { MALLOC_MMAP_THRESHOLD_: '8192', MALLOC_ARENA_MAX: '2' } as const;
const KEPT_CHARACTERS = 65_536;
/** Longer than STOP_TIMEOUT and what closing takes: a machine with other work to do takes its time. */
const TERM_GRACE_MS = 120_000;

export interface Program {
  readonly child: ChildProcess;
  /** The end of its output. */
  readonly output: { stdout: string; stderr: string };
  /** Resolves to the exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Sends the signal, waits for the end, and sends SIGKILL after a while. Does nothing if it has ended already. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/**
 * Adds `env` to our environment, without our own settings: a demo must not write into somebody's real store. `main`:
 * where the program begins, if it is not this one.
 */
export function startProgram(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  main: string = MAIN,
): Program {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(SINK|METRICS|NATS|FANOUT|CONTROL)_/.test(name),
  );
  const options = args[0] === 'run' ? [...NODE_OPTIONS, SERVICE_OPTION] : NODE_OPTIONS;
  const child = spawnTied(process.execPath, [...options, main, ...args], {
    env: { ...ENVIRONMENT, ...Object.fromEntries(inherited), ...env },
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.on('data', (chunk: Buffer) => {
      output[name] = (output[name] + chunk.toString()).slice(-KEPT_CHARACTERS);
    });
  }
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  return {
    child,
    output,
    ended,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const timer = setTimeout(() => child.kill('SIGKILL'), TERM_GRACE_MS);
      const result = await ended;
      clearTimeout(timer);
      return result;
    },
  };
}
