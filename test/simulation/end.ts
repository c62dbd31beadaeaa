/** What must be true some time after all faults are over. */
import type { Point } from '../../src/aggregate/point.ts';
import { givenBy } from './chosen.ts';
import type { Instance } from './instance.ts';
import { difference, keyOf, nameOf, Truth } from './truth.ts';
import type { World } from './world.ts';

/** Whether all instances run, and every lane has written everything and saved its checkpoint. */
export function hasConverged(world: World): boolean {
  const { scenario, timeline } = world;
  if (world.running.length < world.instances || timeline.now < scenario.healedAt) return false;
  if (world.running.some(({ engine, isStopping }) => engine === undefined || isStopping)) return false;
  if (scenario.mode === 'core') return world.running.every((instance) => hasWritten(instance));
  return (
    world.running.every(({ index, engine }) =>
      engine!.lanes.every(({ lane }) => {
        const end = endOf(world, lane.id);
        const saved = world.checkpoints.get(lane.id, sliceOf(world, index));
        return lane.next >= end && lane.state === 'live' && saved !== undefined && saved.next >= end;
      }),
    ) &&
    (!(world.isRewritten || world.emptiesStore) || isTrue(world))
  );
}

/** Compares every store with the truth, slice by slice. */
export function checkStreamEnd(world: World, invariant: string): void {
  if (world.scenario.mode === 'core') {
    world.trace.fail(invariant, 'some windows that were handed out are never written');
    return;
  }
  for (const { id } of world.scenario.sinks) {
    const end = endOf(world, id);
    const { rows, rejected } = world.stores.get(id)!;
    for (let index = 0; index < world.slices; index++) {
      const slice = sliceOf(world, index);
      const owed = world.invariants.owedFrom(id, slice);
      const { choices } = world.checkpoints.get(id, slice) ?? {};
      const missing = world.invariants.missing(id, slice, owed, end, { choices });
      if (missing !== undefined) world.trace.fail(invariant, `${id} never gets ${missing}`);
      const { next } = world.checkpoints.get(id, slice) ?? { next: owed };
      if (next < end) world.trace.fail(invariant, `${id}: its checkpoint stays at ${world.windowName(next)}`);
    }
    for (const [key, row] of rows) {
      const wrong = wrongAbout(world, id, key, row);
      if (wrong !== undefined)
        world.trace.fail('I3', `${id} ${world.windowName(row.windowStart)} ${nameOf(row)}: ${wrong}`);
    }
    for (const key of rejected) {
      const row = rows.get(key);
      // If retention removes some samples before one of two instances has read them, its sum may be finite.
      if (row !== undefined && !world.invariants.isHoled(id, row.windowStart))
        world.trace.fail('I5', `${id} has a point that it refused: ${key}`);
    }
  }
}

function wrongAbout(world: World, sink: string, key: string, row: Point): string | undefined {
  if (world.invariants.isHoled(sink, row.windowStart) || !isChosen(world, sink, row)) return undefined;
  if (world.invariants.mayBeStale(sink, row.windowStart)) return undefined;
  const expected = world.invariants.truthOf(sink).byKey.get(key);
  if (expected === undefined && world.invariants.mayBeLeft(sink, row.windowStart)) return undefined;
  return expected === undefined ? 'the oracle has no such point' : difference(row, expected);
}

/** A row of a name that the sink was not given, by another choice for the same window, is left as it is. */
function isChosen(world: World, sink: string, { series, windowStart, windowMs }: Point): boolean {
  const slice = sliceOf(world, (windowStart / windowMs) % world.slices);
  return givenBy(world.checkpoints.get(sink, slice)?.choices)(series.name, windowStart, windowMs);
}

/** Windows that were closed too early are rewritten some time after everything else. */
function isTrue(world: World): boolean {
  return world.scenario.sinks.every(({ id }) => {
    for (let index = 0; index < world.slices; index++) {
      const slice = sliceOf(world, index);
      const { choices } = world.checkpoints.get(id, slice) ?? {};
      const owed = world.invariants.owedFrom(id, slice);
      if (world.invariants.missing(id, slice, owed, endOf(world, id), { choices })) return false;
    }
    return [...world.stores.get(id)!.rows].every(
      ([key, row]) => wrongAbout(world, id, key, row) === undefined,
    );
  });
}

/**
 * Core mode: each instance's part of a window is the truth for what that instance received. Missing points died with
 * the instance, were dropped and counted, or did not fit into the time of a stop.
 */
export function checkCoreEnd(world: World): void {
  for (const instance of world.everyInstance) {
    const truth = new Truth(instance.received, { ...world.scenario, instance: instance.name });
    for (const store of world.stores.values()) {
      for (const [key, row] of store.rows) {
        if (row.instance !== instance.name) continue;
        const expected = truth.byKey.get(key);
        const wrong = expected === undefined ? 'it received no such sample' : difference(row, expected);
        if (wrong !== undefined)
          world.trace.fail('I4', `${store.plan.id} ${instance.name} ${nameOf(row)}: ${wrong}`);
      }
    }
    if (instance.hasEnded) checkCoreAccounts(world, instance, truth);
  }
}

/** I8 in core mode: offered = written + rejected + dropped + left by the stop. */
function checkCoreAccounts(world: World, instance: Instance, truth: Truth): void {
  for (const { lane } of instance.engine?.lanes ?? []) {
    const { rows, rejected } = world.stores.get(lane.id)!;
    const { written, dropped } = lane.stats;
    let refused = 0;
    for (const count of lane.stats.rejected.values()) refused += count;
    const offered = truth.byKey.size;
    const settled = written + refused + dropped;
    if (settled > offered || settled + lane.backlogPoints < offered)
      world.trace.fail(
        'I8',
        `${instance.name} ${lane.id}: ${written} written, ${refused} rejected, ${dropped} dropped, ${lane.backlogPoints} left of ${offered}`,
      );
    let absent = 0;
    for (const point of truth.byKey.values()) {
      if (!rows.has(keyOf(point)) && !rejected.has(keyOf(point))) absent += 1;
    }
    if (absent > dropped + lane.backlogPoints)
      world.trace.fail(
        'I8',
        `${instance.name} ${lane.id}: ${absent} points are lost, ${dropped} are counted`,
      );
  }
}

/** Core mode: whether everything that was handed out has been written. */
function hasWritten({ engine }: Instance): boolean {
  return (
    engine!.lanes.every(({ lane }) => lane.backlogPoints === 0) && engine!.live.aggregator.openWindows === 0
  );
}

export function sliceOf({ slices }: Pick<World, 'slices'>, index: number): string {
  return slices > 1 ? `${index}/${slices}` : '0/1';
}

/** The end of the sink's last window in the stream. */
function endOf({ invariants }: World, sink: string): number {
  const [start, points] = invariants.truthOf(sink).windows.at(-1) ?? [];
  return start === undefined ? Number.NEGATIVE_INFINITY : start + points![0]!.windowMs;
}
