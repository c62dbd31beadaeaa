/**
 * What a stream stores, and which of it is wanted. METRICS_SUBJECTS may name what producers publish, or what the stream
 * stores: with subject transforms these differ.
 */
import type { StreamConfig, StreamSource } from 'nats';
import type { Envelope } from './message.ts';
import { type Flow, type SubjectTransform, transformed } from './subject-transform.ts';
import { covers, intersection, isCovered, nests, uncovered } from './subjects.ts';

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
/** Subjects whose verdicts are found by their number: a power of two. */
const NUMBERED = 1024;

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

/** Returns the patterns under which the stream may store something of what is published on `subject`. */
export function storedPatternsOf(subject: string, capture: Capture): string[] {
  const patterns = capture.flatMap((inflow) => storedOf(subject, inflow).map(({ pattern }) => pattern));
  return [...new Set(patterns)];
}

/** Returns the patterns of everything that the stream stores. */
export function storedPatterns(capture: Capture): string[] {
  return storedPatternsOf('>', capture);
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

/**
 * Returns the wanted subjects that the stream stores under subjects that others share, with those. Of what is published
 * to it: what other streams have, nobody knows.
 */
export function mixedUp(
  wanted: readonly string[],
  capture: Capture,
): readonly { readonly subject: string; readonly stored: string }[] {
  const isWanted = (pattern: string) => isCovered(pattern, wanted);
  const isMixed = (pattern: string, inflow: Inflow) =>
    !inflow.isCopied &&
    capture.some((other) => other !== inflow && !isWanted(other.pattern) && collides(pattern, other, wanted));
  return wanted.flatMap((subject) =>
    capture.flatMap((inflow) =>
      storedOf(subject, inflow)
        .filter(({ pattern }) => !isWanted(pattern))
        .filter(({ isExact, pattern }) => !isExact || isMixed(pattern, inflow))
        .map(({ pattern }) => ({ subject, stored: pattern })),
    ),
  );
}

/**
 * Whether a subject under which something wanted is stored is also one of another inflow's, and not for what is wanted
 * of it. Patterns that only overlap may never meet: then nobody is refused.
 */
function collides(pattern: string, other: Inflow, wanted: readonly string[]): boolean {
  if (other.isCopied) return false;
  const flows = wanted.flatMap((subject) => storedOf(subject, other).filter(({ isExact }) => isExact));
  const own = flows.map((flow) => flow.pattern);
  return storedOf('>', other).some(
    (flow) => nests(flow.pattern, pattern) && !isCovered(intersection(flow.pattern, pattern)!, own),
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

/**
 * `other`: the stream stores it beside what is wanted, or was seen to. `strange`: nobody saw a stream that stores such
 * a subject, so nobody knows whether it was wanted when it came.
 */
export type SubjectVerdict = 'wanted' | 'other' | 'strange';

/** Which of the messages of a stream count. */
export interface SubjectFilter {
  /** Of all that is wanted, as it is published and as it is stored, now or earlier. None covers another. */
  readonly patterns: readonly string[];
  /** Of all that the stream stores, wanted or not, now or earlier. */
  readonly stored: readonly string[];
  /** Every subject that begins with one of these bytes is wanted. */
  readonly prefixes: readonly Uint8Array[];
  readonly judge: (subject: string) => SubjectVerdict;
  /** The same, of a message, without its subject if that came lately. */
  readonly verdictOn: (envelope: Envelope) => SubjectVerdict;
}

/**
 * Filters here and not on the server: a consumer with a filter skips sequences anyway, so messages that retention
 * removed before they were read could not be told apart from messages with other subjects. What the stream stores now
 * says nothing about what it stored before it was changed, so every message is judged.
 *
 * `earlier`: what was known before the stream was changed. It still holds what it stored until then.
 */
export function filterOf(
  wanted: readonly string[],
  capture: Capture,
  earlier: Pick<SubjectFilter, 'patterns' | 'stored'> = { patterns: [], stored: [] },
): SubjectFilter {
  const images = wanted.flatMap((subject) =>
    capture.flatMap((inflow) => storedOf(subject, inflow).map(({ pattern }) => pattern)),
  );
  const patterns = withoutCovered([...wanted, ...earlier.patterns, ...images]);
  const stored = [...new Set([...storedPatterns(capture), ...earlier.stored])];
  const verdictOf = (subject: string) =>
    isCovered(subject, patterns) ? 'wanted' : isCovered(subject, stored) ? 'other' : 'strange';
  const judge = remembering(verdictOf);
  const prefixes = patterns.flatMap(prefixOf);
  return { patterns, stored, prefixes, judge, verdictOn: byNumber(prefixes, judge) };
}

function byNumber(
  prefixes: readonly Uint8Array[],
  judge: SubjectFilter['judge'],
): SubjectFilter['verdictOn'] {
  const numbers = new Float64Array(NUMBERED);
  const verdicts = new Array<SubjectVerdict>(NUMBERED).fill('wanted');
  return (envelope) => {
    for (const prefix of prefixes) if (envelope.startsWith?.(prefix)) return 'wanted';
    const number = envelope.subjectNumber;
    if (number === undefined) return judge(envelope.subject);
    const place = number & (NUMBERED - 1);
    if (numbers[place] !== number) {
      verdicts[place] = judge(envelope.subject);
      numbers[place] = number;
    }
    return verdicts[place]!;
  };
}

/** Returns what all subjects of the pattern begin with, if no other subject does. */
function prefixOf(pattern: string): Uint8Array[] {
  return /^([^*>]+\.)?>$/.test(pattern) ? [Buffer.from(pattern.slice(0, -'>'.length))] : [];
}

/** Forgets the older half of what it remembers when that is too much. */
function remembering(verdictOf: (subject: string) => SubjectVerdict): SubjectFilter['judge'] {
  let recent = new Map<string, SubjectVerdict>();
  let older = new Map<string, SubjectVerdict>();
  return (subject) => {
    const seen = recent.get(subject);
    if (seen !== undefined) return seen;
    const verdict = older.get(subject) ?? verdictOf(subject);
    if (recent.size >= MAX_KNOWN_SUBJECTS / 2) {
      older = recent;
      recent = new Map();
    }
    recent.set(subject, verdict);
    return verdict;
  };
}

/**
 * Returns a pattern under which something wanted is stored now, and under which the stream is known to hold messages of
 * others; undefined if there is none.
 */
export function takenOver(
  wanted: readonly string[],
  { patterns }: Pick<SubjectFilter, 'patterns'>,
  earlier: Pick<SubjectFilter, 'patterns' | 'stored'>,
): string | undefined {
  const others = uncovered(earlier.stored, earlier.patterns).filter(
    (pattern) => !wanted.some((one) => intersection(one, pattern) !== undefined),
  );
  const learned = uncovered(patterns, [...wanted, ...earlier.patterns]);
  return learned.find((one) => others.some((other) => nests(one, other)));
}

/** Returns whether a reader that counted these patterns may have left out what counts now. */
export function misjudges(before: readonly string[], now: readonly string[]): boolean {
  return uncovered(now, before).length > 0;
}

/** Returns those that no other one covers. */
function withoutCovered(patterns: readonly string[]): string[] {
  const each = [...new Set(patterns)];
  return each.filter((one) => !each.some((other) => other !== one && covers(other, one)));
}
