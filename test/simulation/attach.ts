/** How an instance is attached: src/service/attachment.ts over the simulated stream and checkpoints. */

import { Tiling } from '../../src/aggregate/tiling.ts';
import type { Slice } from '../../src/config/core-settings.ts';
import type { Attachment } from '../../src/deliver/engine.ts';
import { EpochWatch } from '../../src/deliver/epochs.ts';
import { CheckpointKeeper } from '../../src/deliver/lane/checkpoint-saver.ts';
import { firstWanted, readFrom, resumeFrom } from '../../src/deliver/start-points.ts';
import { SimCheckpointStore, SimShapeStore } from './checkpoints.ts';
import { SimCoreSource } from './core-source.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import type { SinkPlan } from './scenario.ts';
import { SimSource } from './source.ts';
import type { World } from './world.ts';

export async function attachToStream(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  slice: Slice,
): Promise<Attachment> {
  const sliceName = `${slice.index}/${slice.of}`;
  const store = new SimCheckpointStore(world, instance, slice);
  const stored = await store.list();
  await instance.pause(world.chance.int(1, 20));
  const firstSequence = world.stream.firstSequence(world.timeline.now);
  const isEmpty = firstSequence > world.stream.lastSequence(world.timeline.now);
  const firstTime = isEmpty ? undefined : world.stream.at(firstSequence).streamTime;
  const extent = { firstTime, truncated: firstSequence > 1 };
  const shapes = new SimShapeStore(world, instance);
  const epochs = new EpochWatch(shapes, await shapes.load(), instance.clock, () => {});
  const { tiling } = epochs;
  const now = instance.clock.now();
  const from = new Map<string, number>();
  const closedThrough = new Map<string, number>();
  for (const { id, begin } of sinks) {
    const ofSink = stored.filter(({ sink }) => sink === id);
    const first = firstWanted(begin, extent, tiling, now);
    // Only what this slice itself has confirmed is no longer owed.
    const isOwn = ofSink.some(({ slice: other }) => other === sliceName);
    const known = resumeFrom(ofSink, slice);
    from.set(id, known?.next ?? first);
    if (known !== undefined && known.sequence > 0) closedThrough.set(id, known.sequence);
    if (isOwn) continue;
    const old = slicesOf(world.scenario.slices);
    const inherits =
      world.slices !== world.scenario.slices &&
      old.every((each) => ofSink.some(({ slice }) => slice === each));
    if (inherits) world.invariants.inherits(id, sliceName, old);
    else world.invariants.begins(id, sliceName, first, firstSequence);
  }
  const shape = { ...world.scenario, slice: sliceName };
  return {
    tiling,
    epochs,
    from,
    closedThrough,
    replayable: true,
    instance: '',
    open: (first, closed) =>
      instance.tracked(new SimSource(world, instance, readFrom(first, tiling), closed)),
    openAside: (first) =>
      instance.mortal(new SimSource(world, instance, readFrom(first, tiling), undefined, true)),
    keeperOf: (sink) =>
      new CheckpointKeeper({
        sink,
        store,
        clock: instance.clock,
        describe: () => ({ shape, savedAt: '' }),
        failed: () => {},
      }),
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
