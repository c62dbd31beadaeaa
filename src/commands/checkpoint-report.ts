/** The reports of `checkpoint`, as JSON and as text. */

import type { Tiling } from '../aggregate/tiling.ts';
import { amount, NO_VALUE, seconds } from '../base/number-format.ts';
import { printable, printableJson } from '../base/printable.ts';
import type { StartSetting } from '../base/time-text.ts';
import type { KnownInstance } from '../bus/control-client.ts';
import type { CheckpointEdit, KeptCheckpoint } from '../bus/kv/checkpoint-keys.ts';
import type { CheckpointChange, SliceEffect, SlicePlace } from '../deliver/checkpoint-change.ts';
import type { WindowRange } from '../sink/contract.ts';
import { type Cell, renderTable } from './terminal/table.ts';

export interface CheckpointList {
  readonly pipeline: string;
  readonly kept: readonly KeptCheckpoint[];
  /** The sinks that are enabled here, and how many slices the pipeline has here. */
  readonly enabled: readonly string[];
  readonly slices: number;
  /** Ms since 1970. */
  readonly now: number;
}

const HEADER = ['sink', 'slice', 'next window', 'behind', 'state'];

export function listJson(list: CheckpointList): string {
  const checkpoints = list.kept.map((kept) => {
    const { key, sink, slice, content } = kept;
    const { checkpoint, unreadable } = content;
    return {
      key,
      sink,
      slice,
      ...useOf(kept, list),
      next: checkpoint ? iso(checkpoint.next) : null,
      behindSeconds: checkpoint ? behindOf(checkpoint.next, list.now) / 1000 : null,
      began: checkpoint?.began === undefined ? null : iso(checkpoint.began),
      sequence: checkpoint?.sequence ?? null,
      streamCreated: checkpoint?.trail?.created ?? null,
      store: checkpoint?.store ?? null,
      skipped: (checkpoint?.skipped ?? []).map(([from, to]) => ({ from: iso(from), to: iso(to) })),
      choices: (checkpoint?.choices ?? []).map((choice) => ({ ...choice, from: iso(choice.from) })),
      savedAt: checkpoint?.savedAt ?? null,
      unreadable: unreadable === undefined ? null : unreadable.message,
    };
  });
  return `${printableJson({ pipeline: list.pipeline, now: iso(list.now), checkpoints }, 2)}\n`;
}

export function listText(list: CheckpointList, width?: number): string {
  const { kept, pipeline } = list;
  if (kept.length === 0)
    return `The pipeline ${pipeline} has no checkpoints like that: each sink begins by its START.\n`;
  const table = renderTable(
    HEADER,
    kept.map((one) => cells(one, list)),
    { width, keys: [0, 1] },
  );
  return `${[table, '', ...kept.flatMap((one) => details(one, list))].join('\n')}\n`;
}

function cells(kept: KeptCheckpoint, list: CheckpointList): Cell[] {
  const { sink, slice, content } = kept;
  const { checkpoint } = content;
  if (checkpoint === undefined)
    return [printable(sink), printable(slice), NO_VALUE, NO_VALUE, { text: 'unreadable', colour: 'red' }];
  const { enabled, slicingInUse } = useOf(kept, list);
  const state = enabled ? (slicingInUse ? 'in use' : 'other slicing') : 'not enabled';
  const behind = seconds(behindOf(checkpoint.next, list.now) / 1000);
  const shown: Cell = state === 'in use' ? state : { text: state, colour: 'yellow' };
  return [printable(sink), printable(slice), iso(checkpoint.next), behind, shown];
}

/** What does not fit into the table. */
function details(kept: KeptCheckpoint, list: CheckpointList): string[] {
  const { sink, slice, content } = kept;
  const { checkpoint, unreadable } = content;
  const name = `${sink} ${slice}`;
  if (unreadable !== undefined)
    return [`${name}: ${unreadable.message}`, `  ${unreadable.advice}`].map(printable);
  const { began, savedAt, store, trail, skipped = [], choices = [] } = checkpoint;
  const { enabled, slicingInUse } = useOf(kept, list);
  return [
    `${name}: saved ${savedAt}`,
    `  began ${began === undefined ? 'at an unknown window' : iso(began)}`,
    ...(trail === undefined ? [] : [`  read of the stream made at ${trail.created}`]),
    ...skipped.flatMap(([from, to]) => [
      `  was moved past ${iso(from)} to ${iso(to)}:`,
      '    not written, unless by a replay or into a new store since',
    ]),
    ...choices.map(({ from, names, slice: only }) => {
      const whose = only === undefined ? '' : `, of slice ${only}`;
      return `  from ${iso(from)}${whose}: ${names.length === 0 ? 'all names' : `only names of ${names.join(', ')}`}`;
    }),
    ...(store === undefined ? [] : [`  is about the store ${store}`]),
    ...(enabled ? [] : ['  the sink is not enabled in this environment']),
    ...(slicingInUse ? [] : [`  of another number of slices than here (${list.slices})`]),
  ].map(printable);
}

function useOf({ sink, slice }: KeptCheckpoint, { enabled, slices }: CheckpointList) {
  return { enabled: enabled.includes(sink), slicingInUse: slice.endsWith(`/${slices}`) };
}

function behindOf(next: number, now: number): number {
  return Math.max(0, now - next);
}

/** What is asked of `checkpoint`. */
export interface Asked {
  readonly verb: 'reset' | 'set';
  readonly sink: string;
  readonly pipeline: string;
  /** START of the sink; undefined if it is not enabled here. */
  readonly start: StartSetting | undefined;
  /** False: this is what would be done. */
  readonly isDone: boolean;
  /** Whether instances may run. */
  readonly isSafe: boolean;
  /** Those that do, or why that is not known. */
  readonly running: readonly KnownInstance[] | string;
}

export function changeJson(asked: Asked, { edits, effects }: CheckpointChange, tiling: Tiling): string {
  const { verb, sink, pipeline, isDone, running } = asked;
  const range = (windows: WindowRange | undefined) =>
    windows === undefined
      ? null
      : { from: iso(windows.from), to: iso(windows.to), windows: countOf(windows, tiling) };
  const place = (of: SlicePlace) => ({
    by: of.by,
    next: of.by === 'stopped' || of.next === undefined ? null : iso(of.next),
  });
  const slices = effects.map(({ slice, before, after, again, skipped, kept }) => ({
    slice,
    before: place(before),
    after: place(after),
    again: range(again),
    skipped: range(skipped),
    kept: range(kept),
  }));
  const changes = edits.map(({ kept: { key, content }, checkpoint }) => ({
    key,
    from: content.checkpoint === undefined ? null : iso(content.checkpoint.next),
    to: checkpoint === undefined ? null : iso(checkpoint.next),
  }));
  const instances = typeof running === 'string' ? null : running.map(({ instance }) => instance);
  return `${printableJson({ operation: verb, sink, pipeline, done: isDone, changes, slices, instances }, 2)}\n`;
}

export function changeText(asked: Asked, { edits, effects }: CheckpointChange, tiling: Tiling): string {
  const { verb, sink, isDone } = asked;
  if (edits.length === 0) return `The checkpoints of ${sink} are there already: there is nothing to do.\n`;
  const lines = [
    isDone ? `checkpoint ${verb}: done.` : `checkpoint ${verb}: a dry run, nothing was changed. With --yes:`,
    ...edits.map((edit) => `  ${editText(edit)}`),
    ...sameEffects(effects).flatMap((same) => effectText(same, asked, tiling).map((line) => `  ${line}`)),
    ...warnings(asked).map((line) => `  ${line}`),
    ...(isDone ? [] : ['Add --yes to do it.']),
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

function editText({ kept: { key, content }, checkpoint }: CheckpointEdit): string {
  const was =
    content.checkpoint === undefined
      ? 'it cannot be read'
      : `its next window is ${iso(content.checkpoint.next)}`;
  if (checkpoint === undefined) return `the key ${key} is removed (${was})`;
  return `the key ${key} is moved to ${iso(checkpoint.next)} (${was})`;
}

/** Slices to which the same happens, so that it is told once. */
function sameEffects(effects: readonly SliceEffect[]): SliceEffect[][] {
  const same = new Map<string, SliceEffect[]>();
  for (const effect of effects) {
    const what = JSON.stringify({ ...effect, slice: undefined });
    same.set(what, [...(same.get(what) ?? []), effect]);
  }
  return [...same.values()];
}

function effectText(same: readonly SliceEffect[], asked: Asked, tiling: Tiling): string[] {
  const { before, after, again, skipped, kept } = same[0]!;
  const slices = same.map(({ slice }) => slice);
  const one = slices.length === 1 ? 'slice' : 'slices';
  const who = slices[0] === '0/1' ? asked.sink : `${asked.sink}, ${one} ${slices.join(', ')},`;
  const numberOf = (windows: WindowRange) => {
    const count = countOf(windows, tiling);
    return count === 1 ? '1 window' : `${amount(count)} windows`;
  };
  const told = (windows: WindowRange) => `${numberOf(windows)}, ${iso(windows.from)} to ${iso(windows.to)}`;
  const isNow = after.by === 'start' && asked.start?.kind === 'now';
  return [
    `${who} ${placeText(after, asked)}`,
    ...(again ? [`written again, under the same keys: ${told(again)}`] : []),
    ...(kept ? [`stay as the store has them: ${told(kept)}`] : []),
    ...(skipped
      ? [
          `skipped: ${told(skipped)}${isNow ? ', and those until the service starts' : ''}`,
          'the store never gets the skipped windows, unless a replay writes them',
        ]
      : []),
    ...(before.by === 'stopped' && after.by !== 'stopped' && !asked.isDone
      ? ['a running service that had read it before goes on where it was; others as said']
      : []),
  ];
}

function placeText(after: SlicePlace, { sink, start }: Asked): string {
  switch (after.by) {
    case 'checkpoint':
      return `goes on with the window of ${iso(after.next)}`;
    case 'stopped':
      return `stays stopped: the checkpoint ${after.key} cannot be read`;
    case 'start': {
      const setting = `SINK_${sink.toUpperCase()}_START or METRICS_START`;
      if (after.next === undefined || start === undefined)
        return `begins where ${setting} says; it is not enabled in this environment`;
      if (start.kind === 'now')
        return `begins with the window of the moment the service starts (${setting}: now)`;
      const text = start.kind === 'at' ? iso(start.ms) : start.kind;
      return `begins with the window of ${iso(after.next)}, as the stream is now (${setting}: ${text})`;
    }
    default:
      return after satisfies never;
  }
}

function warnings({ isDone, isSafe, running }: Asked): string[] {
  if (isSafe) return [];
  const over = 'a running instance writes its own checkpoint over it';
  if (typeof running === 'string')
    return [
      `whether an instance runs is not known (${running}): ${over}${isDone ? '' : '; --yes needs --force'}`,
    ];
  if (running.length === 0) return [];
  const names = running.map(({ instance }) => instance).join(', ');
  return [`running: ${names}; ${over}${isDone ? '' : '; stop them first, or --yes is refused'}`];
}

function countOf({ from, to }: WindowRange, tiling: Tiling): number {
  return Math.round(tiling.windowsBetween(from, to));
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
