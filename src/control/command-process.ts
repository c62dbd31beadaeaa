/**
 * Runs replays and verifications on request as separate processes, as if somebody had run the command. They take
 * neither thread nor memory from the live path, and their faults end nothing else.
 */

import { once } from 'node:events';
import { constants, setPriority } from 'node:os';
import { MAIN } from '../base/own-program.ts';
import { spawnTied } from '../base/tied-process.ts';
import { Refusal } from './refusal.ts';

const MAX_OUTPUT_CHARACTERS = 4 * 1024 * 1024;
const MAX_ERROR_CHARACTERS = 1000;
/** A command that is still running this long after SIGTERM is killed. */
const TERM_GRACE_MS = 5_000;

/**
 * Returns what the command printed with --json, whatever it found. If it printed no JSON, throws a `Refusal` with its
 * error message.
 */
export async function runCommandProcess(args: readonly string[], signal: AbortSignal): Promise<unknown> {
  const child = spawnTied(process.execPath, ['--no-warnings', MAIN, ...args, '--json']);
  try {
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // The process may have ended already, or the change is not permitted. Then it runs with our priority.
  }
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    if (stdout.length > MAX_OUTPUT_CHARACTERS) child.kill('SIGKILL');
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-MAX_ERROR_CHARACTERS);
  });
  let timer: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill('SIGTERM');
    timer = setTimeout(() => child.kill('SIGKILL'), TERM_GRACE_MS);
  };
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    const [code] = await once(child, 'close');
    signal.throwIfAborted();
    if (code === 0 || code === 1) return JSON.parse(stdout);
    throw new Error(`the command ended with ${code}`);
  } catch (error) {
    if (signal.aborted) throw error;
    const said = stderr.trim().replace(/^(metrics-fanout|error): /, '');
    throw new Refusal('failed', said === '' ? String(error) : said);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}
