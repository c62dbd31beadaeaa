/** How an instance is attached: src/attachment.ts over the simulated stream and checkpoints. */
import type { CheckpointShape } from '../../src/bus/checkpoints.ts';
import type { Slice } from '../../src/config.ts';
import { firstWanted, readFrom, resumeFrom, type WindowShape } from '../../src/deliver/begin.ts';
import type { Attachment } from '../../src/deliver/engine.ts';
import { CheckpointKeeper } from '../../src/deliver/keeper.ts';
import { SimCheckpointStore } from './checkpoints.ts';
import { SimCoreSource } from './core-source.ts';
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
  const { windowMs, latenessMs, maxAheadMs, maxSeries } = world.scenario;
  const sliceName = `${slice.index}/${slice.of}`;
  const shape: CheckpointShape & WindowShape = {
    windowMs,
    latenessMs,
    maxAheadMs,
    maxSeries,
    slice: sliceName,
  };
  const store = new SimCheckpointStore(world, instance, slice);
  await instance.pause(world.chance.int(1, 20));
  const firstSequence = world.stream.firstSequence(world.timeline.now);
  const isEmpty = firstSequence > world.stream.lastSequence(world.timeline.now);
  const firstTime = isEmpty ? undefined : world.stream.at(firstSequence).streamTime;
  const extent = { firstTime, truncated: firstSequence > 1 };
  const now = instance.clock.now();
  const from = new Map<string, number>();
  const closedAt = new Map<string, number>();
  const stored = await store.list();
  for (const { id, begin } of sinks) {
    const ofSink = stored.filter(({ sink }) => sink === id);
    const first = firstWanted(begin, extent, shape, now);
    // Only what this slice itself has confirmed is no longer owed.
    const isOwn = ofSink.some(({ slice: other }) => other === sliceName);
    const known = isOwn || world.options.lateSlices ? resumeFrom(ofSink, slice) : undefined;
    from.set(id, known?.next ?? first);
    if (known !== undefined && (known.sequence > 0 || world.options.unknownSequence))
      closedAt.set(id, known.sequence);
    if (!isOwn) world.invariants.begins(id, sliceName, first, firstSequence);
  }
  return {
    from,
    closedAt,
    replayable: true,
    instance: '',
    open: (first) => instance.tracked(new SimSource(world, instance, readFrom(first, shape))),
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

export function attachToCore(
  world: World,
  instance: Instance,
  sinks: readonly SinkPlan[],
  bootId: string,
): Attachment {
  return {
    from: new Map(sinks.map(({ id }) => [id, Number.NEGATIVE_INFINITY])),
    replayable: false,
    instance: bootId,
    open: () => instance.tracked(new SimCoreSource(world, instance)),
    keeperOf: () => undefined,
  };
}
