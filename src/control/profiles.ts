/** Writes profiles of this process, on request, to files that only its user can read. */
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { Masker } from '../settings/masker.ts';
import { Refusal } from './refusal.ts';

/** A caller of control must not be able to fill the disk. */
const MAX_FILES = 20;
const MAX_SNAPSHOT_BYTES = 4 * 1024 ** 3;
const FILE = /^metrics-fanout-.*\.(cpuprofile|heapsnapshot)$/;

/** Returns the path of a new file in the folder. Throws a `Refusal` if the folder has too many. */
export function profilePath(folder: string, name: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (readdirSync(folder).filter((file) => FILE.test(file)).length >= MAX_FILES)
    throw new Refusal('busy', `${folder} already holds ${MAX_FILES} profiles. Remove some.`);
  return join(folder, `metrics-fanout-${name}`);
}

/** Profiles which functions of the main thread take how much time. The profile contains no values. */
export async function profileCpu(
  path: string,
  seconds: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await clock.sleep(seconds * 1000, signal);
    const { profile } = await session.post('Profiler.stop');
    signal.throwIfAborted();
    writeFileSync(path, JSON.stringify(profile), { mode: 0o600, flag: 'wx' });
  } finally {
    session.disconnect();
  }
}

/**
 * Writes everything in the memory of the main thread, which is blocked meanwhile. That includes texts, except
 * `secrets`, which are masked. Returns the size in bytes.
 */
export async function snapshotHeap(path: string, secrets: readonly string[]): Promise<number> {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  const file = openSync(path, 'wx', 0o600);
  const masker = new Masker(secrets);
  let bytes = 0;
  let failure: unknown;
  const write = (text: string) => {
    if (failure !== undefined) return;
    try {
      bytes += writeSync(file, text);
      if (bytes > MAX_SNAPSHOT_BYTES)
        throw new Error(`the snapshot is larger than ${MAX_SNAPSHOT_BYTES} bytes`);
    } catch (error) {
      failure = error;
    }
  };
  try {
    session.on('HeapProfiler.addHeapSnapshotChunk', ({ params }) => write(masker.push(params.chunk)));
    await session.post('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
    write(masker.end());
    if (failure !== undefined) throw failure;
    return bytes;
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(file);
    session.disconnect();
  }
}
