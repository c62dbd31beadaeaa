import type { Envelope } from './message.ts';

/** Subjects are kept in sets, of which each takes those of some hashes. Powers of two. */
const SETS = 256;
const WAYS = 4;
/** In bytes. Longer ones are decoded each time. */
const MAX_KEPT_LENGTH = 128;
const WORD = 4;
/** FNV's, of 32 bits. Words are read in one byte order: only equality matters. */
const PRIME = 0x01000193;

/** Of all subjects that this process has kept. */
let lastNumber = 0;

/**
 * The subject of a frame, which has no headers. One object is used again and again, with the subjects that it decoded
 * lately: decoding one takes longer than all else that is done for a message.
 */
export class FrameSubject implements Envelope {
  readonly encoding = undefined;
  readonly contentType = undefined;
  #bytes: Uint8Array = new Uint8Array(0);
  #viewed = this.#bytes;
  #view = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = 0;
  #kept: KeptSubjects | undefined;

  isAt(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  startsWith(prefix: Uint8Array): boolean {
    if (this.#end - this.#start < prefix.length) return false;
    for (let i = 0; i < prefix.length; i++) if (this.#bytes[this.#start + i] !== prefix[i]) return false;
    return true;
  }

  get subject(): string {
    const place = this.#place();
    return place < 0 ? decoded(this.#bytes, this.#start, this.#end) : this.#kept!.texts[place]!;
  }

  get subjectNumber(): number | undefined {
    const place = this.#place();
    return place < 0 ? undefined : this.#kept!.numbers[place];
  }

  /** Where the subject is kept; -1 if it is too long. */
  #place(): number {
    const length = this.#end - this.#start;
    if (length > MAX_KEPT_LENGTH) return -1;
    // Not the buffers themselves: asking for them is slow.
    if (this.#viewed !== this.#bytes) {
      this.#viewed = this.#bytes;
      this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    }
    this.#kept ??= new KeptSubjects();
    const found = this.#kept.find(this.#view, this.#start, length);
    return found < 0 ? this.#kept.keep(this.#bytes, this.#start, this.#end) : found;
  }
}

class KeptSubjects {
  readonly texts = new Array<string>(SETS * WAYS).fill('');
  /** See `MessageLabel`. */
  readonly numbers = new Float64Array(SETS * WAYS);
  /** 0: nothing is kept there. */
  readonly #lengths = new Uint8Array(SETS * WAYS);
  readonly #bytes = new Uint8Array(SETS * WAYS * MAX_KEPT_LENGTH);
  readonly #view = new DataView(this.#bytes.buffer);
  /** By set: which one is forgotten next. */
  readonly #next = new Uint8Array(SETS);
  /** Where the last one was looked for. */
  #set = 0;

  /** Returns the place; -1 if it is not kept. */
  find(view: DataView, start: number, length: number): number {
    this.#set = hash(view, start, length) & (SETS - 1);
    const first = this.#set * WAYS;
    for (let place = first; place < first + WAYS; place++) {
      if (this.#lengths[place] === length && this.#isAt(place, view, start, length)) return place;
    }
    return -1;
  }

  #isAt(place: number, view: DataView, start: number, length: number): boolean {
    const kept = this.#view;
    const at = place * MAX_KEPT_LENGTH;
    if (length < WORD) {
      for (let i = 0; i < length; i++) if (kept.getUint8(at + i) !== view.getUint8(start + i)) return false;
      return true;
    }
    // The last word overlaps the one before.
    const last = length - WORD;
    for (let i = 0; i < last; i += WORD)
      if (kept.getInt32(at + i, true) !== view.getInt32(start + i, true)) return false;
    return kept.getInt32(at + last, true) === view.getInt32(start + last, true);
  }

  /** Decodes and keeps what was not found just now. Returns its place. */
  keep(bytes: Uint8Array, start: number, end: number): number {
    const set = this.#set;
    const way = this.#next[set]!;
    this.#next[set] = (way + 1) & (WAYS - 1);
    const place = set * WAYS + way;
    const text = decoded(bytes, start, end);
    this.#bytes.set(bytes.subarray(start, end), place * MAX_KEPT_LENGTH);
    this.#lengths[place] = end - start;
    this.texts[place] = text;
    this.numbers[place] = ++lastNumber;
    return place;
  }
}

function decoded(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString();
}

function hash(view: DataView, start: number, length: number): number {
  let sum = length;
  if (length < WORD) {
    for (let i = 0; i < length; i++) sum = Math.imul(sum ^ view.getUint8(start + i), PRIME);
    return sum;
  }
  const last = length - WORD;
  for (let i = 0; i < last; i += WORD) sum = Math.imul(sum ^ view.getInt32(start + i, true), PRIME);
  sum = Math.imul(sum ^ view.getInt32(start + last, true), PRIME);
  // The low bits of a product know only the low bits of its factors.
  return sum ^ (sum >>> 11) ^ (sum >>> 22);
}
