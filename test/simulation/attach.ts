/** Attaches an instance, as src/service/attachment.ts does, to the simulated stream and checkpoints. */

import { tilingsOf } from '../../src/aggregate/coarse-tiling.ts';
import { Tiling } from '../../src/aggregate/tiling.ts';
import type { StoredCheckpoint } from '../../src/bus/kv/checkpoints.ts';
import { keyOfMark, marksOf, mergeMarks, Trail } from '../../src/bus/read/trail.ts';
import type { Slice } from '../../src/config/core-settings.ts';
import type { Attachment, Beginnings } from '../../src/deliver/engine.ts';
import { EpochWatch } from '../../src/deliver/epochs.ts';
import { CheckpointKeeper } from '../../src/deliver/lane/checkpoint-saver.ts';
import { choicesOf, type NameChoices, namesOf } from '../../src/deliver/name-choices.ts';
import {
  marksHeld,
  mergeRollbacks,
  type Resumption,
  resume,
  rollbackOf,
} from '../../src/deliver/rollback.ts';
import {
  beginAgain,
  firstGiven,
  firstWanted,
  readFrom,
  receiptsOf,
  resumeFrom,
  type StreamExtent,
  storesOf,
} from '../../src/deliver/start-points.ts';
import { SimCheckpointStore, SimShapeStore } from './checkpoints.ts';
import { givenBy, givenFrom } from './chosen.ts';
import { SimCoreSource } from './core-source.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import { PIPELINE, type SinkPlan } from './scenario.ts';
import { SimSource } from './source.ts';
import type { World } from './world.ts';

const CREATED = 'once';

export async function attachToStream(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  slice: Slice,
): Promise<Attachment> {
  const store = new SimCheckpointStore(world, instance, slice);
  const stored = await store.list();
  await instance.pause(world.chance.int(1, 20));
  const shapes = new SimShapeStore(world, instance);
  const epochs = new EpochWatch(shapes, await shapes.load(), instance.clock, () => {});
  const { tiling } = epochs;
  const forgets = world.options.forgetsOwnWindows === true && stored.length > 0;
  const windows = tilingsOf(forgets ? [] : sinks, tiling);
  const ownOf = (sink: string) => windows.get(sink) ?? tiling;
  const lookedBack = lookBack(world, instance, sinks, stored, slice, { tiling, ownOf }, extentNow(world));
  const trail = world.options.forgetsTrail ? undefined : lookedBack.trail;
  const frame = { world, instance, slice, tiling, ownOf, trail };
  return {
    ...beginningsOf(frame, sinks, store, stored, lookedBack.resumptions),
    reattach: (sink) => reattach(sink, frame),
    tiling,
    windows,
    epochs,
    ...(instance.unswept && { unswept: instance.unswept }),
    replayable: true,
    instance: '',
    ...(trail && { trail }),
    rollback: lookedBack.rollback,
    open: (first, closed, isLive) =>
      instance.tracked(new SimSource(world, instance, readFrom(first, tiling), closed, { isLive, trail })),
    openAside: (first) =>
      instance.mortal(
        new SimSource(world, instance, readFrom(first, tiling), undefined, { isAside: true, trail }),
      ),
  };
}

export function extentNow({ stream, timeline }: World): StreamExtent {
  const firstSequence = stream.firstSequence(timeline.now);
  const isEmpty = firstSequence > stream.lastSequence(timeline.now);
  const firstTime = isEmpty ? undefined : stream.at(firstSequence).streamTime;
  return { firstTime, truncated: firstSequence > 1 };
}

interface Frame {
  readonly world: World;
  readonly instance: Instance;
  readonly slice: Slice;
  readonly tiling: Tiling;
  /** The windows of a sink. */
  readonly ownOf: (sink: string) => Tiling;
  readonly trail: Trail | undefined;
}

/** As src/service/attachment.ts does. */
async function reattach(sink: string, frame: Frame): Promise<Beginnings> {
  const { world, instance, slice } = frame;
  const sinks = world.scenario.sinks.filter(({ id }) => id === sink);
  const store = new SimCheckpointStore(world, instance, slice);
  const stored = await store.list();
  await instance.pause(world.chance.int(1, 20));
  const { resumptions } = lookBack(world, instance, sinks, stored, slice, frame, extentNow(world));
  return beginningsOf(frame, sinks, store, stored, resumptions);
}

function beginningsOf(
  { world, instance, slice, ownOf, trail }: Frame,
  sinks: readonly SinkPlan[],
  store: SimCheckpointStore,
  stored: readonly StoredCheckpoint[],
  resumptions: ReadonlyMap<string, Resumption>,
): Beginnings {
  const sliceName = `${slice.index}/${slice.of}`;
  const extent = extentNow(world);
  const now = instance.clock.now();
  const from = new Map<string, number>();
  const closedThrough = new Map<string, number>();
  const began = new Map<string, number>();
  const first = new Map<string, number>();
  for (const { id, begin } of sinks) {
    const ofSink = stored.filter(({ sink }) => sink === id);
    const wanted = firstWanted(begin, extent, ownOf(id), now);
    // A sink is still owed everything that this slice itself has not confirmed.
    const isOwn = ofSink.some(({ slice: other }) => other === sliceName);
    const known = resumptions.get(id)!.position;
    const beginning = known === undefined ? wanted : known.began;
    if (beginning !== undefined) began.set(id, beginning);
    from.set(id, known?.next ?? wanted);
    first.set(id, firstGiven(ofSink, from.get(id)!));
    if (known !== undefined && known.sequence > 0) closedThrough.set(id, known.sequence);
    if (!isOwn) beginsAnew(world, { id, sliceName, wanted, ofSink });
  }
  const names = namesIn(world, instance, sinks, stored, slice, from);
  const shape = { ...world.scenario, slice: sliceName };
  return {
    from,
    closedThrough,
    first,
    names,
    resumed: new Set([...resumptions].flatMap(([id, { position }]) => (trail && position ? [id] : []))),
    stores: storesOf(resumptions),
    receipts: receiptsOf(resumptions, PIPELINE, sliceName),
    beginAgain: async (sink, heldTo) => {
      await instance.pause(world.chance.int(1, 20));
      return beginAgain(began.get(sink), extent, ownOf(sink), instance.clock.now(), heldTo);
    },
    keeperOf: (sink) =>
      new CheckpointKeeper({
        sink,
        store,
        clock: instance.clock,
        describe: () => ({
          shape,
          savedAt: '',
          began: began.get(sink),
          trail: trail?.stored(),
          ...(world.options.forgetsNames !== 'stored' && { choices: names.get(sink)?.list }),
        }),
        failed: () => {},
      }),
  };
}

function beginsAnew(
  world: World,
  {
    id,
    sliceName,
    wanted,
    ofSink,
  }: {
    readonly id: string;
    readonly sliceName: string;
    readonly wanted: number;
    readonly ofSink: readonly StoredCheckpoint[];
  },
): void {
  const old = slicesOf(world.scenario.slices);
  const inherits =
    world.slices !== world.scenario.slices && old.every((each) => ofSink.some(({ slice }) => slice === each));
  if (inherits) world.invariants.inherits(id, sliceName, old);
  else world.invariants.begins(id, sliceName, wanted, world.stream.firstSequence(world.timeline.now));
}

/** As src/service/attachment.ts does. The instance knows what it is to give, for the invariants. */
function namesIn(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  stored: readonly StoredCheckpoint[],
  slice: Slice,
  from: ReadonlyMap<string, number>,
): ReadonlyMap<string, NameChoices> {
  const whole = Number.NEGATIVE_INFINITY;
  return namesOf(
    sinks.map((plan) => {
      const { id } = plan;
      const names = instance.namesFor(plan);
      const position = resumeFrom(
        stored.filter(({ sink }) => sink === id),
        slice,
      );
      const { next = Number.NEGATIVE_INFINITY, choices } = position ?? {};
      if (choices?.at(-1) !== undefined && choices.at(-1)!.names.join() !== [...names].sort().join())
        world.trace.add('chosen', `${instance.name} ${id} ${names.join(' ') || 'all'}`);
      instance.gives.set(id, givenFrom(next, givenBy(choices), names));
      if (world.options.forgetsNames === 'before') return [id, [{ from: 0, names }]] as const;
      return [id, choicesOf(position, { names, from: from.get(id)!, whole })] as const;
    }),
  );
}

/** As src/service/attachment.ts does. */
function lookBack(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  stored: readonly StoredCheckpoint[],
  slice: Slice,
  { tiling, ownOf }: { readonly tiling: Tiling; readonly ownOf: (sink: string) => Tiling },
  extent: StreamExtent,
) {
  const read = { marks: instance.trail?.marks ?? [] };
  const ofSinks = sinks.map(({ id }) => stored.filter(({ sink }) => sink === id));
  const marks = mergeMarks([
    read.marks,
    ...ofSinks.flat().map(({ checkpoint }) => marksOf(checkpoint.trail, CREATED)),
  ]);
  const held = new Map(
    marks.map((mark) => [keyOfMark(mark), world.isOther(mark) ? 'other' : 'same'] as const),
  );
  const firstSequence = world.stream.firstSequence(world.timeline.now);
  const now = { ...extent, created: CREATED, firstSequence, held };
  const resumptions = new Map<string, Resumption>();
  for (const [i, { id }] of sinks.entries())
    resumptions.set(
      id,
      resume(ofSinks[i]!, slice, read, now, { tiling: ownOf(id), now: instance.clock.now() }),
    );
  const rollbacks = [
    rollbackOf(read, held, tiling),
    ...[...resumptions.values()].map(({ rollback }) => rollback),
  ];
  return {
    resumptions,
    rollback: mergeRollbacks(rollbacks.flatMap((one) => one ?? [])),
    trail: new Trail(CREATED, marksHeld(marks, held)),
  };
}

function slicesOf(slices: number): string[] {
  return Array.from({ length: slices }, (_, index) => sliceOf({ slices }, index));
}

export function attachToCore(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  bootId: string,
): Attachment {
  return {
    tiling: Tiling.of(world.scenario),
    from: new Map(sinks.map(({ id }) => [id, Number.NEGATIVE_INFINITY])),
    replayable: false,
    instance: bootId,
    open: () => instance.tracked(new SimCoreSource(world, instance)),
    keeperOf: () => undefined,
  };
}
