/**
 * A bounded record of what was read of a stream. It tells later, also after a restart, whether the stream still holds
 * what it handed out, and if not, where the histories part.
 */
import { type KnownSubjects, keepable } from './known-subjects.ts';
import { type StoredStrange, StrangeMessages } from './strange-messages.ts';

/** The message with this sequence had this stream time (ms since 1970). */
export interface Mark {
  readonly sequence: number;
  readonly time: number;
  /** A message since the mark before had this stream time, which is earlier than that mark's; absent if none had. */
  readonly least?: number | undefined;
}

/** As a checkpoint holds it. */
export interface StoredTrail {
  /** When the stream was created: sequences of another stream mean nothing. */
  readonly created: string;
  readonly marks: readonly (readonly [sequence: number, time: number, least?: number])[];
  /** Absent if they are unknown, too many, or an older version saved this. */
  readonly subjects?: KnownSubjects | undefined;
  /** Absent if there was none. */
  readonly strange?: StoredStrange | undefined;
}

/** Spread exponentially, this many reach back over months, and the distance between two is less than half their age. */
export const MAX_MARKS = 48;

/** More than are pinned between two comparisons. */
const MAX_PINNED = 32;

export class Trail {
  #created: string;
  /** Ascending by sequence. */
  #marks: Mark[] = [];
  #pinned: Mark[] = [];
  /** Which subjects counted for what was read so far. */
  subjects: KnownSubjects | undefined;
  #strange: StrangeMessages;
  /** The first sequence that the live source of this process read; undefined before that. */
  first: number | undefined;
  /** How many messages other sources left out of what they read before that: see `StrangeMessages`. */
  leftOutAside = 0;
  #misreadAfter: number | undefined;
  /** Messages from `first` to `last` went back in time, `least` the furthest, and no mark says so yet. */
  #dip: { readonly first: number; readonly last: number; readonly least: number } | undefined;

  constructor(created: string, marks: readonly Mark[] = [], strange = new StrangeMessages()) {
    this.#created = created;
    this.#strange = strange;
    for (const mark of marks) this.note(mark);
  }

  /** See `StoredTrail`. */
  get created(): string {
    return this.#created;
  }

  get strange(): StrangeMessages {
    return this.#strange;
  }

  /** Ascending by sequence. */
  get marks(): readonly Mark[] {
    return this.#pinned.length === 0 ? this.#marks : mergeMarks([this.#marks, this.#pinned]);
  }

  /** Those that are to be compared with the stream soon: see `pin`. */
  get pinned(): readonly Mark[] {
    return this.#pinned;
  }

  /** Keeps a mark, whatever the distance to others, until it is unpinned. */
  pin(mark: Mark): void {
    this.#pinned.push(mark);
    if (this.#pinned.length > MAX_PINNED) this.#pinned.shift();
  }

  unpin(marks: readonly Mark[]): void {
    this.#pinned = this.#pinned.filter((mark) => !marks.includes(mark));
  }

  /**
   * Messages after `after`, up to `through` at least, were read wrongly: as if the stream had taken them back, they are
   * to be read again.
   */
  misread(after: number, through: Mark): void {
    this.#misreadAfter = Math.min(after, this.#misreadAfter ?? after);
    this.pin(through);
  }

  /** See `misread`; undefined if nothing was. */
  get misreadAfter(): number | undefined {
    return this.#misreadAfter;
  }

  /** This message had an earlier stream time than the one before. Marks from it on will say so. */
  wentBack({ sequence, time }: Mark): void {
    const { first = sequence, least = time } = this.#dip ?? {};
    this.#dip = { first, last: sequence, least: Math.min(time, least) };
  }

  /** Takes a message that was read: the last one, or one that windows were closed after. */
  note(mark: Mark): void {
    const at = this.#marks.findLastIndex(({ sequence }) => sequence <= mark.sequence);
    if (this.#marks[at]?.sequence === mark.sequence) return;
    const dip = this.#dip;
    const isBack = dip !== undefined && mark.sequence >= dip.first && at === this.#marks.length - 1;
    this.#marks.splice(
      at + 1,
      0,
      isBack ? { ...mark, least: Math.min(dip.least, mark.least ?? dip.least) } : mark,
    );
    if (isBack && mark.sequence >= dip.last) this.#dip = undefined;
    if (this.#marks.length > MAX_MARKS) this.#thin();
  }

  /** Another stream is read from now on. */
  restart(created: string): void {
    this.#created = created;
    this.#marks = [];
    this.#pinned = [];
    this.#misreadAfter = undefined;
    this.#dip = undefined;
    this.subjects = undefined;
    this.#strange = new StrangeMessages();
    this.first = undefined;
  }

  stored(): StoredTrail {
    const marks = this.marks.map(({ sequence, time, least }) =>
      least === undefined ? ([sequence, time] as const) : ([sequence, time, least] as const),
    );
    const subjects = this.subjects && keepable(this.subjects);
    const strange = this.#strange.stored();
    return { created: this.#created, marks, ...(subjects && { subjects }), ...(strange && { strange }) };
  }

  /** Removes the mark whose neighbours are closest, measured by how far back they are. The ends stay. */
  #thin(): void {
    const marks = this.#marks;
    const end = marks.at(-1)!.sequence;
    let [least, closest] = [1, Number.POSITIVE_INFINITY];
    for (let i = 1; i < marks.length - 1; i++) {
      const before = marks[i - 1]!.sequence;
      const distance = (marks[i + 1]!.sequence - before) / (end - before);
      if (distance < closest) [least, closest] = [i, distance];
    }
    const [{ least: dip } = {}] = marks.splice(least, 1);
    const next = marks[least]!;
    if (dip !== undefined) marks[least] = { ...next, least: Math.min(dip, next.least ?? dip) };
  }
}

/** Returns the marks of a stored trail; none if it is of another stream. */
export function marksOf(stored: StoredTrail | undefined, created: string): Mark[] {
  if (stored?.created !== created) return [];
  return stored.marks.map(([sequence, time, least]) => ({ sequence, time, least }));
}

/** Returns the marks of several trails of one stream, each once, in ascending order. */
export function mergeMarks(trails: Iterable<readonly Mark[]>): Mark[] {
  const merged = new Map<string, Mark>();
  for (const marks of trails) {
    for (const mark of marks) {
      const dips = [mark.least, merged.get(keyOfMark(mark))?.least].flatMap((least) => least ?? []);
      merged.set(keyOfMark(mark), { ...mark, least: dips.length > 0 ? Math.min(...dips) : undefined });
    }
  }
  return [...merged.values()].sort((a, b) => a.sequence - b.sequence || a.time - b.time);
}

/** Two marks with the same sequence and different times are of histories that have parted. */
export function keyOfMark({ sequence, time }: Mark): string {
  return `${sequence} ${time}`;
}
