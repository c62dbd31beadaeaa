/**
 * What a stream stores, and which of it is wanted. METRICS_SUBJECTS may name what producers publish, or what the stream
 * stores: with subject transforms these differ.
 */
import type { StreamConfig, StreamSource } from 'nats';
import { type Flow, type SubjectTransform, transformed } from './subject-transform.ts';
import { covers, intersection } from './subjects.ts';

/** Where messages come from, and what happens to their subjects on the way. */
interface Inflow {
  readonly pattern: string;
  /** Of a source or a mirror, and of the stream itself. Applied one after the other. */
  readonly stages: readonly (readonly SubjectTransform[])[];
  /** Comes from another stream, whose subjects we do not know. */
  readonly isCopied: boolean;
}

export type Capture = readonly Inflow[];

/** Subjects that were seen are kept, up to this many: a look is cheaper than a comparison. */
const MAX_KNOWN_SUBJECTS = 10_000;

type Captured = Partial<
  Pick<StreamConfig, 'subjects' | 'sources' | 'mirror'> & { subject_transform: SubjectTransform }
>;

export function captureOf({ subjects = [], sources = [], mirror, subject_transform }: Captured): Capture {
  const own = subject_transform ? [[subject_transform]] : [];
  const published = subjects.map((pattern) => ({ pattern, stages: own, isCopied: false }));
  const copied = [...sources, ...(mirror ? [mirror] : [])].flatMap((source) => inflowsOf(source, own));
  return [...published, ...copied];
}

function inflowsOf(
  { filter_subject, subject_transforms = [] }: StreamSource,
  own: Inflow['stages'],
): readonly Inflow[] {
  const transforms = subject_transforms as readonly SubjectTransform[];
  if (transforms.length === 0) return [{ pattern: filter_subject || '>', stages: own, isCopied: true }];
  // They are filters as well.
  return transforms.map((transform) => ({
    pattern: transform.src || '>',
    stages: [[transform], ...own],
    isCopied: true,
  }));
}

/** Returns how the messages of an inflow are stored that come in under `wanted`. */
function storedOf(wanted: string, { pattern, stages }: Inflow): readonly Flow[] {
  const some = intersection(wanted, pattern);
  if (some === undefined) return [];
  const flow = { pattern: some, all: pattern, isExact: true };
  return stages.reduce<readonly Flow[]>(
    (flows, stage) => flows.flatMap((one) => transformed(one, stage)),
    [flow],
  );
}

/**
 * Returns the subjects under which the stream stores what is published on `subject`: none if it stores nothing of it,
 * undefined if they are not known exactly.
 */
export function storedAs(subject: string, capture: Capture): string[] | undefined {
  const flows = capture.flatMap((inflow) => storedOf(subject, inflow));
  return flows.every(({ isExact }) => isExact)
    ? [...new Set(flows.map(({ pattern }) => pattern))]
    : undefined;
}

/** Returns the patterns of everything that the stream stores. */
export function storedPatterns(capture: Capture): string[] {
  const patterns = capture.flatMap((inflow) => storedOf('>', inflow).map(({ pattern }) => pattern));
  return [...new Set(patterns)];
}

/**
 * Returns which of the wanted subjects the stream does not capture, or can store nothing of. What is published must be
 * captured whole. Of what is stored, and of what other streams have, nobody knows more than that it may be there.
 */
export function notCaptured(wanted: readonly string[], capture: Capture): string[] {
  const isIn = (subject: string, inflow: Inflow) => {
    const { pattern, isCopied } = inflow;
    if (isCopied ? intersection(pattern, subject) !== undefined : covers(pattern, subject)) return true;
    return storedOf('>', inflow).some(
      (stored) => stored.pattern !== pattern && intersection(stored.pattern, subject) !== undefined,
    );
  };
  return wanted.filter((subject) => !capture.some((inflow) => isIn(subject, inflow)));
}

/** Returns the wanted subjects that the stream stores under subjects that others share, with those. */
export function mixedUp(
  wanted: readonly string[],
  capture: Capture,
): readonly { readonly subject: string; readonly stored: string }[] {
  return wanted.flatMap((subject) =>
    capture.flatMap((inflow) =>
      storedOf(subject, inflow)
        .filter(({ isExact, pattern }) => !isExact && !wanted.some((other) => covers(other, pattern)))
        .map(({ pattern }) => ({ subject, stored: pattern })),
    ),
  );
}

/** Returns whether a wanted message may come in twice: as a copy, and by a subject or as another copy. */
export function isDoubled(wanted: readonly string[], capture: Capture): boolean {
  return capture.some(
    (inflow, i) =>
      inflow.isCopied &&
      capture.some((other, j) => {
        const both = i === j ? undefined : intersection(inflow.pattern, other.pattern);
        if (both === undefined) return false;
        const names = [both, ...storedOf(both, inflow).map(({ pattern }) => pattern)];
        return names.some((name) => wanted.some((one) => intersection(one, name) !== undefined));
      }),
  );
}

/** Which of the stored subjects are wanted. */
export interface SubjectFilter {
  /** Of all that is wanted, as it is published and as it is stored. */
  readonly patterns: readonly string[];
  /** Undefined if all that the stream stores is wanted. */
  readonly isWanted: ((subject: string) => boolean) | undefined;
}

/**
 * Filters here and not on the server: a consumer with a filter skips sequences anyway, so messages that retention
 * removed before they were read could not be told apart from messages with other subjects.
 *
 * `earlier`: the filter from before the stream was changed. It still holds what it stored until then: what was wanted,
 * and what was not.
 */
export function filterOf(
  wanted: readonly string[],
  capture: Capture,
  earlier?: SubjectFilter,
): SubjectFilter {
  const images = wanted.flatMap((subject) =>
    capture.flatMap((inflow) => storedOf(subject, inflow).map(({ pattern }) => pattern)),
  );
  const patterns = [...new Set([...wanted, ...(earlier?.patterns ?? []), ...images])];
  const isCovered = (subject: string) => patterns.some((pattern) => covers(pattern, subject));
  const holdsOthers = earlier?.isWanted !== undefined;
  if (!holdsOthers && storedPatterns(capture).every(isCovered)) return { patterns, isWanted: undefined };
  const known = new Map<string, boolean>();
  const isWanted = (subject: string) => {
    const seen = known.get(subject);
    if (seen !== undefined) return seen;
    if (known.size >= MAX_KNOWN_SUBJECTS) known.clear();
    const answer = isCovered(subject);
    known.set(subject, answer);
    return answer;
  };
  return { patterns, isWanted };
}

/** Returns whether the filter from `before` a change of the stream may be wrong about messages stored after it. */
export function misjudges(before: SubjectFilter, { patterns, isWanted }: SubjectFilter): boolean {
  // It took all there was, and some of it is not wanted.
  if (before.isWanted === undefined) return isWanted !== undefined;
  return !patterns.every((pattern) => before.patterns.some((known) => covers(known, pattern)));
}
