/** Moves the checkpoint of a sink that runs, as src/service/running-checkpoints.ts does. */
import { backoffMs } from '../../src/base/clock.ts';
import { BusError } from '../../src/bus/bus-error.ts';
import {
  type ChangeFrame,
  type CheckpointChange,
  planReset,
  planSet,
  windowToSet,
} from '../../src/deliver/checkpoint-change.ts';
import type { Engine } from '../../src/deliver/engine.ts';
import { extentNow } from './attach.ts';
import { SimCheckpointStore } from './checkpoints.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import type { Move } from './scenario.ts';
import type { World } from './world.ts';

const MAX_ATTEMPTS = 5;

/** Rejects with a `BusError` if it cannot be done, or may not have been. */
export async function moveCheckpoint(
  world: World,
  instance: Instance,
  engine: Engine,
  sink: string,
  move: Move,
): Promise<void> {
  if (!world.options.movesTooEarly) {
    await engine.replaceLane(sink, () => edit(world, instance, engine, sink, move));
    return;
  }
  await edit(world, instance, engine, sink, move);
  await engine.replaceLane(sink, () => Promise.resolve());
}

async function edit(world: World, instance: Instance, engine: Engine, sink: string, move: Move) {
  const slice = sliceOf(world, instance.index);
  const store = new SimCheckpointStore(world, instance, { index: instance.index, of: world.slices });
  for (let attempt = 1; ; attempt++) {
    try {
      const { edits, effects } = await planMove(world, instance, engine, sink, move, store);
      const leaves = move.way === 'reset' || effects.some(({ skipped }) => skipped !== undefined);
      const owes = engine.owes(sink);
      if (owes === 'sweep' || (owes === 'rewrites' && leaves)) throw new BusError('busy', '');
      const own = edits.filter(({ kept }) => kept.slice === slice);
      for (const each of [...edits.filter(({ kept }) => kept.slice !== slice), ...own])
        await store.edit(each, () => {
          const { next } = each.kept.content.checkpoint!;
          if (own.includes(each))
            world.invariants.moved(sink, slice, next, each.checkpoint?.next, move.loses);
        });
      return;
    } catch (error) {
      if (!(error instanceof BusError) || attempt === MAX_ATTEMPTS) throw error;
      await instance.pause(backoffMs(attempt, instance.clock.random()));
    }
  }
}

async function planMove(
  world: World,
  instance: Instance,
  engine: Engine,
  sink: string,
  { way, windows }: Move,
  store: SimCheckpointStore,
): Promise<CheckpointChange> {
  const { tiling } = engine;
  const slice = sliceOf(world, instance.index);
  const kept = await store.kept();
  const { now } = world.timeline;
  const { begin } = world.scenario.sinks.find(({ id }) => id === sink)!;
  const frame: ChangeFrame = {
    tiling,
    own: engine.windowsOf(sink),
    extent: extentNow(world),
    now: instance.clock.now(),
    slices: world.slices,
    start: begin,
  };
  const chosen = { sink, slice, withOthers: true };
  if (way === 'reset') return planReset(kept, chosen, frame);
  const own = kept.find((one) => one.sink === sink && one.slice === slice)?.content.checkpoint;
  const { windowMs } = tiling.epochAt(frame.now);
  const wanted =
    way === 'ahead' ? frame.now : Math.min(own?.next ?? frame.now, frame.now) - windows * windowMs;
  const target = windowToSet(wanted, frame);
  const before = world.stream.firstAt(target + tiling.latenessMs) - 1;
  const last = world.stream.lastSequence(now);
  return planSet(kept, chosen, target, { before: Math.min(before, last), last }, frame);
}
