/**
 * What became of what was read before: of this stream, by this process and by those before it. It may hold other
 * messages by now, or have been changed so that some were counted or left out wrongly.
 */
import type { Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import type { Bus } from '../bus/connect.ts';
import type { StoredCheckpoint } from '../bus/kv/checkpoints.ts';
import {
  type KnownSubjects,
  knownSubjects,
  misreadAfter,
  rememberSubjects,
  takeCapture,
} from '../bus/read/known-subjects.ts';
import { compareMarks } from '../bus/read/parting.ts';
import { latestStrange, StrangeMessages } from '../bus/read/strange-messages.ts';
import { marksOf, mergeMarks, Trail } from '../bus/read/trail.ts';
import { isTruncated, type StreamFacts } from '../bus/stream.ts';
import type { Config } from '../config/config.ts';
import {
  marksHeld,
  mergeRollbacks,
  type ReadSoFar,
  type Resumption,
  type Rollback,
  resume,
  rollbackOf,
  spanOf,
} from '../deliver/rollback.ts';
import type { StreamExtent } from '../deliver/start-points.ts';

interface Looking {
  readonly bus: Bus;
  readonly config: Config;
  /** The stream as it is now. */
  readonly facts: StreamFacts;
  readonly stored: readonly StoredCheckpoint[];
  readonly tiling: Tiling;
  /** By sink: see `Attachment`. */
  readonly windows: ReadonlyMap<string, Tiling>;
}

/** Compares what was read of the stream with what it holds. `known`: what this process has read so far. */
export async function lookBack(looking: Looking, known: Trail | undefined) {
  const { bus, config, facts, stored, tiling, windows } = looking;
  const { core, sinks } = config;
  const { created, firstSequence } = facts;
  const own = known?.created === created ? known : undefined;
  const { subjects, misreadOf } = judgeAgain(looking, own);
  const read: ReadSoFar = { marks: own?.marks ?? [], misreadAfter: own?.misreadAfter ?? misreadOf(own) };
  const ofSinks = sinks.map(({ id }) =>
    stored
      .filter(({ sink }) => sink === id)
      .map((one) => ({ ...one, misreadAfter: misreadOf(one.checkpoint.trail) })),
  );
  const marks = mergeMarks([
    read.marks,
    ...ofSinks.flat().map(({ checkpoint }) => marksOf(checkpoint.trail, created)),
  ]);
  const held = await compareMarks(bus, core, facts, marks);
  const extent = extentOf(facts);
  const stream = { ...extent, created, firstSequence, held };
  const now = systemClock.now();
  const resumptions = new Map<string, Resumption>();
  for (const [i, { id }] of sinks.entries()) {
    const frame = { tiling: windows.get(id) ?? tiling, now };
    resumptions.set(id, resume(ofSinks[i]!, core.slice, read, stream, frame));
  }
  const ofProcess = rollbackOf(read, held, tiling);
  const rollbacks = [ofProcess, ...[...resumptions.values()].map(({ rollback }) => rollback)];
  const rollback: Rollback | undefined = mergeRollbacks(rollbacks.flatMap((one) => one ?? []));
  // If this process was there when the stream was replaced, its source has told of it.
  const orphaned =
    own === undefined ? spanOf([...resumptions.values()].map(({ orphaned }) => orphaned)) : undefined;
  // Checkpoints of a slicing that is no longer in use say nothing of what is read again.
  const moved = ofSinks.filter((_, i) => resumptions.get(sinks[i]!.id)!.rollback !== undefined).flat();
  const misread = [read, ...moved].flatMap(({ misreadAfter }) => misreadAfter ?? []);
  const again = rollback === undefined ? misread : [...misread, rollback.after];
  const trail = new Trail(created, marksHeld(marks, held), strangeOf(looking, own, again));
  trail.subjects = subjects;
  return { trail, resumptions, rollback, isMisread: misread.length > 0, orphaned, extent };
}

type SomeTrail = { readonly created: string; readonly subjects?: KnownSubjects | undefined } | undefined;

/**
 * Returns which subjects count from now on, by all that is known of the stream, and a function that tells after which
 * sequence one who knew less may have misread it: undefined if he has not.
 */
function judgeAgain({ bus, config: { core }, facts, stored }: Looking, own: Trail | undefined) {
  const { created, capture, lastSequence } = facts;
  const { metricsSubjects: wanted } = core;
  const knewOf = (trail: SomeTrail) => (trail?.created === created ? trail.subjects : undefined);
  for (const trail of [own, ...stored.map(({ checkpoint }) => checkpoint.trail)]) {
    const knew = knewOf(trail);
    if (knew !== undefined) rememberSubjects(bus, created, knew);
  }
  const { filter } = takeCapture(bus, created, wanted, capture);
  const misreadOf = (trail: SomeTrail) => {
    const knew = knewOf(trail);
    return knew && misreadAfter(bus, created, knew, capture);
  };
  return { subjects: knownSubjects(wanted, filter, lastSequence), misreadOf };
}

/** `again`: what comes after these sequences will be read again, or is another message now. */
function strangeOf(
  { config: { core }, facts: { created }, stored }: Looking,
  own: Trail | undefined,
  again: readonly number[],
): StrangeMessages {
  const slice = `${core.slice.index}/${core.slice.of}`;
  const trails = stored.filter((one) => one.slice === slice).map(({ checkpoint }) => checkpoint.trail);
  const records = trails.filter((trail) => trail?.created === created).map((trail) => trail?.strange);
  const strange = new StrangeMessages(own?.strange.stored() ?? latestStrange(records));
  if (again.length > 0) strange.forget(Math.min(...again));
  return strange;
}

export function extentOf(facts: StreamFacts): StreamExtent {
  return { firstTime: facts.firstTime, truncated: isTruncated(facts) };
}
