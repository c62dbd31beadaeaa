/** What must be true of an instance at any time: its accounts (I8), its limits and its lag (I7). */
import type { Lane } from '../../src/deliver/lane/lane.ts';
import { sliceOf } from './end.ts';
import type { Instance } from './instance.ts';
import type { World } from './world.ts';

/** Ticks of the source, and the round trip. */
const MARGIN_MS = 1500;
/** The first call of a lane to a healthy checkpoint store. */
const SAVED_MS = 100;
/** The most bytes that one message takes while it waits. */
const LARGEST_MESSAGE_BYTES = 20_000;
/** What the sketches of a window take at most that a run draws, and the least that one in the making takes. */
const SKETCH_BYTES = 60_000;
const MAKING_BYTES = 40_000;
/** How long calls to the checkpoint store may still be in flight. */
const CALLS_MS = 22_000;

export function checkAccounts(world: World, instance: Instance): void {
  const { live, lanes, gaps } = instance.engine!;
  const { handed } = instance.sources[0]!;
  const told = instance.sources.flatMap((source) => ('toldGaps' in source ? source.toldGaps : []));
  const { pipeline, aggregator } = live;
  // The same as for a request of the status.
  pipeline.flush();
  // Some samples of the waiting messages may have been counted, but not yet the rejected ones.
  if (pipeline.waiting > 0) {
    if (pipeline.waitingBytes > Math.max(world.scenario.pace.maxWaitingBytes, LARGEST_MESSAGE_BYTES))
      world.trace.fail('I7', `${instance.name}: ${pipeline.waitingBytes} bytes wait to be read`);
    return;
  }
  const { counter, gauge, timer } = aggregator.stats;
  const accounts: [what: string, actual: number, expected: number][] = [
    ['messages received', pipeline.stats.received, handed.messages],
    ['messages rejected', sum(pipeline.stats.rejectedMessages), handed.rejectedMessages],
    ['samples rejected', sum(pipeline.stats.rejectedSamples), handed.rejectedSamples],
    ['samples', counter + gauge + timer + pipeline.stats.filtered, handed.samples],
    ['gaps', gaps.times, told.length],
    ['messages lost', gaps.messages, told.reduce((total, messages) => total + messages, 0)],
  ];
  for (const [what, actual, expected] of accounts) {
    if (actual !== expected) world.trace.fail('I8', `${instance.name}: ${what}: ${actual}, not ${expected}`);
  }
  for (const { lane } of lanes) {
    const { backlogBytes, limits, windowMs: ownMs } = world.stores.get(lane.id)!.plan;
    // A window larger than the backlog is accepted alone.
    // An instance that has read both sides of a rollback may have put both into one window.
    const hasSketches = world.scenario.sinks.some(({ windowMs }) => windowMs !== undefined);
    const largest =
      world.invariants.truth.largestWindowBytes +
      world.invariants.largestTakenBack +
      (hasSketches ? SKETCH_BYTES : 0);
    const inFlight = world.scenario.mode === 'core' ? (limits.inFlight + 1) * largest : 0;
    // Beside what waits, a window of its own is being made: of several, but with no more series than one.
    const inMaking = ownMs === undefined ? 0 : 4 * largest + MAKING_BYTES;
    const most = Math.max(backlogBytes, ownMs === undefined ? largest : 4 * largest) + inFlight + inMaking;
    if (lane.backlogBytes > most)
      world.trace.fail('I7', `${instance.name} ${lane.id} holds ${lane.backlogBytes} bytes`);
  }
}

/** I8 for a lane that has nothing left to write: every point offered is written or rejected, once. */
export function checkPoints(world: World, instance: Instance): void {
  if (world.scenario.mode === 'core' || world.invariants.holes > 0 || world.scenario.rollback !== undefined)
    return;
  const slice = sliceOf(world, instance.index);
  for (const { lane } of instance.engine?.lanes ?? []) {
    if (lane.stats.overflows > 0 || lane.backlogPoints > 0 || instance.hasRewritten) continue;
    if (instance.everMoved.has(lane.id)) continue;
    if (instance.everPaused.has(lane.id) || lane.stats.refills > 0) continue;
    let offered = 0;
    const from = instance.laneFrom.get(lane.id)!;
    const windows = world.invariants.truthOf(lane.id).between(from, lane.offeredTo, slice);
    for (const [start, points] of windows)
      if (start + points[0]!.windowMs <= lane.offeredTo)
        offered += points.filter((point) => instance.isGiven(lane.id, point)).length;
    const settled = lane.stats.written + sum(lane.stats.rejected);
    if (settled !== offered || lane.stats.dropped > 0)
      world.trace.fail(
        'I8',
        `${instance.name} ${lane.id}: ${settled} points written or rejected of ${offered}`,
      );
  }
}

/** I6: the start of a sink without a checkpoint is saved soon after it was open: a restart would choose another one. */
export function checkBeginnings(world: World, instance: Instance): void {
  const { checkpoints, scenario, timeline } = world;
  const { engine, connection, startedAt } = instance;
  if (scenario.mode === 'core' || !connection.connected || timeline.now < startedAt + SAVED_MS) return;
  if (Math.max(checkpoints.healthySince, connection.goodSince) > startedAt) return;
  for (const { lane } of engine!.lanes) {
    if (instance.moving.has(lane.id)) continue;
    const isLate = lane.hasOpened && hasLongOpened(lane, timeline.now);
    if (isLate && checkpoints.get(lane.id, sliceOf(world, instance.index)) === undefined)
      world.trace.fail('I6', `${instance.name} ${lane.id}: its start is not saved`);
  }
}

/** By lane: when it was first seen open. */
const openedAt = new WeakMap<Lane, number>();

function hasLongOpened(lane: Lane, now: number): boolean {
  const since = openedAt.get(lane) ?? now;
  openedAt.set(lane, since);
  return now > since + SAVED_MS;
}

/** I7: with a healthy bus, the live path and every healthy sink are at the head, whatever the other sinks do. */
export function checkLags(world: World, instance: Instance): void {
  const { checkpoints, scenario, timeline } = world;
  const { engine, connection } = instance;
  if (scenario.mode === 'core' || !connection.connected) return;
  const troubled = scenario.attachFailures > 0 ? scenario.calmAt : 0;
  const since = Math.max(instance.startedAt, connection.goodSince, troubled);
  if (timeline.now < since + replayMs(world)) return;
  // If the checkpoints are out of reach for this long, windows wait: another shape may have been announced.
  if (timeline.now < checkpoints.healthySince + CALLS_MS && scenario.change.delayMs < CALLS_MS) return;
  const shapes = [scenario, ...(scenario.later ?? [])];
  const due =
    Math.max(...shapes.map(({ windowMs, latenessMs }) => windowMs + latenessMs)) +
    scenario.idleSlackMs +
    10 * scenario.latencyMs +
    MARGIN_MS;
  const lag = world.serverNow() - engine!.live.aggregator.boundary;
  if (lag > due) world.trace.fail('I7', `${instance.name}: the live path is ${lag} ms behind, over ${due}`);
  for (const { lane } of engine!.lanes) {
    const { steady, windowMs: ownMs = 0 } = world.stores.get(lane.id)!.plan;
    if (!steady) continue;
    const behind = world.serverNow() - lane.next - ownMs;
    if (behind > due + 2 * MARGIN_MS)
      world.trace.fail(
        'I7',
        `${instance.name} ${lane.id} is healthy but ${behind} ms behind (${lane.state})`,
      );
  }
}

/** After an orderly stop, nothing that was confirmed has to be written again. */
export function checkLastCheckpoints(world: World, instance: Instance): void {
  const { checkpoints, scenario } = world;
  const { stoppedAt, connection } = instance;
  if (scenario.mode === 'core' || stoppedAt === undefined || !connection.connected) return;
  if (Math.max(checkpoints.healthySince, connection.goodSince) > stoppedAt - CALLS_MS) return;
  for (const { lane, sweep } of instance.engine?.lanes ?? []) {
    if (sweep?.isOver === false || instance.moving.has(lane.id)) continue;
    const saved = checkpoints.get(lane.id, sliceOf(world, instance.index))?.next;
    // It has no start yet. Windows that turned out to be empty were passed, and nothing was written.
    if (saved === undefined && !lane.hasOpened) continue;
    if (saved === undefined || (saved < lane.next && !instance.hasRewritten))
      world.trace.fail(
        'stop',
        `${instance.name} ${lane.id}: stops at ${world.windowName(lane.next)}, saved ${saved === undefined ? 'nothing' : world.windowName(saved)}`,
      );
  }
}

/** How long it may take in the worst case to read and write the whole stream. */
function replayMs({ scenario, stream }: World): number {
  const rounds = stream.messages.length / Math.min(scenario.batchMessages, 6);
  return 12_000 + 2 * rounds * scenario.latencyMs + stream.messages.length * 5;
}

function sum(counts: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const count of counts.values()) total += count;
  return total;
}
