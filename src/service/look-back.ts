/**
 * What became of what was read before: of this stream, by this process and by those before it. It may hold other
 * messages by now, or have been changed so that some were counted or left out wrongly.
 */
import type { Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import { filterOf, misjudges } from '../bus/capture.ts';
import type { Bus } from '../bus/connect.ts';
import type { StoredCheckpoint } from '../bus/kv/checkpoints.ts';
import { knownSubjects, recallSubjects, rememberSubjects, subjectsOf } from '../bus/read/known-subjects.ts';
import { compareMarks } from '../bus/read/parting.ts';
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
}

type SomeTrail = Parameters<typeof subjectsOf>[0];

/** Compares what was read of the stream with what it holds. `known`: what this process has read so far. */
export async function lookBack(looking: Looking, known: Trail | undefined) {
  const { bus, config, facts, stored, tiling } = looking;
  const { core, sinks } = config;
  const { created, firstSequence } = facts;
  const own = known?.created === created ? known : undefined;
  const { subjects, misreadAfter } = judgeAgain(looking, own);
  const read: ReadSoFar = { marks: own?.marks ?? [], misreadAfter: own?.misreadAfter ?? misreadAfter(own) };
  const ofSinks = sinks.map(({ id }) =>
    stored
      .filter(({ sink }) => sink === id)
      .map((one) => ({ ...one, misreadAfter: misreadAfter(one.checkpoint.trail) })),
  );
  const inStores = ofSinks.flat();
  const marks = mergeMarks([
    read.marks,
    ...inStores.map(({ checkpoint }) => marksOf(checkpoint.trail, created)),
  ]);
  const held = await compareMarks(bus, core, facts, marks);
  const extent = extentOf(facts);
  const stream = { ...extent, created, firstSequence, held };
  const frame = { tiling, now: systemClock.now() };
  const resumptions = new Map<string, Resumption>();
  for (const [i, { id }] of sinks.entries())
    resumptions.set(id, resume(ofSinks[i]!, core.slice, read, stream, frame));
  const ofProcess = rollbackOf(read, held, tiling);
  const rollbacks = [ofProcess, ...[...resumptions.values()].map(({ rollback }) => rollback)];
  const rollback: Rollback | undefined = mergeRollbacks(rollbacks.flatMap((one) => one ?? []));
  // If this process was there when the stream was replaced, its source has told of it.
  const orphaned =
    own === undefined ? spanOf([...resumptions.values()].map(({ orphaned }) => orphaned)) : undefined;
  const trail = new Trail(created, marksHeld(marks, held));
  trail.subjects = subjects;
  const isMisread = [read, ...inStores].some(({ misreadAfter }) => misreadAfter !== undefined);
  return { trail, resumptions, rollback, isMisread, orphaned, extent };
}

/**
 * Returns which subjects count from now on, by all that is known of the stream, and a function that tells after which
 * sequence one who knew less may have misread it: undefined if he has not.
 */
function judgeAgain({ bus, config: { core }, facts, stored }: Looking, own: Trail | undefined) {
  const { created, capture, lastSequence } = facts;
  const { metricsSubjects: wanted } = core;
  const knewOf = (trail: SomeTrail) => subjectsOf(trail, created, wanted);
  const trails = [own, ...stored.map(({ checkpoint }) => checkpoint.trail)];
  for (const trail of trails) {
    const { subjects } = trail ?? {};
    if (subjects !== undefined) rememberSubjects(bus, trail!.created, subjects.wanted, subjects);
  }
  const subjects = filterOf(wanted, capture, recallSubjects(bus, created, wanted));
  const misreadAfter = (trail: SomeTrail) => {
    const knew = knewOf(trail);
    return knew !== undefined && misjudges(knew, subjects) ? knew.through : undefined;
  };
  return { subjects: knownSubjects(wanted, subjects, lastSequence), misreadAfter };
}

export function extentOf(facts: StreamFacts): StreamExtent {
  return { firstTime: facts.firstTime, truncated: isTruncated(facts) };
}
