/**
 * Which subjects counted when a stream was read. It may be changed meanwhile: what it stored under an earlier transform
 * still counts, and what a reader took or left out before it knew of a change has to be read again. Checkpoints keep
 * this, so that a restart between the change and the next look forgets nothing.
 */
import { type CountedSubjects, mergeSubjects } from '../capture.ts';
import type { Bus } from '../connect.ts';
import { uncovered } from '../subjects.ts';

export interface KnownSubjects extends CountedSubjects {
  /** METRICS_SUBJECTS, sorted. */
  readonly wanted: readonly string[];
  /** The last sequence of the stream when it was looked at: what it had stored until then was judged rightly. */
  readonly through: number;
}

/** What is longer, as JSON, is not kept in checkpoints: they are written once a second. */
export const MAX_KEPT_CHARACTERS = 16_384;

export function knownSubjects(
  wanted: readonly string[],
  { patterns, areAll }: CountedSubjects,
  through: number,
): KnownSubjects {
  return { wanted: [...wanted].sort(), patterns, areAll, through };
}

export function canBeKept(known: KnownSubjects): boolean {
  return JSON.stringify(known).length <= MAX_KEPT_CHARACTERS;
}

/** Returns what was known of the stream that was created then, by one who wanted the same subjects. */
export function subjectsOf(
  trail: { readonly created: string; readonly subjects?: KnownSubjects | undefined } | undefined,
  created: string,
  wanted: readonly string[],
): KnownSubjects | undefined {
  if (trail?.created !== created || trail.subjects === undefined) return undefined;
  return areSame(trail.subjects.wanted, wanted) ? trail.subjects : undefined;
}

interface Memory extends CountedSubjects {
  readonly created: string;
  readonly wanted: readonly string[];
}

/** By connection. It outlives the sources. */
const memories = new WeakMap<Bus, Memory[]>();

/** Returns what a source, or a checkpoint, knew of the stream before. What was wanted then has to be wanted now. */
export function recallSubjects(
  bus: Bus,
  created: string,
  wanted: readonly string[],
): CountedSubjects | undefined {
  const known = memories.get(bus) ?? [];
  const of = known.filter((one) => one.created === created && uncovered(one.wanted, wanted).length === 0);
  return of.length === 0 ? undefined : mergeSubjects(of);
}

/** All sources of this connection will count these subjects too. */
export function rememberSubjects(
  bus: Bus,
  created: string,
  wanted: readonly string[],
  counted: CountedSubjects,
): void {
  const others: Memory[] = [];
  const same: CountedSubjects[] = [counted];
  for (const one of memories.get(bus) ?? [])
    if (one.created === created && areSame(one.wanted, wanted)) same.push(one);
    else others.push(one);
  memories.set(bus, [...others, { created, wanted, ...mergeSubjects(same) }]);
}

function areSame(some: readonly string[], others: readonly string[]): boolean {
  return [...some].sort().join(' ') === [...others].sort().join(' ');
}

export function isKnownSubjects(value: unknown): value is KnownSubjects {
  const known = value as Partial<KnownSubjects> | null;
  const areTexts = (list: unknown) => Array.isArray(list) && list.every((one) => typeof one === 'string');
  return (
    areTexts(known?.wanted) &&
    areTexts(known?.patterns) &&
    typeof known?.areAll === 'boolean' &&
    Number.isSafeInteger(known.through)
  );
}
