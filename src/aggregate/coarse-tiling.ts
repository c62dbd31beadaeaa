/**
 * How time is cut for a sink whose windows are longer than those of the pipeline: `SINK_<ID>_WINDOW`. Each of its
 * windows is made of whole windows of the pipeline. Pure, and up to the two arguments alone, as tilings are (I3).
 */
import { type Epoch, floorTo, Tiling } from './tiling.ts';

/**
 * Returns the windows of a sink: those that begin at multiples of `windowMs`, wherever the windows of the pipeline tile
 * them, and there are no others in them. Elsewhere, the windows of the pipeline, as they are: about a change between
 * lengths of which one does not divide `windowMs`, and of epochs of earlier versions, whose sketches cannot be merged.
 */
export function coarseTiling(fine: Tiling, windowMs: number | undefined): Tiling {
  if (windowMs === undefined) return fine;
  const epochs: Epoch[] = [];
  const add = (from: number, to: number, epoch: Epoch) => {
    if (from < to) epochs.push({ ...epoch, from });
  };
  for (const { from, to, members } of runsOf(fine.epochs, windowMs)) {
    const [first] = members;
    if (!isTiledBy(first!, windowMs)) {
      add(from, to, first!);
      continue;
    }
    const begins = Number.isFinite(from) ? -floorTo(-from, windowMs) : from;
    const ends = Number.isFinite(to) ? floorTo(to, windowMs) : to;
    const latenessMs = Math.max(...members.map((member) => member.latenessMs));
    const maxAheadMs = Math.max(...members.map((member) => member.maxAheadMs));
    if (begins < ends) {
      addMembers(members, from, begins, add);
      add(begins, ends, { ...first!, latenessMs, maxAheadMs, windowMs });
      addMembers(members, ends, to, add);
    } else addMembers(members, from, to, add);
  }
  return new Tiling(epochs);
}

/** Returns the windows of each sink that has windows of its own, by its id. */
export function tilingsOf(
  sinks: readonly { readonly id: string; readonly windowMs?: number | undefined }[],
  fine: Tiling,
): ReadonlyMap<string, Tiling> {
  const own = sinks.filter(({ windowMs }) => windowMs !== undefined);
  return new Map(own.map(({ id, windowMs }) => [id, coarseTiling(fine, windowMs)]));
}

/** In words, how long the windows of a sink are. `windowMs`: of its own; none: they are those of the pipeline. */
export function lengthText(windowMs: number | null | undefined): string {
  return windowMs == null ? 'the length of WINDOW' : `${windowMs / 1000} s`;
}

interface Run {
  readonly from: number;
  readonly to: number;
  readonly members: readonly Epoch[];
}

/** Epochs that follow each other and all tile windows of this length, or each one that does not. */
function runsOf(epochs: readonly Epoch[], windowMs: number): Run[] {
  const runs: { from: number; to: number; members: Epoch[] }[] = [];
  for (const [i, epoch] of epochs.entries()) {
    const from = i === 0 ? Number.NEGATIVE_INFINITY : epoch.from;
    const to = epochs[i + 1]?.from ?? Number.POSITIVE_INFINITY;
    const last = runs.at(-1);
    if (last !== undefined && isTiledBy(epoch, windowMs) && isTiledBy(last.members[0]!, windowMs)) {
      last.members.push(epoch);
      last.to = to;
    } else runs.push({ from, to, members: [epoch] });
  }
  return runs;
}

function isTiledBy(epoch: Epoch, windowMs: number): boolean {
  return windowMs % epoch.windowMs === 0 && epoch.sketchScale !== undefined;
}

function addMembers(
  members: readonly Epoch[],
  from: number,
  to: number,
  add: (from: number, to: number, epoch: Epoch) => void,
): void {
  for (const [i, member] of members.entries()) {
    const begins = i === 0 ? from : Math.max(from, member.from);
    add(begins, Math.min(to, members[i + 1]?.from ?? to), member);
  }
}
