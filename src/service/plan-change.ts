/** Plans a change of checkpoints by what the bucket and the stream hold now. */
import { coarseTiling } from '../aggregate/coarse-tiling.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import type { Bus } from '../bus/connect.ts';
import { keptCheckpoints } from '../bus/kv/checkpoint-keys.ts';
import { sequenceBefore } from '../bus/read/sequence-before.ts';
import { describeStream, type StreamFacts, streamExists } from '../bus/stream.ts';
import type { Config } from '../config/config.ts';
import {
  type ChangeFrame,
  type CheckpointChange,
  type Chosen,
  planReset,
  planSet,
  windowToSet,
} from '../deliver/checkpoint-change.ts';
import type { OtherLength } from '../deliver/checkpoint-facts.ts';
import { extentOf } from './look-back.ts';

export interface PlannedChange extends CheckpointChange {
  /** The windows of the sink. */
  readonly tiling: Tiling;
  readonly otherLength?: OtherLength | undefined;
}

/** `to`: the time that the window to go on with holds; undefined: the checkpoints are to be removed. */
export async function planChange(
  bus: Bus,
  { core, sinks }: Config,
  tiling: Tiling,
  chosen: Chosen,
  to: number | undefined,
): Promise<PlannedChange> {
  const kept = await keptCheckpoints(bus, core.pipeline);
  // Without a stream, START is judged as the service would, which makes one.
  const hasStream = to !== undefined || (await streamExists(bus, core.metricsStream));
  const facts: StreamFacts | undefined = hasStream ? await describeStream(bus, core) : undefined;
  const extent = facts === undefined ? { firstTime: undefined, truncated: false } : extentOf(facts);
  const { start, windowMs } = sinks.find(({ id }) => id === chosen.sink) ?? {};
  const stored = kept.find(({ sink }) => sink === chosen.sink)?.content.checkpoint;
  // Without its checkpoint, the sink begins anew with windows as they are set now.
  const own = coarseTiling(tiling, to === undefined || stored === undefined ? windowMs : stored.window);
  const now = systemClock.now();
  const frame: ChangeFrame = { tiling, own, extent, now, slices: core.slice.of, start };
  if (to === undefined || facts === undefined) {
    const change = planReset(kept, chosen, frame);
    const isEnabled = start !== undefined;
    return { ...change, tiling: own, otherLength: isEnabled ? otherLength(change, windowMs) : undefined };
  }
  const target = windowToSet(to, frame);
  const before = await sequenceBefore(bus, facts, target + tiling.latenessMs);
  const change = planSet(kept, chosen, target, { before, last: facts.lastSequence }, frame);
  return { ...change, tiling: own };
}

/** What the store has of another length than the sink gets from now on. */
function otherLength({ edits }: CheckpointChange, windowMs: number | undefined): OtherLength | undefined {
  const other = edits.find(
    ({ kept: { content } }) => content.checkpoint && content.checkpoint.window !== windowMs,
  );
  return other && { hadMs: other.kept.content.checkpoint?.window ?? null, hasMs: windowMs ?? null };
}
