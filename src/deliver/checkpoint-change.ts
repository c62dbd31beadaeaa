/**
 * What becomes of a sink if an operator removes or moves its checkpoints: pure arithmetic on the checkpoints and on
 * what the stream holds. All times are in ms since 1970.
 */
import { shapeOf, type Tiling } from '../aggregate/tiling.ts';
import type { StartSetting } from '../base/time-text.ts';
import { BusError } from '../bus/bus-error.ts';
import type { CheckpointEdit, KeptCheckpoint } from '../bus/kv/checkpoint-keys.ts';
import type { Checkpoint, NameChoice } from '../bus/kv/checkpoints.ts';
import type { WindowRange } from '../sink/contract.ts';
import { firstWanted, firstWholeWindow, resumeFrom, type StreamExtent } from './start-points.ts';

/** What the change is judged by. */
export interface ChangeFrame {
  readonly tiling: Tiling;
  /** The windows of the sink, if they are not those of `tiling`. */
  readonly own?: Tiling | undefined;
  readonly extent: StreamExtent;
  readonly now: number;
  /** How many slices the pipeline has now. */
  readonly slices: number;
  /** START of the sink; undefined if the sink is not enabled. */
  readonly start: StartSetting | undefined;
}

/** Which of the pipeline's checkpoints are to be changed. */
export interface Chosen {
  readonly sink: string;
  /** Only this one; undefined: those of all slices, also of slicings that are no longer in use. */
  readonly slice: string | undefined;
  /**
   * Also those of other numbers of slices, as far as they would keep it from going on where it is to: for an instance
   * that changes its own while the other slices go on.
   */
  readonly withOthers?: boolean;
}

export interface CheckpointChange {
  readonly edits: readonly CheckpointEdit[];
  /** One for each slice that the pipeline has now. */
  readonly effects: readonly SliceEffect[];
}

/** Where a slice of the sink goes on before the change and after it. */
export interface SliceEffect {
  readonly slice: string;
  readonly before: SlicePlace;
  readonly after: SlicePlace;
  /** Windows that it had confirmed, and writes again. */
  readonly again: WindowRange | undefined;
  /** Windows that it had not confirmed, and now skips. */
  readonly skipped: WindowRange | undefined;
  /** Windows that it had confirmed, and that stay as they are. */
  readonly kept: WindowRange | undefined;
}

/**
 * `checkpoint`: at the window `next`. `start`: its START decides; `next` is undefined if that is not known. `stopped`:
 * a checkpoint cannot be read.
 */
export type SlicePlace =
  | { readonly by: 'checkpoint'; readonly next: number; readonly began: number | undefined }
  | { readonly by: 'start'; readonly next: number | undefined }
  | { readonly by: 'stopped'; readonly key: string };

/** Removes the chosen checkpoints. Throws a `BusError` if there are none, unless `withOthers`. */
export function planReset(
  kept: readonly KeptCheckpoint[],
  chosen: Chosen,
  frame: ChangeFrame,
): CheckpointChange {
  const edits = chosenOf(kept, chosen).map((one): CheckpointEdit => ({ kept: one, checkpoint: undefined }));
  return { edits, effects: effectsOf(kept, edits, chosen.sink, frame) };
}

/**
 * Returns the start of the window that holds `time`. Throws a `BusError` if the stream does not hold it whole any more,
 * or it has not begun yet.
 */
export function windowToSet(
  time: number,
  { tiling, own = tiling, extent, now }: Pick<ChangeFrame, 'tiling' | 'own' | 'extent' | 'now'>,
): number {
  const [target, whole] = [own.startOf(time), firstWholeWindow(extent, own, now)];
  if (target < whole) {
    throw new BusError(
      `the stream no longer holds the window of ${iso(target)} whole, or never had anything for it: its first whole window is that of ${iso(whole)}`,
      `Choose a time from ${iso(whole)} on.`,
    );
  }
  if (target > now) {
    throw new BusError(
      `the window of ${iso(target)} has not begun yet: a checkpoint says what is written, and nothing is written before its time`,
      `Choose a time up to now (${iso(now)}).`,
    );
  }
  return target;
}

/** What the stream holds now. */
export interface StreamEnds {
  /** The sequence before the first message whose stream time completes the windows before the target. */
  readonly before: number;
  readonly last: number;
}

/** Moves the chosen checkpoints to `target`, see `windowToSet`. Throws a `BusError` if that cannot be. */
export function planSet(
  kept: readonly KeptCheckpoint[],
  chosen: Chosen,
  target: number,
  ends: StreamEnds,
  frame: ChangeFrame,
): CheckpointChange {
  if (ends.last === 0)
    throw new BusError('the stream has not had a message yet', 'Set a START instead of a checkpoint.');
  const moved = chosenOf(kept, chosen).filter(({ key, slice, content }) => {
    const isOther = chosen.withOthers === true && slice !== chosen.slice;
    if (content.unreadable && !isOther) throw unreadableStill(key, content.unreadable);
    if (content.unreadable) return false;
    const { next } = content.checkpoint;
    return isOther ? next > target : next !== target;
  });
  if (chosen.withOthers && !kept.some(({ sink, slice }) => sink === chosen.sink && slice === chosen.slice))
    throw hasNone(kept, chosen);
  const edits = moved.map((one) => ({
    kept: one,
    checkpoint: movedTo(target, one.content.checkpoint!, ends, frame),
  }));
  const effects = effectsOf(kept, edits, chosen.sink, frame);
  for (const { slice, after } of effects) {
    if (chosen.slice !== slice || after.by !== 'checkpoint' || after.next === target) continue;
    throw new BusError(
      `the checkpoints of another number of slices say that everything before ${iso(after.next)} is written: the slice ${slice} would go on there`,
      'Leave --slice out: then all checkpoints of the sink are moved.',
    );
  }
  return { edits, effects };
}

/**
 * Backwards, as much is known as when the windows before the target were closed. If it were less, the last of them
 * would be written again, perhaps from a stream that no longer holds it whole. Forwards, everything that the stream
 * holds counts as known: otherwise its messages would reopen the skipped windows.
 */
function movedTo(
  target: number,
  checkpoint: Checkpoint,
  { before, last }: StreamEnds,
  { tiling, now }: ChangeFrame,
): Checkpoint {
  const { skipped: known = [], choices = [], ...rest } = checkpoint;
  const { next, began, shape, sequence } = rest;
  // What comes after the target is written again.
  const still = known.flatMap(([from, to]) => (from < target ? [[from, Math.min(to, target)] as const] : []));
  const more = next < target ? [[next, target] as const] : [];
  const skipped = [...still, ...more].slice(-MAX_SKIPPED);
  return {
    ...rest,
    ...(skipped.length > 0 && { skipped }),
    // What is written again is what the setting says at the start.
    ...choicesBefore(choices, target, began),
    next: target,
    ...(began !== undefined && { began: Math.min(began, target) }),
    sequence: target < next ? Math.min(before, sequence || before) : last,
    shape: { ...shapeOf(tiling.epochAt(target)), slice: shape.slice },
    savedAt: iso(now),
  };
}

function choicesBefore(
  choices: readonly NameChoice[],
  target: number,
  began = Number.NEGATIVE_INFINITY,
): Pick<Checkpoint, 'choices'> {
  const kept = choices.filter(({ from }) => from < target);
  const [first] = choices;
  if (kept.length > 0) return { choices: kept };
  // What earlier windows got is unknown, and not all names, as it would be without any choice.
  return first === undefined || target <= began ? {} : { choices: [{ from: target, names: first.names }] };
}

/** How many ranges a checkpoint remembers. */
const MAX_SKIPPED = 10;

function unreadableStill(key: string, { advice }: BusError): BusError {
  return new BusError(`the checkpoint ${key} cannot be read, so it cannot be moved`, advice);
}

function chosenOf(kept: readonly KeptCheckpoint[], chosen: Chosen): KeptCheckpoint[] {
  const { sink, slice, withOthers = false } = chosen;
  const ofSlicing = `/${slice?.split('/')[1]}`;
  const isChosen = (other: string) =>
    slice === undefined || other === slice || (withOthers && !other.endsWith(ofSlicing));
  const ofSink = kept.filter((one) => one.sink === sink && isChosen(one.slice));
  if (ofSink.length > 0 || withOthers) return ofSink;
  throw hasNone(kept, chosen);
}

function hasNone(kept: readonly KeptCheckpoint[], { sink, slice }: Chosen): BusError {
  const others = kept.map((one) => `${one.sink} (${one.slice})`);
  return new BusError(
    `the sink ${sink} has no checkpoint${slice === undefined ? '' : ` of the slice ${slice}`} in this pipeline`,
    others.length > 0
      ? `Those that there are: ${others.join(', ')}. A sink without one begins by its START.`
      : 'The pipeline has none at all. Check PIPELINE. A sink without one begins by its START.',
  );
}

function effectsOf(
  kept: readonly KeptCheckpoint[],
  edits: readonly CheckpointEdit[],
  sink: string,
  frame: ChangeFrame,
): SliceEffect[] {
  const before = kept.filter((one) => one.sink === sink);
  const after = before.flatMap((one): KeptCheckpoint[] => {
    const edit = edits.find(({ kept }) => kept.key === one.key);
    if (edit === undefined) return [one];
    const { checkpoint } = edit;
    return checkpoint === undefined ? [] : [{ ...one, content: { checkpoint } }];
  });
  return Array.from({ length: frame.slices }, (_, index) =>
    effectOf(`${index}/${frame.slices}`, placeOf(before, index, frame), placeOf(after, index, frame)),
  );
}

/** Where a service that starts now goes on with this slice: as `BucketStore.survey` and `resumeFrom` decide. */
function placeOf(kept: readonly KeptCheckpoint[], index: number, frame: ChangeFrame): SlicePlace {
  const { slices, start, extent, tiling, own: windows = tiling, now } = frame;
  const own = kept.find(({ slice }) => slice === `${index}/${slices}`);
  const bad = kept.filter(({ content }) => content.unreadable);
  if (own?.content.checkpoint === undefined && bad.length > 0)
    return { by: 'stopped', key: (own ?? bad[0]!).key };
  const readable = kept.flatMap(({ slice, content: { checkpoint } }) =>
    checkpoint === undefined ? [] : [{ slice, checkpoint }],
  );
  const position = resumeFrom(readable, { index, of: slices });
  if (position !== undefined) return { by: 'checkpoint', next: position.next, began: position.began };
  return { by: 'start', next: start && firstWanted(start, extent, windows, now) };
}

function effectOf(slice: string, before: SlicePlace, after: SlicePlace): SliceEffect {
  const none = { slice, before, after, again: undefined, skipped: undefined, kept: undefined };
  if (before.by !== 'checkpoint' || after.by === 'stopped' || after.next === undefined) return none;
  const { next: from, began } = before;
  const { next: to } = after;
  const first = Math.min(from, to);
  return {
    ...none,
    again: to < from ? { from: to, to: from } : undefined,
    skipped: to > from ? { from, to } : undefined,
    kept: began !== undefined && began < first ? { from: began, to: first } : undefined,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
