/** Child processes that do not outlive this process. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';

/**
 * Starts a watcher that holds the other end of our pipe, then becomes the program. When the pipe closes, however this
 * process ended, the watcher ends the program and removes its data. If we write to the pipe first, the program has
 * already ended and the watcher only exits.
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
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly uid?: number;
  readonly gid?: number;
  /** The signal that ends the program when this process ends. */
  readonly signal?: 'TERM' | 'QUIT' | 'KILL';
  /** Removed after the program ends, if this process ended first. */
  readonly folder?: string;
}

/** Starts a program that does not outlive this process, however this process ends, even by SIGKILL. */
export function spawnTied(command: string, args: readonly string[], options: TiedOptions = {}): ChildProcess {
  const { signal = 'TERM', folder = '', ...rest } = options;
  const child = spawn('sh', ['-c', RUN_WHILE_FD_3_IS_OPEN, 'sh', signal, folder, command, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // A terminal's Ctrl-C must reach only this process, which decides what ends, and when.
    detached: true,
    ...rest,
  });
  // The watcher has nothing left to watch. It must not end the next process that gets the same id, nor remove data that
  // may be needed again.
  const pipe = child.stdio[3] as Socket | undefined;
  child.once('exit', () => pipe?.end('ended'));
  pipe?.resume();
  pipe?.on('error', () => {});
  return child;
}
