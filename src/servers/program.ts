/** Runs this program itself as a child process, as its users do: the service, `load`. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { spawnTied } from './process.ts';

/** The sources where they run as they are, the build where they were compiled. */
export const MAIN = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));
/** Bounds the main thread's young heap, as `npm start` and the image do: docs/sizing.md. */
const NODE_OPTIONS = ['--no-warnings', '--max-semi-space-size=8'];
const KEPT_CHARACTERS = 65_536;
/** Longer than STOP_TIMEOUT and what closing takes: a machine with other work to do takes its time. */
const TERM_GRACE_MS = 120_000;

export interface Program {
  readonly child: ChildProcess;
  /** What it wrote last. */
  readonly output: { stdout: string; stderr: string };
  /** Resolves to the exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Sends the signal and waits for the end; SIGKILL after a while. Fine where it has ended. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** `env` comes on top of ours, without our own settings: a demo must not write into somebody's real store. */
export function startProgram(args: readonly string[], env: Readonly<Record<string, string>>): Program {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(SINK|METRICS|NATS|FANOUT|CONTROL)_/.test(name),
  );
  const child = spawnTied(process.execPath, [...NODE_OPTIONS, MAIN, ...args], {
    env: { ...Object.fromEntries(inherited), ...env },
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
