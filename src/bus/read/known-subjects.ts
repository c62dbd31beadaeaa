/**
 * Which subjects counted when a stream was read. It may be changed meanwhile: what it stored under an earlier transform
 * still counts, and what a reader left out before it knew of a change has to be read again. Checkpoints keep this, so
 * that a restart between the change and the next look forgets nothing.
 */
import { StreamUnfit } from '../bus-error.ts';
import { type Capture, filterOf, misjudges, type SubjectFilter, takenOver } from '../capture.ts';
import type { Bus } from '../connect.ts';
import { uncovered } from '../subjects.ts';

export interface KnownSubjects {
  /** METRICS_SUBJECTS. */
  readonly wanted: readonly string[];
  /** What else counts: how the stream stored some of that, now or earlier. */
  readonly patterns: readonly string[];
  /** What else the stream stores, or stored, that nobody wants. */
  readonly others: readonly string[];
  /** The last sequence that was surely judged with all of this. */
  readonly through: number;
}

/** What is longer, as JSON, is not kept in checkpoints: they are written once a second. */
export const MAX_KEPT_CHARACTERS = 32_768;

export function knownSubjects(
  wanted: readonly string[],
  { patterns, stored }: Pick<SubjectFilter, 'patterns' | 'stored'>,
  through: number,
): KnownSubjects {
  // Behind a source without a filter may be anything. It says nothing of what comes when that source is gone.
  const others = uncovered(stored, patterns).filter((pattern) => pattern !== '>');
  return { wanted, patterns: uncovered(patterns, wanted), others, through };
}

/** Returns what of it a checkpoint can keep: what counts goes before what does not. Undefined if it is too much. */
export function keepable(known: KnownSubjects): KnownSubjects | undefined {
  const fits = (some: KnownSubjects) => JSON.stringify(some).length <= MAX_KEPT_CHARACTERS;
  return [known, { ...known, others: [] }].find(fits);
}

/** What counts of a stream, by what is known of it. One for all sources of a connection: any of them may learn more. */
interface Memory {
  readonly created: string;
  readonly wanted: readonly string[];
  filter: SubjectFilter;
  /** What the filter was made of. */
  of: string;
}

/** By connection. It outlives the sources. */
const memories = new WeakMap<Bus, Memory[]>();

/**
 * Takes what the stream stores now. Returns which of its messages count, and goes on to say so when another source of
 * this connection learns of a change. Throws a `StreamUnfit` if what is wanted and what is not can no longer be told
 * apart.
 */
export function takeCapture(
  bus: Bus,
  created: string,
  wanted: readonly string[],
  capture: Capture,
): { readonly filter: SubjectFilter } {
  const earlier = recall(bus, created, wanted);
  const memory = memoryOf(bus, created, wanted);
  const of = JSON.stringify([capture, earlier]);
  // Most looks find nothing new, and what it has judged stays judged.
  if (memory.of === of) return memory;
  const filter = filterOf(wanted, capture, earlier);
  const taken = takenOver(wanted, filter, earlier);
  if (taken !== undefined) throw mixedUpLater(taken, wanted);
  return Object.assign(memory, { of, filter });
}

function mixedUpLater(stored: string, wanted: readonly string[]): StreamUnfit {
  return new StreamUnfit(
    `the stream stores some of ${wanted.join(', ')} as ${stored}, under which it holds messages of others`,
    `Take back the transform, or add ${stored} to METRICS_SUBJECTS if all of these are metrics.`,
  );
}

/** All sources of this connection will count what others, who wanted the same or less, knew of this stream. */
export function rememberSubjects(bus: Bus, created: string, known: KnownSubjects): void {
  const { wanted, patterns, others } = known;
  const memory = memoryOf(bus, created, wanted);
  const { filter } = memory;
  const isNew =
    uncovered(patterns, filter.patterns).length > 0 || others.some((other) => !filter.stored.includes(other));
  if (!isNew) return;
  memory.filter = filterOf(wanted, [], {
    patterns: [...filter.patterns, ...patterns],
    stored: [...filter.stored, ...others],
  });
  memory.of = '';
}

/** Returns the last sequence that a reader who knew this much judged rightly, if it may have been wrong since then. */
export function misreadAfter(
  bus: Bus,
  created: string,
  known: KnownSubjects,
  capture: Capture,
): number | undefined {
  const { wanted, patterns, through } = known;
  const now = filterOf(wanted, capture, recall(bus, created, wanted));
  return misjudges([...wanted, ...patterns], now.patterns) ? through : undefined;
}

/**
 * Returns what is known of the stream: what counted for those who wanted nothing that is not wanted now, and what it
 * stored. What others wanted by name is nothing strange.
 */
function recall(bus: Bus, created: string, wanted: readonly string[]) {
  const known = (memories.get(bus) ?? []).filter((one) => one.created === created);
  const alike = known.filter((one) => uncovered(one.wanted, wanted).length === 0);
  const stored = [
    ...alike.flatMap(({ filter }) => filter.stored),
    ...known.flatMap((one) => uncovered(one.wanted, wanted)),
  ];
  return {
    patterns: [...new Set(alike.flatMap(({ filter }) => filter.patterns))],
    stored: [...new Set(stored)].filter((pattern) => pattern !== '>'),
  };
}

function memoryOf(bus: Bus, created: string, wanted: readonly string[]): Memory {
  const known = memories.get(bus) ?? [];
  memories.set(bus, known);
  const found = known.find((one) => one.created === created && areSame(one.wanted, wanted));
  if (found !== undefined) return found;
  const made = { created, wanted, filter: filterOf(wanted, []), of: '' };
  known.push(made);
  return made;
}

function areSame(some: readonly string[], others: readonly string[]): boolean {
  return [...some].sort().join(' ') === [...others].sort().join(' ');
}

export function isKnownSubjects(value: unknown): value is KnownSubjects {
  const known = value as Partial<KnownSubjects> | null;
  const areTexts = (list: unknown) => Array.isArray(list) && list.every((one) => typeof one === 'string');
  return (
    [known?.wanted, known?.patterns, known?.others].every(areTexts) && Number.isSafeInteger(known?.through)
  );
}
