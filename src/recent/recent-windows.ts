/**
 * The closed windows of the last hour, in memory, for questions that should not need a store. They are taken in small
 * pieces after they were handed to the lanes, so neither the hot loop nor a lane waits for this. All that happens to
 * them happens in the order in which it was told.
 */
import { type KeySource, systemKeys } from '../aggregate/keyed-hash.ts';
import { COUNTER, GAUGE, TIMER } from '../aggregate/sample.ts';
import type { Sketches } from '../aggregate/sketch.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Clock } from '../base/clock.ts';
import { type Chunk, ChunkBuilder } from './columns.ts';
import { DOUBTS, type Doubt, LATELY_MS, LOSSES, RECENT_MS, type WindowLoss } from './question.ts';
import { partsWithin, type Ranges, type TimeRange, withoutRange, withRange } from './ranges.ts';
import { KnownRefs, SeriesDictionary } from './series-dictionary.ts';
import { writeSketch } from './sketch-bytes.ts';
import { Turns } from './turns.ts';

/** When it is full, this share is made free at once: making room takes about as long for little as for much. */
const ROOM = 0.1;
/** Of all, what may wait to be taken if it is more than one window. Such windows are larger than kept ones. */
const WAITING = 0.25;
/** Beside its chunks, about. */
const WINDOW_BYTES = 200;
/** The least that a series takes to be taken, alone: its numbers in the dictionary (twice), in `KnownRefs`, a point. */
const MIN_SERIES_BYTES = 2 * 44 + 16 + 3;
/** After one was too large, those that are as large are not tried for so long: each would take as much work. */
const TOO_LARGE_MS = 60_000;
const NO_POINT = -1;
/** Points between two looks at the clock, and bytes of their sketches. */
const STEP_POINTS = 512;
const STEP_BYTES = 4096;
/** Marks beyond this are joined to their neighbors, so that more is called incomplete than is. */
const MAX_MARKS = 256;

export interface KeptWindow {
  /** Which one it is, of all that were ever kept. */
  readonly serial: number;
  readonly start: number;
  readonly windowMs: number;
  /** See `Point.instance`. */
  readonly instance: string;
  readonly chunks: readonly Chunk[];
  readonly bytes: number;
}

/**
 * What a question is answered from. Windows that come and go meanwhile are no part of it. The series have the same
 * numbers for as long as any of its windows has them: a dictionary that takes the place of this one keeps them.
 */
export interface RecentView {
  readonly windows: readonly KeptWindow[];
  readonly dictionary: SeriesDictionary;
  readonly covered: Ranges;
  readonly doubts: Readonly<Record<Doubt, Ranges>>;
  readonly absences: Readonly<Record<WindowLoss, Ranges>>;
  /** All windows before it are closed; undefined before the first. */
  readonly boundary: number | undefined;
  readonly tiling: Tiling;
  readonly lend: Lend;
}

/**
 * Returns whether there is room for so many bytes that questions leave for others, in place of what they left before,
 * which stays if there is not. They are asked back when room is needed, or nobody asked lately.
 */
export type Lend = (bytes: number, giveBack: () => void) => boolean;

interface Waiting {
  readonly bytes: number;
  run(turns: Turns): void | Promise<void>;
  /** Instead, if it waits while there is too much. Holds nothing of what `run` has: that is to be released. */
  readonly skip?: () => void;
}

export interface RecentOptions {
  /** RECENT_BYTES. */
  readonly limitBytes: number;
  readonly clock: Pick<Clock, 'now' | 'steady' | 'nextTurn'>;
  readonly keys?: KeySource;
}

export class RecentWindows {
  readonly #limit: number;
  readonly #clock: RecentOptions['clock'];
  readonly #keys: KeySource;
  #dictionary: SeriesDictionary;
  readonly #known = new KnownRefs();
  #builders: readonly ChunkBuilder[] = [];
  /** Ascending by start. */
  #windows: KeptWindow[] = [];
  #windowBytes = 0;
  /** Of the window that is being taken. */
  #takenBytes = 0;
  #lent: { readonly bytes: number; readonly giveBack: () => void } | undefined;
  /** When there was a question. */
  #askedAt = Number.NEGATIVE_INFINITY;
  #whenTaken: (() => void) | undefined;
  /** How many windows were ever kept. */
  #taken = 0;
  #covered: Ranges = [];
  #doubts: Record<Doubt, Ranges> = { gap: [], changed: [], partial: [] };
  #absences: Record<WindowLoss, Ranges> = {
    evicted: [],
    skipped: [],
    too_large: [],
  };
  /** By start: the sequence of the stream through which a window was reopened; and through which it was recomputed. */
  readonly #reopened = new Map<number, number>();
  readonly #recomputed = new Map<number, number>();
  /** Up to here, windows were taken, or skipped. */
  #boundary: number | undefined;
  /** Up to here, they were told. */
  #position = Number.NaN;
  #tiling: Tiling | undefined;
  #waiting: Waiting[] = [];
  /** With those of the one that is being taken. */
  #waitingBytes = 0;
  /** How many points were too many, and when. */
  #tooLarge: { readonly points: number; readonly at: number } | undefined;
  #work: Promise<void> | undefined;

  constructor({ limitBytes, clock, keys = systemKeys }: RecentOptions) {
    this.#limit = limitBytes;
    this.#clock = clock;
    this.#keys = keys;
    this.#dictionary = new SeriesDictionary(keys);
  }

  /** With the windows that wait to be taken. */
  get bytes(): number {
    return this.#keptBytes + this.#waitingBytes;
  }

  /**
   * The memory that is kept. The series count twice: when many are no longer in any window, those that are move to a
   * new dictionary, and for a moment there are two.
   */
  get #keptBytes(): number {
    const builders = this.#builders.reduce((sum, builder) => sum + builder.bytes, 0);
    const series = 2 * this.#dictionary.bytes + this.#known.bytes;
    return series + builders + this.#windowBytes + this.#takenBytes + (this.#lent?.bytes ?? 0);
  }

  /** Resolves when all that was told is done. */
  async settled(): Promise<void> {
    await this.#work;
  }

  /**
   * From now on, windows from `from` on are told, also such as were told before: the stream may hold something else
   * now. -Infinity: those that begin now (core mode), of which the first lacks what came before. `again`: where the
   * stream was rolled back to.
   */
  began(from: number, tiling: Tiling, again: number = Number.POSITIVE_INFINITY): void {
    const now = this.#clock.now();
    const first = Number.isFinite(from) ? from : tiling.startOf(now);
    const last = { from: Math.min(first, again), to: Number.POSITIVE_INFINITY };
    for (const doubt of DOUBTS) this.#doubts[doubt] = withoutRange(this.#doubts[doubt], last);
    if (first !== from) this.#mark('partial', { from: first, to: tiling.endOf(now) });
    // After a rollback, sequences begin again.
    const known = Number.isFinite(again) ? Number.NEGATIVE_INFINITY : last.from;
    for (const sequences of [this.#reopened, this.#recomputed])
      for (const start of sequences.keys()) if (start >= known) sequences.delete(start);
    this.#position = first;
    this.#tiling = tiling;
    this.#enqueue({
      bytes: 0,
      run: () => {
        // The parts of one window add up in core mode.
        if (first === from) this.#forget(last);
        this.#boundary = Math.max(first, Math.min(this.#boundary ?? first, last.from));
      },
    });
  }

  /** These were closed, and all others before the boundary are empty, or belong to other slices. */
  closed(windows: readonly ClosedWindow[], boundary: number): void {
    const from = this.#position;
    this.#position = boundary;
    const last = windows.at(-1);
    // The range of each reaches to the next, so that nothing is called covered before it is.
    let at = from;
    for (const window of windows) {
      const to = window === last ? boundary : window.start + window.windowMs;
      this.#enqueueWindow(window, { from: at, to });
      at = to;
    }
    if (last === undefined) this.#enqueue({ bytes: 0, run: () => this.#cover({ from, to: boundary }) });
  }

  /** They got a sample, up to this sequence, after they were closed. They will be `recomputed`. */
  reopened(starts: readonly number[], through: number): void {
    for (const start of starts) {
      // Each lane finds for itself what was late. Another one has read more already.
      if (through <= (this.#recomputed.get(start) ?? 0)) continue;
      this.#mark('changed', this.#rangeOf(start));
      this.#reopened.set(start, Math.max(through, this.#reopened.get(start) ?? 0));
    }
  }

  /**
   * What a window is after all, with all samples up to the sequence `read`; undefined if it has no points. Each lane
   * computes it for itself, and one may come with less than another one before.
   */
  recomputed(start: number, window: ClosedWindow | undefined, read: number): void {
    const sketches = window?.takeSketches();
    if (read <= (this.#recomputed.get(start) ?? 0)) return;
    this.#recomputed.set(start, read);
    const bytes = window === undefined ? 0 : bytesOf(window, sketches);
    this.#enqueue({
      bytes,
      skip: this.#skipRecomputed(start, this.#reasonFor(bytes)),
      run: async (turns) => {
        if (start < this.#expiry || !partsWithin(this.#covered, this.#rangeOf(start)).length) return;
        this.#drop((kept) => kept.start === start);
        const range = this.#rangeOf(start);
        // If it was reopened after that, it will be recomputed again.
        if (read >= (this.#reopened.get(start) ?? 0))
          this.#doubts.changed = withoutRange(this.#doubts.changed, range);
        if (window !== undefined && !(await this.#take(window, sketches, turns)))
          this.#uncover(range, 'too_large');
      },
    });
  }

  /** The stream no longer held some messages that windows of the range may depend on. */
  gapped(range: TimeRange): void {
    this.#mark('gap', range);
  }

  /** Has this called whenever all that was told is done. */
  whenTaken(call: () => void): void {
    this.#whenTaken = call;
  }

  /** Whether there was a question not long ago, which makes another one likely. */
  get isAskedLately(): boolean {
    return this.#clock.steady() - this.#askedAt < LATELY_MS;
  }

  asked(): void {
    this.#askedAt = this.#clock.steady();
  }

  /** Undefined if nothing was ever told. */
  view(): RecentView | undefined {
    const tiling = this.#tiling;
    if (tiling === undefined) return undefined;
    return {
      windows: this.#windows,
      dictionary: this.#dictionary,
      covered: this.#covered,
      doubts: { ...this.#doubts },
      absences: { ...this.#absences },
      boundary: this.#boundary,
      tiling,
      lend: (bytes, giveBack) => {
        const isRoom = this.bytes - (this.#lent?.bytes ?? 0) + bytes <= this.#limit;
        if (isRoom) this.#lent = { bytes, giveBack };
        return isRoom;
      },
    };
  }

  #takeBack(): void {
    this.#lent?.giveBack();
    this.#lent = undefined;
  }

  #enqueueWindow(window: ClosedWindow, range: TimeRange): void {
    const sketches = window.takeSketches();
    const bytes = bytesOf(window, sketches);
    this.#enqueue({
      bytes,
      skip: this.#skipClosed(range, this.#reasonFor(bytes)),
      run: async (turns) => {
        if (range.to <= this.#expiry || (await this.#take(window, sketches, turns))) this.#cover(range);
        else this.#lose(range, 'too_large');
        await this.#makeRoom(turns);
      },
    });
  }

  /** Why one that takes so much while it waits is skipped, if it is. */
  #reasonFor(bytes: number): WindowLoss {
    return bytes > this.#limit ? 'too_large' : 'skipped';
  }

  // All functions made in one place keep alive what any of them uses. So these are made apart from `run`.

  #skipClosed(range: TimeRange, reason: WindowLoss) {
    return () => this.#lose(range, reason);
  }

  #skipRecomputed(start: number, reason: WindowLoss) {
    return () => {
      const range = this.#rangeOf(start);
      if (start < this.#expiry || !partsWithin(this.#covered, range).length) return;
      this.#drop((kept) => kept.start === start);
      this.#uncover(range, reason);
    };
  }

  #enqueue(told: Waiting): void {
    const { skip, bytes } = told;
    // One that never fits is no reason to skip others.
    const waiting = skip !== undefined && bytes > this.#limit ? { bytes: 0, run: skip } : told;
    this.#waiting.push(waiting);
    this.#waitingBytes += waiting.bytes;
    // After a start, the windows of an hour may close within seconds. The latest are the ones to keep.
    for (const [i, older] of this.#waiting.entries()) {
      const isAlone = older.bytes === this.#waitingBytes;
      if (isAlone || this.#waitingBytes <= WAITING * this.#limit) break;
      if (older.skip === undefined || older.bytes === 0) continue;
      this.#waiting[i] = { bytes: 0, run: older.skip };
      this.#waitingBytes -= older.bytes;
    }
    if (!this.isAskedLately) this.#takeBack();
    this.#fits();
    this.#work ??= this.#run().finally(() => {
      this.#work = undefined;
      this.#whenTaken?.();
    });
  }

  async #run(): Promise<void> {
    const turns = new Turns(this.#clock);
    // Whoever tells must not wait for it.
    await turns.next();
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      await next.run(turns);
      this.#waitingBytes -= next.bytes;
      if (turns.isOver) await turns.next();
    }
  }

  get #expiry(): number {
    return Math.max(this.#position, this.#boundary ?? Number.NEGATIVE_INFINITY) - RECENT_MS;
  }

  #rangeOf(start: number): TimeRange {
    return { from: start, to: this.#tiling?.endOf(start) ?? start };
  }

  #mark(doubt: Doubt, range: TimeRange): void {
    this.#doubts[doubt] = this.#limited(withRange(this.#doubts[doubt], range));
  }

  /** Without what is over an hour ago, and in not too many pieces. */
  #limited(ranges: Ranges): Ranges {
    const kept = ranges.filter(({ to }) => !(to <= this.#expiry));
    if (kept.length <= MAX_MARKS) return kept;
    return [{ from: kept[0]!.from, to: kept[1]!.to }, ...kept.slice(2)];
  }

  #cover(range: TimeRange): void {
    this.#covered = withRange(this.#covered, range);
    this.#advance(range.to);
  }

  #lose(range: TimeRange, reason: WindowLoss): void {
    this.#absences[reason] = withRange(this.#absences[reason], range);
    this.#advance(range.to);
  }

  #uncover(range: TimeRange, reason: WindowLoss): void {
    this.#covered = withoutRange(this.#covered, range);
    this.#absences[reason] = this.#limited(withRange(this.#absences[reason], range));
  }

  #advance(boundary: number): void {
    this.#boundary = boundary;
    const expired = { from: Number.NEGATIVE_INFINITY, to: this.#expiry };
    this.#drop(({ start }) => start < expired.to);
    this.#covered = withoutRange(this.#covered, expired);
    for (const sequences of [this.#reopened, this.#recomputed])
      for (const start of sequences.keys()) if (start < expired.to) sequences.delete(start);
    for (const doubt of DOUBTS) this.#doubts[doubt] = this.#limited(this.#doubts[doubt]);
    for (const absence of LOSSES) this.#absences[absence] = this.#limited(this.#absences[absence]);
  }

  #forget(range: TimeRange): void {
    this.#drop(({ start }) => start >= range.from && start < range.to);
    this.#covered = withoutRange(this.#covered, range);
    for (const absence of LOSSES) this.#absences[absence] = withoutRange(this.#absences[absence], range);
  }

  #drop(isMeant: (window: KeptWindow) => boolean): void {
    const kept = this.#windows.filter((window) => !isMeant(window));
    if (kept.length === this.#windows.length) return;
    this.#windows = kept;
    this.#windowBytes = kept.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Gives up the oldest window. Returns false if there is none. */
  #evict(): boolean {
    const [oldest, next] = this.#windows;
    if (oldest === undefined) return false;
    const gone = {
      from: this.#covered[0]?.from ?? oldest.start,
      to: next?.start ?? oldest.start + oldest.windowMs,
    };
    this.#drop((window) => window === oldest);
    this.#covered = withoutRange(this.#covered, gone);
    this.#absences.evicted = this.#limited(withRange(this.#absences.evicted, gone));
    return true;
  }

  /** Returns false if there is no room for it, even alone. */
  async #take(window: ClosedWindow, sketches: Sketches | undefined, turns: Turns): Promise<boolean> {
    const { size } = window;
    if (size * MIN_SERIES_BYTES > this.#limit) return false;
    const now = this.#clock.steady();
    const failed = this.#tooLarge;
    if (failed !== undefined && size >= failed.points && now - failed.at < TOO_LARGE_MS) return false;
    for (let attempt = 1; attempt <= 2; attempt++) {
      const chunks = await this.#chunksOf(window, sketches, turns);
      this.#takenBytes = 0;
      if (chunks !== undefined) {
        const { start, windowMs, instance } = window;
        const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes, WINDOW_BYTES);
        const serial = ++this.#taken;
        const kept = [...this.#windows, { serial, start, windowMs, instance, chunks, bytes }];
        this.#windows = kept.sort((a, b) => a.start - b.start);
        this.#windowBytes += bytes;
        return true;
      }
      // All others are gone by now, and only series that are in none of them may be in the way.
      this.#dictionary = new SeriesDictionary(this.#keys);
      this.#known.clear();
    }
    this.#tooLarge = { points: size, at: now };
    return false;
  }

  /** Returns undefined if there is no room. */
  async #chunksOf(
    window: ClosedWindow,
    sketches: Sketches | undefined,
    turns: Turns,
  ): Promise<Chunk[] | undefined> {
    if (this.#builders.length === 0)
      this.#builders = [COUNTER, GAUGE, TIMER].map((type) => new ChunkBuilder(type));
    const order = await this.#orderOf(window, turns);
    const dictionary = this.#dictionary;
    const chunks: Chunk[] = [];
    const keep = (chunk: Chunk | undefined) => {
      if (chunk === undefined) return;
      chunks.push(chunk);
      this.#takenBytes += chunk.bytes;
    };
    for (let at = 0, looked = 0; order !== undefined && at < window.size; ) {
      const number = order.numbers[at]!;
      const point = order.points[number]!;
      const type = dictionary.typeOf(number);
      const builder = this.#builders[type]!;
      builder.add(number, dictionary.nameOf(number), window.values, window.rows[point]!);
      if (type === TIMER) writeSketch(sketches, order.sketches[point]!, builder.sketches);
      dictionary.saw(number, window.start);
      const written = builder.sketches.size;
      if (builder.isFull) keep(builder.take());
      if (++at % STEP_POINTS > 0 && written - looked < STEP_BYTES) continue;
      looked = builder.sketches.size;
      if (!this.#fits()) break;
      if (turns.isOver) await turns.next();
    }
    for (const builder of this.#builders) keep(builder.take());
    return order !== undefined && this.#fits() ? chunks : undefined;
  }

  /**
   * Returns the numbers of the series by name, and by number which point it is; undefined if there is no room for them.
   */
  async #orderOf(window: ClosedWindow, turns: Turns) {
    const { size, refs, records } = window;
    const dictionary = this.#dictionary;
    const found = new Int32Array(size);
    /** By point: which of the window's sketches it has, if it is a timer. */
    const sketches = new Int32Array(size);
    this.#known.begin(records);
    for (let i = 0, timers = 0; i < size; i++) {
      let number = this.#known.find(refs[i]!);
      if (number < 0) {
        number = dictionary.intern(records, refs[i]!);
        this.#known.add(refs[i]!, number);
      }
      found[i] = number;
      if (dictionary.typeOf(number) === TIMER) sketches[i] = timers++;
      if (i % STEP_POINTS > 0) continue;
      if (!this.#fits()) return undefined;
      if (turns.isOver) await turns.next();
    }
    const points = new Int32Array(dictionary.size).fill(NO_POINT);
    for (let i = 0; i < size; i++) points[found[i]!] = i;
    return { numbers: byName(dictionary, points, size), points, sketches };
  }

  /** Makes room at the cost of older windows. Returns false if that is not enough. */
  #fits(): boolean {
    if (this.bytes > this.#limit) this.#takeBack();
    while (this.bytes > this.#limit) if (!this.#evict()) return false;
    return true;
  }

  /** Such that the next windows will fit, in most cases, and without the series that no window has any longer. */
  async #makeRoom(turns: Turns): Promise<void> {
    const room = (1 - ROOM) * this.#limit;
    if (this.#keptBytes > room) this.#takeBack();
    for (;;) {
      const dead = this.#dead();
      const freed = (2 * this.#dictionary.bytes * dead) / Math.max(1, this.#dictionary.count);
      if (this.#keptBytes - freed <= room || !this.#evict()) break;
      if (turns.isOver) await turns.next();
    }
    if (this.#keptBytes > room || 2 * this.#dead() > this.#dictionary.count) await this.#renew(turns);
  }

  /** Series that appeared last before this are in no window. */
  get #oldestSecond(): number {
    return Math.floor((this.#windows[0]?.start ?? Number.POSITIVE_INFINITY) / 1000);
  }

  #dead(): number {
    const [dictionary, oldest] = [this.#dictionary, this.#oldestSecond];
    let dead = 0;
    for (let number = 0; number < dictionary.size; number++)
      if (dictionary.isAlive(number) && dictionary.lastSeen(number) < oldest) dead++;
    return dead;
  }

  async #renew(turns: Turns): Promise<void> {
    const [old, oldest] = [this.#dictionary, this.#oldestSecond];
    const made = new SeriesDictionary(this.#keys);
    for (let number = 0; number < old.size; number++) {
      if (old.lastSeen(number) >= oldest) made.adopt(old, number);
      if (number % STEP_POINTS === 0 && turns.isOver) await turns.next();
    }
    made.settle();
    this.#dictionary = made;
    // Numbers of series that are gone will be those of others.
    this.#known.clear();
  }
}

/** Returns the numbers that have a point, by the number of their name, and ascending. */
function byName(dictionary: SeriesDictionary, points: Int32Array, size: number): Int32Array {
  const next = new Int32Array(dictionary.texts.names.length + 1);
  for (let number = 0; number < points.length; number++)
    if (points[number] !== NO_POINT) next[dictionary.nameOf(number) + 1]! += 1;
  for (let name = 1; name < next.length; name++) next[name]! += next[name - 1]!;
  const numbers = new Int32Array(size);
  for (let number = 0; number < points.length; number++)
    if (points[number] !== NO_POINT) numbers[next[dictionary.nameOf(number)]!++] = number;
  return numbers;
}

/** What a window takes while it waits, beside the texts of its series, of which there are no more for it. */
function bytesOf({ ownBytes }: ClosedWindow, sketches: Sketches | undefined): number {
  return ownBytes + (sketches?.bytes ?? 0);
}
