/** What checkpoints say, and what becomes of a change, as JSON: for commands and for answers to requests. */
import type { Tiling } from '../aggregate/tiling.ts';
import type { StartSetting } from '../base/time-text.ts';
import type { KeptCheckpoint } from '../bus/kv/checkpoint-keys.ts';
import type { WindowRange } from '../sink/contract.ts';
import type { CheckpointChange, SlicePlace } from './checkpoint-change.ts';

export interface CheckpointList {
  readonly pipeline: string;
  readonly kept: readonly KeptCheckpoint[];
  /** The sinks that are enabled here, and how many slices the pipeline has here. */
  readonly enabled: readonly string[];
  readonly slices: number;
  /** Ms since 1970. */
  readonly now: number;
}

export type ListFacts = ReturnType<typeof listFacts>;
export type CheckpointFacts = ListFacts['checkpoints'][number];

export function listFacts(list: CheckpointList) {
  const checkpoints = list.kept.map(({ key, sink, slice, content: { checkpoint, unreadable } }) => ({
    key,
    sink,
    slice,
    enabled: list.enabled.includes(sink),
    slicingInUse: slice.endsWith(`/${list.slices}`),
    next: checkpoint ? iso(checkpoint.next) : null,
    behindSeconds: checkpoint ? Math.max(0, list.now - checkpoint.next) / 1000 : null,
    began: checkpoint?.began === undefined ? null : iso(checkpoint.began),
    sequence: checkpoint?.sequence ?? null,
    streamCreated: checkpoint?.trail?.created ?? null,
    store: checkpoint?.store ?? null,
    skipped: (checkpoint?.skipped ?? []).map(([from, to]) => ({ from: iso(from), to: iso(to) })),
    choices: (checkpoint?.choices ?? []).map((choice) => ({ ...choice, from: iso(choice.from) })),
    windowMs: checkpoint?.window ?? null,
    savedAt: checkpoint?.savedAt ?? null,
    unreadable: unreadable === undefined ? null : unreadable.message,
  }));
  return { pipeline: list.pipeline, now: iso(list.now), checkpoints };
}

/** What is asked for. */
export interface AskedChange {
  readonly verb: 'reset' | 'set';
  readonly sink: string;
  readonly pipeline: string;
  /** START of the sink; undefined if it is not enabled here. */
  readonly start: StartSetting | undefined;
  /** False: this is what would be done. */
  readonly isDone: boolean;
  /** The instances that may write their own checkpoints over it; null if that is not known. */
  readonly instances: readonly string[] | null;
}

/** How long the windows are that the store has, and those that it gets; null: as long as those of the pipeline. */
export interface OtherLength {
  readonly hadMs: number | null;
  readonly hasMs: number | null;
}

export type ChangeFacts = ReturnType<typeof changeFacts>;
export type PlaceFacts = ChangeFacts['slices'][number]['after'];
export type RangeFacts = NonNullable<ChangeFacts['slices'][number]['again']>;

export function changeFacts(
  asked: AskedChange,
  { edits, effects, otherLength }: CheckpointChange & { readonly otherLength?: OtherLength | undefined },
  tiling: Tiling,
) {
  const { verb, sink, pipeline, start, isDone, instances } = asked;
  const range = (windows: WindowRange | undefined) =>
    windows === undefined
      ? null
      : {
          from: iso(windows.from),
          to: iso(windows.to),
          windows: Math.round(tiling.windowsBetween(windows.from, windows.to)),
        };
  const slices = effects.map(({ slice, before, after, again, skipped, kept }) => ({
    slice,
    before: placeFacts(before),
    after: placeFacts(after),
    again: range(again),
    skipped: range(skipped),
    kept: range(kept),
  }));
  const changes = edits.map(({ kept: { key, content }, checkpoint }) => ({
    key,
    from: content.checkpoint === undefined ? null : iso(content.checkpoint.next),
    to: checkpoint === undefined ? null : iso(checkpoint.next),
  }));
  return {
    operation: verb,
    sink,
    pipeline,
    done: isDone,
    start: startText(start),
    changes,
    slices,
    otherLength: otherLength ?? null,
    instances,
  };
}

function placeFacts(of: SlicePlace) {
  return {
    by: of.by,
    next: of.by === 'stopped' || of.next === undefined ? null : iso(of.next),
    ...(of.by === 'stopped' && { key: of.key }),
  };
}

function startText(start: StartSetting | undefined): string | null {
  if (start === undefined) return null;
  return start.kind === 'at' ? iso(start.ms) : start.kind;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
