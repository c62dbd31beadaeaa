/**
 * What the rules of the settings make of a series before anything is counted. Pure: what a series becomes depends on
 * its name, its dimensions, the subject of the message, and the rules.
 *
 * All rules speak of names and keys as they were published, in this order: tokens of the subject become dimensions;
 * names are left out; dimensions are dropped, or not kept; names and keys are renamed.
 */

import { matchesGlob } from '../aggregate/glob.ts';
import { type Dimension, type Identity, identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import type { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { checkIdentity } from './identity.ts';
import { type Origin, PLAIN } from './origin.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import {
  isTaken,
  type KeyRule,
  keyRules,
  type NameRules,
  nameRules,
  type RenameRules,
  type Renaming,
  renameRules,
  type SubjectPattern,
  subjectPatterns,
} from './shaping-rules.ts';
import { GLOBS_PER_STEP, Steps } from './steps.ts';

/** The rules as settings have them, checked; see `RULE_KINDS`. Absent: none. */
export interface ShapingSettings {
  readonly metricsNames?: readonly string[] | undefined;
  readonly metricsDropDimensions?: readonly string[] | undefined;
  readonly metricsKeepDimensions?: readonly string[] | undefined;
  readonly metricsRename?: readonly string[] | undefined;
  readonly metricsSubjectDimensions?: readonly string[] | undefined;
  /** Of a dimension that the message has too, the subject's value counts. */
  readonly metricsSubjectWins?: boolean;
}

/**
 * Subjects are the producers' to choose. When so many are known, or they have so many UTF-16 code units, all are
 * forgotten.
 */
const MAX_SUBJECTS = 16_384;
const MAX_SUBJECTS_LENGTH = 4_000_000;
/** A power of two. */
const NUMBERED = 1024;

/** The rules, parsed. */
export class ShapingRules {
  readonly #names: NameRules;
  readonly #drop: readonly KeyRule[];
  readonly #keep: readonly KeyRule[];
  readonly #rename: RenameRules;
  readonly #subjects: readonly SubjectPattern[];
  readonly #subjectWins: boolean;
  /** Equal for equal rules; empty if there are none. */
  readonly key: string;
  /** At most so many globs, or texts to rename, are looked at for a name, and for each dimension. */
  readonly size: number;

  constructor(settings: ShapingSettings) {
    const { metricsNames = [], metricsDropDimensions = [], metricsKeepDimensions = [] } = settings;
    const { metricsRename = [], metricsSubjectDimensions = [], metricsSubjectWins = false } = settings;
    this.#names = nameRules(metricsNames);
    this.#drop = keyRules(metricsDropDimensions);
    this.#keep = keyRules(metricsKeepDimensions);
    this.#rename = renameRules(metricsRename);
    this.#subjects = subjectPatterns(metricsSubjectDimensions);
    this.#subjectWins = metricsSubjectWins;
    const lists = [
      metricsNames,
      metricsDropDimensions,
      metricsKeepDimensions,
      metricsRename,
      metricsSubjectDimensions,
    ];
    this.key = lists.every(({ length }) => length === 0)
      ? ''
      : JSON.stringify([...lists, metricsSubjectWins]);
    this.size =
      metricsNames.length +
      this.#rename.names.length +
      [...this.#drop, ...this.#keep].reduce((sum, { keys }) => sum + keys.length, 0) +
      this.#rename.keys.reduce((sum, { renamings }) => sum + renamings.length, 0);
  }

  get needsSubject(): boolean {
    return this.#subjects.length > 0;
  }

  /** Returns the dimensions that a subject gives: by the first pattern that it matches. */
  dimensionsOf(subject: string): Dimension[] {
    const tokens = subject.split('.');
    for (const pattern of this.#subjects) {
      const found = matchSubject(pattern, tokens);
      if (found !== undefined) return found;
    }
    return [];
  }

  /** Returns what the series becomes; undefined if its name is not taken. `added`: what its subject gives. */
  shape(identity: Identity, added: readonly Dimension[] = []): Identity | undefined {
    const { name } = identity;
    if (!isTaken(this.#names, name)) return undefined;
    const matches = (glob: string) => matchesGlob(glob, name);
    if (this.key === '') return identity;
    const all = added.length === 0 ? identity.dimensions : this.#with(identity.dimensions, added);
    const drop = this.#drop.filter((rule) => matches(rule.name)).flatMap(({ keys }) => keys);
    const keep = this.#keep.filter((rule) => matches(rule.name));
    const kept = keep.flatMap(({ keys }) => keys);
    const isLeft = ([key]: Dimension) =>
      !drop.some((glob) => matchesGlob(glob, key)) &&
      (keep.length === 0 || kept.some((glob) => matchesGlob(glob, key)));
    const renamings = this.#rename.keys
      .filter((rule) => matches(rule.name))
      .flatMap((rule) => rule.renamings);
    return identify(renamed(name, this.#rename.names), renamedKeys(all.filter(isLeft), renamings));
  }

  #with(own: readonly Dimension[], added: readonly Dimension[]): Dimension[] {
    return [...new Map(this.#subjectWins ? [...own, ...added] : [...added, ...own])];
  }
}

function matchSubject(
  { tokens, isOpen }: SubjectPattern,
  subject: readonly string[],
): Dimension[] | undefined {
  if (isOpen ? subject.length <= tokens.length : subject.length !== tokens.length) return undefined;
  const dimensions: Dimension[] = [];
  for (const [i, token] of tokens.entries()) {
    if ('literal' in token) {
      if (token.literal !== subject[i]) return undefined;
    } else if (token.key !== undefined) dimensions.push([token.key, subject[i]!]);
  }
  return dimensions;
}

/** By the first renaming that fits. A text never becomes empty. */
function renamed(text: string, renamings: readonly Renaming[]): string {
  for (const { from, to, isPrefix } of renamings) {
    if (isPrefix ? !text.startsWith(from) : text !== from) continue;
    return to + text.slice(from.length) || text;
  }
  return text;
}

/** Of two dimensions that get one key, the one that had it stays; else the one whose key came first in order. */
function renamedKeys(dimensions: readonly Dimension[], renamings: readonly Renaming[]): Dimension[] {
  if (renamings.length === 0) return [...dimensions];
  const found = new Map<string, string>();
  const moved: Dimension[] = [];
  const sorted = [...dimensions].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key, value] of sorted) {
    const becomes = renamed(key, renamings);
    if (becomes === key) found.set(key, value);
    else moved.push([becomes, value]);
  }
  for (const [key, value] of moved) if (!found.has(key)) found.set(key, value);
  return [...found];
}

const NO_RULES = new ShapingRules({});

/** What a decoder does with new spellings, message by message. */
export class Shaping {
  readonly #table: SeriesTable;
  readonly #rules: ShapingRules;
  readonly #plain: Origin;
  readonly #steps: Steps;
  readonly #origins = new Map<string, Origin>();
  #length = 0;
  /** The numbers of subjects that came lately, each where its low bits say, and what they add. */
  readonly #numbers = new Float64Array(NUMBERED);
  readonly #numbered: Origin[] = new Array(NUMBERED).fill(PLAIN);
  /** Of the message that is being read. */
  origin: Origin;

  constructor(table: SeriesTable, rules = NO_RULES, steps = new Steps()) {
    this.#table = table;
    this.#steps = steps;
    this.#rules = rules;
    this.#plain = rules.key === '' ? PLAIN : { number: table.originOf(rules.key), dimensions: [] };
    this.origin = this.#plain;
  }

  get needsSubject(): boolean {
    return this.#rules.needsSubject;
  }

  /** From now on, messages have the subject of this one. */
  turnTo(label: MessageLabel | undefined): void {
    const number = label?.subjectNumber;
    if (number === undefined) {
      this.#turnToSubject(label?.subject ?? '');
      return;
    }
    const place = number & (NUMBERED - 1);
    if (this.#numbers[place] !== number) {
      this.#turnToSubject(label!.subject);
      this.#numbers[place] = number;
      this.#numbered[place] = this.origin;
    } else this.origin = this.#numbered[place]!;
  }

  #turnToSubject(subject: string): void {
    this.origin = this.#origins.get(subject) ?? this.#learn(subject);
  }

  #learn(subject: string): Origin {
    const dimensions = this.#rules.dimensionsOf(subject);
    const key = this.#rules.key + JSON.stringify(dimensions);
    const origin = dimensions.length === 0 ? this.#plain : { number: this.#table.originOf(key), dimensions };
    this.#length += subject.length;
    if (this.#origins.size >= MAX_SUBJECTS || this.#length > MAX_SUBJECTS_LENGTH) {
      this.#origins.clear();
      this.#length = subject.length;
    }
    this.#origins.set(subject, origin);
    return origin;
  }

  #shaped(identity: Identity, added: readonly Dimension[]): Identity | undefined {
    if (this.#rules.key === '') return identity;
    const dimensions = identity.dimensions.length + added.length;
    this.#steps.left -= (this.#rules.size * (1 + dimensions)) / GLOBS_PER_STEP;
    return this.#rules.shape(identity, added);
  }

  /** Gives the sample, whose spelling is new, the series that its own becomes. Returns why there is none. */
  add(sample: DecodedSample, identity: Identity): InputRejection | undefined {
    const shaped = this.#shaped(identity, sample.source.dimensions);
    if (shaped === undefined) {
      sample.series = this.#table.addFiltered(sample);
      return undefined;
    }
    const rejection = checkIdentity(shaped);
    if (rejection === undefined) sample.series = this.#table.add(sample, shaped);
    return rejection;
  }
}

/** Tells the shaping the subject of each message before the message is read. */
export class SubjectDecoder implements Decoder {
  readonly needsSubject = true;
  readonly #decoder: Decoder;
  readonly #shaping: Shaping;

  constructor(decoder: Decoder, shaping: Shaping) {
    this.#decoder = decoder;
    this.#shaping = shaping;
  }

  get steps(): Steps {
    return this.#decoder.steps;
  }

  get isPaused(): boolean {
    return this.#decoder.isPaused;
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    this.#shaping.turnTo(label);
    this.#decoder.take(message, handler, label);
  }

  resume(message: RawMessage, handler: SampleHandler): void {
    this.#decoder.resume(message, handler);
  }

  flush(handler: SampleHandler): void {
    this.#decoder.flush(handler);
  }
}
