/** Runs the service as a child process, and reads its status. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../observe/status.ts';
import { type Program, startProgram } from './fanout-program.ts';
import { freePort } from './server-process.ts';

/** Only what hangs may reach these: a machine with other work to do takes its time. */
const READY_TIMEOUT_MS = 300_000;
const CONFIRMED_TIMEOUT_MS = 300_000;
const POLL_MS = 100;

export interface ServiceProgram extends Program {
  /** URL of its HTTP server. */
  readonly url: string;
  status(): Promise<Status>;
  /** Resolves when every sink has confirmed all windows before `end` (ms since 1970); rejects after `timeoutMs`. */
  untilConfirmed(end: number, timeoutMs?: number): Promise<void>;
}

/**
 * Resolves when the service is attached to the bus. Rejects with its log if it ends before that. `main`: where it
 * begins, if it is not this program.
 */
export async function startServiceProgram(
  env: Readonly<Record<string, string>>,
  main?: string,
): Promise<ServiceProgram> {
  const port = env.HTTP_PORT === undefined ? await freePort() : Number(env.HTTP_PORT);
  const program = startProgram(['run'], { HTTP_HOST: '127.0.0.1', HTTP_PORT: String(port), ...env }, main);
  const url = `http://127.0.0.1:${port}`;
  const status = () => freshStatus(url);
  const untilConfirmed = async (end: number, timeoutMs = CONFIRMED_TIMEOUT_MS) => {
    for (const deadline = Date.now() + timeoutMs; ; await sleep(POLL_MS)) {
      const { sinks } = await status();
      const behind = sinks.filter(({ next }) => next === null || Date.parse(next) < end);
      if (behind.length === 0) return;
      if (Date.now() > deadline) throw new Error(`not confirmed in time: ${JSON.stringify(behind)}`);
    }
  };
  try {
    await untilReady(program, url);
  } catch (error) {
    await program.stop('SIGKILL');
    throw error;
  }
  return { ...program, url, status, untilConfirmed };
}

/** The service answers with the same status for up to a second; this one is not older than the call. */
async function freshStatus(url: string): Promise<Status> {
  const asked = Date.now();
  for (;;) {
    const status = (await (await fetch(`${url}/api/status`)).json()) as Status;
    if (Date.parse(status.now) >= asked) return status;
    await sleep(POLL_MS);
  }
}

async function untilReady(program: Program, url: string): Promise<void> {
  let ended: number | NodeJS.Signals | undefined;
  void program.ended.then((code) => {
    ended = code;
  });
  for (const deadline = Date.now() + READY_TIMEOUT_MS; Date.now() < deadline; await sleep(POLL_MS)) {
    if (ended !== undefined) throw new Error(`the service ended with ${ended}:\n${program.output.stderr}`);
    const ready = await fetch(`${url}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return;
  }
  throw new Error(`the service was not ready in time:\n${program.output.stderr}`);
}
