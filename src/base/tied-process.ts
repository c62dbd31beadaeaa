/** Child processes that do not outlive this one. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';

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
