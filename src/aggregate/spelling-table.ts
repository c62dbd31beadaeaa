import { MAX_PROBES, MAX_SLOTS_PER_ENTRY, MOVED_SLOTS, slotsFor } from './keyed-hash.ts';
import type { Spelling } from './sample.ts';
import type { SpellingHash } from './spelling-hash.ts';

/** Longer spellings are parsed each time: keeping them would cost more memory than the series itself. */
export const MAX_SPELLING_BYTES = 4095;
/** Bits that hold such a length. */
const LENGTH_BITS = 12;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;

/** Words (4 bytes) of each entry: the series, and the type, the lengths of both texts and the two bits below. */
const HEADER_WORDS = 2;
const SERIES = 0;
const SHAPE = 1;
/** A word follows with the origin. */
const HAS_ORIGIN = 1 << 30;
/** A word follows that says which bytes are those of a model, at the beginning and at the end. The sign. */
const HAS_MODEL = 1 << 31;

/**
 * From so many entries on, those that are much like another one are kept as what differs. In a small table that would
 * save little, and it is quicker to compare with one text than with two.
 */
const MODELS_FROM = 1 << 14;
/** The most texts that others are kept beside. How many bytes are the same takes so many bits. */
const MODELS = 1 << 10;
const SAME_BITS = 11;
const MAX_SAME = (1 << SAME_BITS) - 1;
/** Less is not worth the word and the work. */
const MIN_SAME = 12;
/** Bytes of the dimensions that say, with the name, which other text it may be like. */
const LIKE_BYTES = 6;

const WORD_BYTES = 4;
/** Where most entries end that have a model: on the next cache line, perhaps. */
const USUAL_WORDS = 12;
const INITIAL_SLOTS = 1 << 10;
const INITIAL_WORDS = 1 << 14;
/** A slot holds an entry in at least so many bits, and in those above some of its hash: that tells most apart. */
const MIN_ENTRY_BITS = 24;

/**
 * The most memory that is reserved for entries, in bytes. The system gives it only as it is written to. If there are
 * more entries, all are copied to twice the memory.
 */
const MAX_RESERVED_BYTES = 256 * 1024 * 1024;

/** A spelling with room for its hash. */
export interface HashedSpelling extends Spelling {
  hash: number;
}

/** An entry's position in the table, or NO_ENTRY. */
export type Entry = number;
export const NO_ENTRY = 0;
const FREE = 0;

/** Open addressing: entries, by a hash of what they are. At most half of the slots are taken. */
interface Slots {
  /** An entry, and the highest bits of its hash; 0 if the slot is free. */
  readonly taken: Int32Array;
  readonly mask: number;
  /** The bits that are of the hash. */
  readonly tag: number;
  readonly hash: SpellingHash;
}

/** Text that is put together: a name, and dimensions right behind it. */
const SCRATCH = new Uint8Array(MAX_SPELLING_BYTES + WORD_BYTES);
const SCRATCH_VIEW = new DataView(SCRATCH.buffer);

/**
 * Texts that may become models. One does when the next one is like it. If none is, another one takes its place, so
 * texts of which each is unlike all others use up no model.
 */
class Candidates {
  /** Where its text begins and ends, in bytes. */
  readonly starts = new Int32Array(MODELS);
  readonly ends = new Int32Array(MODELS);
  /** Which model it is; 0 for none yet. Then it stays. */
  readonly models = new Int32Array(MODELS);

  set(candidate: number, start: number, end: number): void {
    if (this.models[candidate] !== 0) return;
    this.starts[candidate] = start;
    this.ends[candidate] = end;
  }
}

/**
 * A flat hash table from spellings to series numbers: a lookup touches one slot and one run of bytes, and creates no
 * object. The hash only finds candidates. An entry matches only if every byte does, so two series never merge.
 * Producers choose the spellings. So the hash has a secret key, and no lookup takes more than `MAX_PROBES` steps, or
 * twice as many while the table grows or takes another key.
 */
export class Spellings {
  #slots: Slots;
  #count = 0;
  /** While the table moves: where it moves from, and how far it has come. What has moved stays in there. */
  #old: Slots | undefined;
  #moved = 0;
  /** The entries, each aligned to a word. Word 0 is unused, so that no entry is at NO_ENTRY. */
  #words: Int32Array;
  #bytes: Uint8Array;
  #view: DataView;
  #used = 1;
  /** By number of a model: where its text begins and ends, in bytes. Number 0 is none. */
  readonly #modelStarts = new Int32Array(MODELS);
  readonly #modelEnds = new Int32Array(MODELS);
  #models = 1;
  readonly #candidates = new Candidates();
  /** Has no meaning. It uses what `prefetch` reads, so that the compiler does not drop the reads. */
  #touched = 0;

  /** `room`: how many entries find slots from the start; `reserve`: how many bytes, at most, they should take. */
  constructor(hash: SpellingHash, room = 0, reserve = 0) {
    this.#words = new Int32Array(
      Math.max(INITIAL_WORDS, Math.ceil(Math.min(reserve, MAX_RESERVED_BYTES) / 4)),
    );
    this.#bytes = new Uint8Array(this.#words.buffer);
    this.#view = new DataView(this.#words.buffer);
    this.#slots = newSlots(slotsFor(room, INITIAL_SLOTS), this.#words.length, hash);
  }

  /** Gives the memory back now, not when V8 collects garbage. Nothing may use the table afterwards. */
  free(): void {
    for (const { buffer } of [this.#words, this.#slots.taken]) (buffer as ArrayBuffer).transfer(0);
  }

  get hash(): SpellingHash {
    return this.#slots.hash;
  }

  get bytes(): number {
    return this.#used * 4;
  }

  /** Returns the hash for `find` and `prefetch`. It changes with the key; an old one finds nothing. */
  hashOf(spelling: Spelling): number {
    return this.#slots.hash.of(spelling);
  }

  /** Sets the hashes of the first `count`. */
  hashAll(spellings: readonly HashedSpelling[], count: number): void {
    const { hash } = this.#slots;
    for (let i = 0; i < count; i++) {
      const spelling = spellings[i]!;
      spelling.hash = hash.of(spelling);
    }
  }

  find(spelling: Spelling, hash = this.hashOf(spelling)): Entry {
    const { taken, mask, tag } = this.#slots;
    for (let step = 0, at = hash & mask; step < MAX_PROBES; step++, at = (at + 1) & mask) {
      const slot = taken[at]!;
      if (slot === FREE) break;
      if (((slot ^ hash) & tag) === 0 && this.#matches(slot & ~tag, spelling)) return slot & ~tag;
    }
    return this.#old === undefined ? NO_ENTRY : this.#findOld(this.#old, spelling);
  }

  #findOld({ taken, mask, tag, hash: keyed }: Slots, spelling: Spelling): Entry {
    const hash = keyed.of(spelling);
    for (let step = 0, at = hash & mask; step < MAX_PROBES; step++, at = (at + 1) & mask) {
      const slot = taken[at]!;
      if (slot === FREE) return NO_ENTRY;
      if (((slot ^ hash) & tag) === 0 && this.#matches(slot & ~tag, spelling)) return slot & ~tag;
    }
    return NO_ENTRY;
  }

  /** Returns how many slots `find` looks at. */
  stepsTo(spelling: Spelling): number {
    const found = this.find(spelling);
    const steps = stepsIn(this.#slots, spelling, found);
    if (this.#old === undefined || steps.isFound) return steps.count;
    return steps.count + stepsIn(this.#old, spelling, found).count;
  }

  /**
   * Reads what `find` will read, for many spellings at once, so that the waits for memory overlap. Writes the probable
   * series of each to `series`, -1 for none. Does not say whether the spellings are in the table.
   */
  prefetch(spellings: readonly { readonly hash: number }[], count: number, series: Int32Array): void {
    const { taken, mask, tag } = this.#slots;
    const words = this.#words;
    for (let i = 0; i < count; i++) series[i] = taken[spellings[i]!.hash & mask]! & ~tag;
    let touched = 0;
    for (let i = 0; i < count; i++) {
      const entry = series[i]!;
      touched ^= words[entry + USUAL_WORDS - 1]!;
      series[i] = entry === NO_ENTRY ? -1 : words[entry + SERIES]!;
    }
    this.#touched ^= touched;
  }

  seriesOf(entry: Entry): number {
    return this.#words[entry + SERIES]!;
  }

  /** Inserts a spelling, which must be new and at most `MAX_SPELLING_BYTES` long. */
  insert(spelling: Spelling, series: number): Entry {
    const { view, nameStart, nameLength, dimensionsStart, dimensionsLength } = spelling;
    for (let i = 0; i < nameLength; i++) SCRATCH[i] = view.getUint8(nameStart + i);
    for (let i = 0; i < dimensionsLength; i++) SCRATCH[nameLength + i] = view.getUint8(dimensionsStart + i);
    const entry = this.#write(series, shapeOf(spelling), spelling.origin);
    this.#link(entry, this.hashOf(spelling));
    return entry;
  }

  /** Copies an entry from another table. */
  insertFrom(other: Spellings, from: Entry): Entry {
    other.#readText(from);
    const shape = other.#words[from + SHAPE]! & ~HAS_MODEL;
    const entry = this.#write(other.#words[from + SERIES]!, shape, other.#originOf(from));
    this.#link(entry, this.#hashOfText(shape, other.#originOf(from)));
    return entry;
  }

  #matches(entry: Entry, spelling: Spelling): boolean {
    const words = this.#words;
    const { view, nameLength, dimensionsLength, origin } = spelling;
    if (nameLength + dimensionsLength > MAX_SPELLING_BYTES) return false;
    const shape = words[entry + SHAPE]!;
    if ((shape & ~HAS_MODEL) !== shapeOf(spelling)) return false;
    let word = entry + HEADER_WORDS;
    if (origin !== 0 && words[word++] !== origin) return false;
    if ((shape & HAS_MODEL) !== 0) return this.#matchesWithModel(word, spelling);
    const name = word * WORD_BYTES;
    return (
      this.#sameBytes(name + nameLength, view, spelling.dimensionsStart, dimensionsLength) &&
      this.#sameBytes(name, view, spelling.nameStart, nameLength)
    );
  }

  /** The name and the first bytes of the dimensions are those of the model, and so are the last ones. */
  #matchesWithModel(word: number, spelling: Spelling): boolean {
    const { view, nameStart, nameLength, dimensionsStart, dimensionsLength } = spelling;
    const same = this.#words[word]!;
    const model = same >>> (2 * SAME_BITS);
    const first = ((same >>> SAME_BITS) & MAX_SAME) - nameLength;
    const last = same & MAX_SAME;
    const start = this.#modelStarts[model]!;
    return (
      this.#sameBytes(
        (word + 1) * WORD_BYTES,
        view,
        dimensionsStart + first,
        dimensionsLength - first - last,
      ) &&
      this.#sameBytes(
        this.#modelEnds[model]! - last,
        view,
        dimensionsStart + dimensionsLength - last,
        last,
      ) &&
      this.#sameBytes(start + nameLength, view, dimensionsStart, first) &&
      this.#sameBytes(start, view, nameStart, nameLength)
    );
  }

  /** Whether the text from a byte on is the one from `start` on. The last four bytes may overlap those before. */
  #sameBytes(from: number, view: DataView, start: number, length: number): boolean {
    const kept = this.#view;
    if (length < WORD_BYTES) {
      for (let i = 0; i < length; i++) if (kept.getUint8(from + i) !== view.getUint8(start + i)) return false;
      return true;
    }
    const last = length - WORD_BYTES;
    let i = 0;
    // Two words at a time: each round of a loop costs as much as a word.
    for (; i + WORD_BYTES < last; i += 2 * WORD_BYTES) {
      const one = kept.getInt32(from + i, true) ^ view.getInt32(start + i, true);
      const two = kept.getInt32(from + i + WORD_BYTES, true) ^ view.getInt32(start + i + WORD_BYTES, true);
      if ((one | two) !== 0) return false;
    }
    if (i < last && kept.getInt32(from + i, true) !== view.getInt32(start + i, true)) return false;
    return kept.getInt32(from + last, true) === view.getInt32(start + last, true);
  }

  /** Writes an entry, the text of which is in `SCRATCH`. */
  #write(series: number, shape: number, origin: number): Entry {
    const length = nameLengthOf(shape) + dimensionsLengthOf(shape);
    const candidate = this.#count < MODELS_FROM ? -1 : candidateOf(shape);
    const same = candidate < 0 ? 0 : this.#sameAs(candidate, shape);
    const first = (same >>> SAME_BITS) & MAX_SAME;
    const until = length - (same & MAX_SAME);
    const text = HEADER_WORDS + (origin === 0 ? 0 : 1) + (same === 0 ? 0 : 1);
    const entry = this.#allocate(text + wordsFor(until - first));
    const words = this.#words;
    words[entry + SERIES] = series;
    words[entry + SHAPE] = same === 0 ? shape : shape | HAS_MODEL;
    if (origin !== 0) words[entry + HEADER_WORDS] = origin;
    if (same !== 0) words[entry + text - 1] = same;
    const start = (entry + text) * WORD_BYTES;
    for (let i = first; i < until; i++) this.#bytes[start + i - first] = SCRATCH[i]!;
    if (same === 0 && candidate >= 0) this.#candidates.set(candidate, start, start + length);
    return entry;
  }

  /** Returns how much the text in `SCRATCH` is like a model, as an entry says it; 0 if that is not worth it. */
  #sameAs(candidate: number, shape: number): number {
    const { starts, ends, models } = this.#candidates;
    const bytes = this.#bytes;
    const [start, end] = [starts[candidate]!, ends[candidate]!];
    const length = nameLengthOf(shape) + dimensionsLengthOf(shape);
    const most = Math.min(MAX_SAME, length, end - start);
    let first = 0;
    while (first < most && bytes[start + first] === SCRATCH[first]) first++;
    if (first < nameLengthOf(shape)) return 0;
    let last = 0;
    while (first + last < most && bytes[end - 1 - last] === SCRATCH[length - 1 - last]) last++;
    if (first + last < MIN_SAME) return 0;
    if (models[candidate] === 0) {
      if (this.#models === MODELS) return 0;
      models[candidate] = this.#models;
      this.#modelStarts[this.#models] = start;
      this.#modelEnds[this.#models] = end;
      this.#models += 1;
    }
    return (models[candidate]! << (2 * SAME_BITS)) | (first << SAME_BITS) | last;
  }

  #allocate(words: number): Entry {
    const entry = this.#used;
    this.#used += words;
    if (this.#used > this.#words.length) {
      // The memory of the shorter array is free at once.
      const length = Math.max(2 * this.#words.length, this.#used);
      const grown = (this.#words.buffer as ArrayBuffer).transfer(4 * length);
      this.#words = new Int32Array(grown);
      this.#bytes = new Uint8Array(grown);
      this.#view = new DataView(grown);
    }
    return entry;
  }

  /** An entry that finds no place is forgotten: messages with its spelling are parsed each time. */
  #link(entry: Entry, hash: number): void {
    this.#count++;
    if (tagFor(this.#words.length) !== this.#slots.tag) this.#widen();
    const size = this.#slots.mask + 1;
    const old = this.#old;
    if (old !== undefined) this.#moveOn(old, MOVED_SLOTS);
    else if (2 * this.#count > size) this.#moveTo(2 * size, this.#slots.hash);
    if (place(this.#slots, entry, hash)) return;
    if (old === undefined) this.#changeKey(entry);
  }

  /** By chance, in a table that is full, or because somebody found out the key: the entry finds no place under it. */
  #changeKey(added: Entry): void {
    const size = this.#slots.mask + 1;
    const hash = this.#slots.hash.rekeyed();
    this.#moveTo(size < MAX_SLOTS_PER_ENTRY * this.#count ? 2 * size : size, hash);
    this.#place(added);
  }

  /** Entries take more bits from now on. Happens once, perhaps, in the life of a table that is very large. */
  #widen(): void {
    if (this.#old !== undefined) this.#moveOn(this.#old, this.#old.mask + 1);
    this.#moveTo(this.#slots.mask + 1, this.#slots.hash);
  }

  #moveTo(size: number, hash: SpellingHash): void {
    this.#old = this.#slots;
    this.#slots = newSlots(size, this.#words.length, hash);
    this.#moved = 0;
  }

  #moveOn({ taken, mask, tag }: Slots, slots: number): void {
    const end = Math.min(this.#moved + slots, mask + 1);
    for (let i = this.#moved; i < end; i++) if (taken[i] !== FREE) this.#place(taken[i]! & ~tag);
    this.#moved = end;
    if (end <= mask) return;
    this.#old = undefined;
    (taken.buffer as ArrayBuffer).transfer(0);
  }

  #place(entry: Entry): void {
    this.#readText(entry);
    place(this.#slots, entry, this.#hashOfText(this.#words[entry + SHAPE]!, this.#originOf(entry)));
  }

  #originOf(entry: Entry): number {
    return (this.#words[entry + SHAPE]! & HAS_ORIGIN) === 0 ? 0 : this.#words[entry + HEADER_WORDS]!;
  }

  /** Returns the hash of the text in `SCRATCH`. */
  #hashOfText(shape: number, origin: number): number {
    const type = (shape & ~HAS_ORIGIN & ~HAS_MODEL) >>> (2 * LENGTH_BITS);
    const name = nameLengthOf(shape);
    return this.#slots.hash.ofText(SCRATCH_VIEW, type, name, dimensionsLengthOf(shape), origin);
  }

  /** Puts the text of an entry into `SCRATCH`. */
  #readText(entry: Entry): void {
    const bytes = this.#bytes;
    const shape = this.#words[entry + SHAPE]!;
    const length = nameLengthOf(shape) + dimensionsLengthOf(shape);
    let word = entry + HEADER_WORDS + ((shape & HAS_ORIGIN) === 0 ? 0 : 1);
    const same = (shape & HAS_MODEL) === 0 ? 0 : this.#words[word++]!;
    const model = same >>> (2 * SAME_BITS);
    const first = (same >>> SAME_BITS) & MAX_SAME;
    const until = length - (same & MAX_SAME);
    const start = this.#modelStarts[model]!;
    for (let i = 0; i < first; i++) SCRATCH[i] = bytes[start + i]!;
    const own = word * WORD_BYTES - first;
    for (let i = first; i < until; i++) SCRATCH[i] = bytes[own + i]!;
    const end = this.#modelEnds[model]! - length;
    for (let i = until; i < length; i++) SCRATCH[i] = bytes[end + i]!;
  }
}

function newSlots(size: number, words: number, hash: SpellingHash): Slots {
  return { taken: new Int32Array(size), mask: size - 1, tag: tagFor(words), hash };
}

/** Returns the bits of a slot that are of the hash, if entries are below this number of words. */
function tagFor(words: number): number {
  return -1 << Math.max(MIN_ENTRY_BITS, 32 - Math.clz32(words - 1));
}

/** Returns false if there is no free slot within `MAX_PROBES` steps. */
function place({ taken, mask, tag }: Slots, entry: Entry, hash: number): boolean {
  for (let step = 0, at = hash & mask; step < MAX_PROBES; step++, at = (at + 1) & mask) {
    if (taken[at] !== FREE) continue;
    taken[at] = (hash & tag) | entry;
    return true;
  }
  return false;
}

/** Looks for an entry as `find` does. */
function stepsIn(
  { taken, mask, tag, hash }: Slots,
  spelling: Spelling,
  entry: Entry,
): { count: number; isFound: boolean } {
  const from = hash.of(spelling);
  for (let step = 0; step < MAX_PROBES; step++) {
    const slot = taken[(from + step) & mask]!;
    const isFound = slot !== FREE && (slot & ~tag) === entry;
    if (isFound || slot === FREE) return { count: step + 1, isFound };
  }
  return { count: MAX_PROBES, isFound: false };
}

/** Returns which candidate a text in `SCRATCH` is compared with: texts that begin alike have the same. */
function candidateOf(shape: number): number {
  const length = nameLengthOf(shape) + Math.min(LIKE_BYTES, dimensionsLengthOf(shape));
  let hash = 0;
  for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + SCRATCH[i]!) | 0;
  return (hash ^ (hash >>> 10) ^ (hash >>> 20)) & (MODELS - 1);
}

function shapeOf({ type, nameLength, dimensionsLength, origin }: Spelling): number {
  const texts = (type << (2 * LENGTH_BITS)) | (nameLength << LENGTH_BITS) | dimensionsLength;
  return origin === 0 ? texts : texts | HAS_ORIGIN;
}

function nameLengthOf(shape: number): number {
  return (shape >>> LENGTH_BITS) & LENGTH_MASK;
}

function dimensionsLengthOf(shape: number): number {
  return shape & LENGTH_MASK;
}

function wordsFor(bytes: number): number {
  return (bytes + 3) >>> 2;
}
