/** The benchmark's own processes, and messages to and from them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Child {
  readonly pid: number;
  /** Sends a message and waits for the answer. */
  ask(message: object | string): Promise<unknown>;
  stop(): Promise<void>;
}

/** Resolves when the program says that it is ready. It ends when we do. */
export async function startChild(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Child> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const child = fork(path, args, {
    execArgv: ['--no-warnings', '--expose-gc'],
    env: { ...process.env, ...env },
  });
  await answer(child, path);
  return {
    pid: child.pid!,
    ask(message) {
      const answered = answer(child, path);
      child.send(message);
      return answered;
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function answer(child: ChildProcess, path: string): Promise<unknown> {
  const answered = new AbortController();
  const { signal } = answered;
  const ended = once(child, 'exit', { signal }).then(([code]) => {
    throw new Error(`${path} ended with ${code}`);
  });
  try {
    const [message] = (await Promise.race([once(child, 'message', { signal }), ended])) as unknown[];
    return message;
  } finally {
    answered.abort();
    ended.catch(() => {});
  }
}
