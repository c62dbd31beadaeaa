/** Ends the process, even if one of its threads stands still. */

/** Threads that run. A thread that is blocked in a call of the operating system stays here, whoever ends it. */
const running = new Set<object>();

export function threadStarted(thread: object): void {
  running.add(thread);
}

export function threadEnded(thread: object): void {
  running.delete(thread);
}

/**
 * Ends the process at once. `process.exit` first waits for every thread, and nothing interrupts a thread that is
 * blocked in a call of the operating system (a file on a network drive that does not answer). So if threads still run,
 * another program, which only exits, takes the place of this one: the kernel ends the threads.
 */
export function endProcess(code = Number(process.exitCode ?? 0)): never {
  if (running.size > 0) {
    try {
      // Not its options: they may load other code.
      const { NODE_OPTIONS: _, ...env } = process.env;
      process.execve?.(process.execPath, [process.execPath, '-e', `process.exit(${code})`], env);
    } catch {
      // Such as on Windows. The exit code is lost, but the process ends.
      process.kill(process.pid, 'SIGKILL');
    }
  }
  process.exit(code);
}
