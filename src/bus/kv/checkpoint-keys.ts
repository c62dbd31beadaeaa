/** The checkpoints of a pipeline as an operator sees and changes them: key by key, each change by its revision. */

import { Overtaken, UnreadableCheckpoint } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { Bucket, bucketExists, isConflict, keysUnder } from './bucket.ts';
import { type Checkpoint, ownerOf, parseCheckpoint } from './checkpoints.ts';

/** A key that holds something. */
export interface KeptCheckpoint {
  readonly key: string;
  readonly sink: string;
  /** For example 0/1. */
  readonly slice: string;
  readonly revision: number;
  readonly content:
    | { readonly checkpoint: Checkpoint; readonly unreadable?: undefined }
    | { readonly checkpoint?: undefined; readonly unreadable: UnreadableCheckpoint };
}

/** What a key is to hold; nothing if `checkpoint` is undefined. */
export interface CheckpointEdit {
  readonly kept: KeptCheckpoint;
  readonly checkpoint: Checkpoint | undefined;
}

/** Resolves to the checkpoints of the pipeline, sorted; none if there is no bucket, which is not made. */
export async function keptCheckpoints(bus: Bus, pipeline: string): Promise<KeptCheckpoint[]> {
  if (!(await bucketExists(bus))) return [];
  return await new Bucket(bus, 1).call('listing the checkpoints', async (bucket) => {
    const kept: KeptCheckpoint[] = [];
    for (const key of await keysUnder(bus, pipeline)) {
      const owner = ownerOf(key);
      const entry = owner && (await bucket.get(key));
      if (!owner || entry?.operation !== 'PUT') continue;
      kept.push({ key, ...owner, revision: entry.revision, content: contentOf(key, entry.string()) });
    }
    return kept.sort((a, b) => (a.key < b.key ? -1 : 1));
  });
}

function contentOf(key: string, text: string): KeptCheckpoint['content'] {
  try {
    return { checkpoint: parseCheckpoint(key, text) };
  } catch (error) {
    if (error instanceof UnreadableCheckpoint) return { unreadable: error };
    throw error;
  }
}

/**
 * Changes one key after another. Rejects with an `Overtaken` at the first one that somebody else wrote since it was
 * read: that one and those after it stay as they are.
 */
export async function editCheckpoints(bus: Bus, edits: readonly CheckpointEdit[]): Promise<void> {
  const bucket = new Bucket(bus, 1);
  for (const { kept, checkpoint } of edits) {
    const { key, revision: previousSeq } = kept;
    await bucket.call(`changing the checkpoint ${key}`, async (opened) => {
      try {
        if (checkpoint === undefined) await opened.delete(key, { previousSeq });
        else await opened.put(key, JSON.stringify(checkpoint), { previousSeq });
      } catch (error) {
        if (isConflict(error)) throw overtaken(key);
        throw error;
      }
    });
  }
}

function overtaken(key: string): Overtaken {
  return new Overtaken(
    `the checkpoint ${key} was written by somebody else meanwhile, and stays as it is`,
    'An instance of the pipeline runs: stop all of them first, or use ctl checkpoint.',
  );
}
