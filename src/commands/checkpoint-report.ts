/** The reports of `checkpoint` and `ctl checkpoint` as text. Both come as JSON, some of it from other processes. */

import { lengthText } from '../aggregate/coarse-tiling.ts';
import { counted, NO_VALUE, seconds } from '../base/number-format.ts';
import { printable } from '../base/printable.ts';
import type {
  ChangeFacts,
  CheckpointFacts,
  ListFacts,
  PlaceFacts,
  RangeFacts,
} from '../deliver/checkpoint-facts.ts';
import { type Cell, renderTable } from './terminal/table.ts';

const HEADER = ['sink', 'slice', 'next window', 'behind', 'state'];

/** `advice`: by key, what to do about a checkpoint that cannot be read. */
export function listText(
  { checkpoints, pipeline }: ListFacts,
  {
    width,
    advice,
  }: { readonly width?: number | undefined; readonly advice?: ReadonlyMap<string, string> } = {},
): string {
  if (checkpoints.length === 0)
    return `The pipeline ${printable(pipeline)} has no checkpoints like that: each sink begins by its START.\n`;
  const table = renderTable(HEADER, checkpoints.map(cells), { width, keys: [0, 1] });
  return `${[table, '', ...checkpoints.flatMap((one) => details(one, advice?.get(one.key)))].join('\n')}\n`;
}

function cells({ sink, slice, next, behindSeconds, enabled, slicingInUse }: CheckpointFacts): Cell[] {
  if (next === null)
    return [printable(sink), printable(slice), NO_VALUE, NO_VALUE, { text: 'unreadable', colour: 'red' }];
  const state = enabled ? (slicingInUse ? 'in use' : 'other slicing') : 'not enabled';
  const shown: Cell = state === 'in use' ? state : { text: state, colour: 'yellow' };
  return [printable(sink), printable(slice), printable(next), seconds(behindSeconds ?? 0), shown];
}

/** What does not fit into the table. */
function details(of: CheckpointFacts, advice: string | undefined): string[] {
  const { sink, slice, unreadable, began, savedAt, store, streamCreated, skipped, choices } = of;
  const name = `${sink} ${slice}`;
  if (unreadable !== null)
    return [`${name}: ${unreadable}`, ...(advice === undefined ? [] : [`  ${advice}`])].map(printable);
  return [
    `${name}: saved ${savedAt}`,
    `  began ${began ?? 'at an unknown window'}`,
    ...(streamCreated === null ? [] : [`  read of the stream made at ${streamCreated}`]),
    ...skipped.flatMap(({ from, to }) => [
      `  was moved past ${from} to ${to}:`,
      '    not written, unless by a replay or into a new store since',
    ]),
    ...choices.map(({ from, names, slice: only }) => {
      const whose = only === undefined ? '' : `, of slice ${only}`;
      return `  from ${from}${whose}: ${names.length === 0 ? 'all names' : `only names of ${names.join(', ')}`}`;
    }),
    ...(of.windowMs === null ? [] : [`  has windows of its own, of ${of.windowMs / 1000} s`]),
    ...(store === null ? [] : [`  is about the store ${store}`]),
    ...(of.enabled ? [] : ['  the sink is not enabled in this environment']),
    ...(of.slicingInUse ? [] : ['  of another number of slices than here']),
  ].map(printable);
}

/** How a change is told. */
export interface ChangeWords {
  /** What is asked for, such as `checkpoint set`. */
  readonly title: string;
  readonly warnings: readonly string[];
  /** A service that runs does it itself: it need not be started. */
  readonly isRunning: boolean;
}

export function changeText(facts: ChangeFacts, words: ChangeWords): string {
  const { sink, done, changes, slices } = facts;
  const { title, isRunning } = words;
  if (changes.length === 0 && !isRunning)
    return `The checkpoints of ${printable(sink)} are there already: there is nothing to do.\n`;
  const lines = [
    done ? `${title}: done.` : `${title}: a dry run, nothing was changed. With --yes:`,
    ...changes.map((change) => `  ${editText(change)}`),
    ...sameEffects(slices).flatMap((same) => effectText(same, facts, words).map((line) => `  ${line}`)),
    ...otherLengthText(facts).map((line) => `  ${line}`),
    ...words.warnings.map((line) => `  ${line}`),
    ...(done ? [] : ['Add --yes to do it.']),
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

/** An instance of an older version does not tell it. */
function otherLengthText({ otherLength }: ChangeFacts): string[] {
  if (!otherLength) return [];
  const [had, has] = [lengthText(otherLength.hadMs), lengthText(otherLength.hasMs)];
  return [
    `the store still has windows of ${had}, and gets windows of ${has}:`,
    'empty its table or give it another, or sums count twice',
  ];
}

function editText({ key, from, to }: ChangeFacts['changes'][number]): string {
  const was = from === null ? 'it cannot be read' : `its next window is ${from}`;
  return to === null ? `the key ${key} is removed (${was})` : `the key ${key} is moved to ${to} (${was})`;
}

type Effects = ChangeFacts['slices'];

/** Slices to which the same happens, so that it is told once. */
function sameEffects(effects: Effects): Effects[] {
  const same = new Map<string, Effects>();
  for (const effect of effects) {
    const what = JSON.stringify({ ...effect, slice: undefined });
    same.set(what, [...(same.get(what) ?? []), effect]);
  }
  return [...same.values()];
}

function effectText(same: Effects, facts: ChangeFacts, { isRunning }: ChangeWords): string[] {
  const { before, after, again, skipped, kept } = same[0]!;
  const slices = same.map(({ slice }) => slice);
  const one = slices.length === 1 ? 'slice' : 'slices';
  const who = slices[0] === '0/1' ? facts.sink : `${facts.sink}, ${one} ${slices.join(', ')},`;
  const told = ({ from, to, windows }: RangeFacts) => `${counted(windows, 'window')}, ${from} to ${to}`;
  const isNow = after.by === 'start' && facts.start === 'now';
  const since = isNow && !isRunning ? ', and those until the service starts' : '';
  return [
    `${who} ${placeText(after, facts, isRunning)}`,
    ...(again ? [`written again, under the same keys: ${told(again)}`] : []),
    ...(kept ? [`stay as the store has them: ${told(kept)}`] : []),
    ...(skipped
      ? [
          `skipped: ${told(skipped)}${since}`,
          'the store never gets the skipped windows, unless a replay writes them',
        ]
      : []),
    ...(before.by === 'stopped' && after.by !== 'stopped' && !facts.done && !isRunning
      ? ['a running service that had read it before goes on where it was; others as said']
      : []),
  ];
}

function placeText(after: PlaceFacts, { sink, start }: ChangeFacts, isRunning: boolean): string {
  switch (after.by) {
    case 'checkpoint':
      return `goes on with the window of ${after.next}`;
    case 'stopped':
      return `stays stopped: the checkpoint ${after.key} cannot be read`;
    case 'start': {
      const setting = `SINK_${sink.toUpperCase()}_START or METRICS_START`;
      if (after.next === null || start === null)
        return `begins where ${setting} says; it is not enabled in this environment`;
      if (start === 'now')
        return `begins with the window of the moment ${isRunning ? 'it is done' : 'the service starts'} (${setting}: now)`;
      return `begins with the window of ${after.next}, as the stream is now (${setting}: ${start})`;
    }
    default:
      return after.by satisfies never;
  }
}
