/**
 * The text of a series: its name, and its dimensions as canonical JSON. Most series differ from others in the values of
 * their dimensions alone, so a text may be kept as these values, beside a text from which it takes all the rest.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Texts with more are kept whole, and so are longer ones: looking at each byte would take too long. */
const MAX_VALUES = 64;
const MAX_BYTES = 1024;
/** A length takes so many bits of a byte. The bit above says that more follow. */
const LENGTH_BITS = 7;
const MORE = 1 << LENGTH_BITS;
const LENGTH_MASK = MORE - 1;

/** Where a text is in its bytes. */
export interface TextPlace {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly nameBytes: number;
  readonly end: number;
}

/** Where values begin and end, one after the other. */
interface Values {
  readonly places: Int32Array;
  size: number;
}

const newValues = (): Values => ({ places: new Int32Array(2 * MAX_VALUES), size: 0 });
/** Filled by each call again. */
const OWN = newValues();
const OTHER = newValues();

/** Returns a number that texts have in common which differ in the values alone; -1 if it cannot be kept as values. */
export function patternOf(text: TextPlace): number {
  const { bytes, end } = text;
  if (end - text.start > MAX_BYTES || !findValues(text, OWN)) return -1;
  let [hash, at] = [0, text.start];
  for (let i = 0; i <= OWN.size; i += 2) {
    const until = i < OWN.size ? OWN.places[i]! : end;
    for (; at < until; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
    if (i < OWN.size) at = OWN.places[i + 1]!;
  }
  return (hash ^ (hash >>> 15)) >>> 0;
}

/**
 * Writes the values of a text, each after its length. Returns how many bytes that takes; -1 if the text differs from
 * the other one in something else, or if they do not fit.
 */
export function writeValues(text: TextPlace, other: TextPlace, to: Uint8Array): number {
  if (!findValues(text, OWN) || !findValues(other, OTHER) || OWN.size !== OTHER.size) return -1;
  if (text.nameBytes !== other.nameBytes) return -1;
  const { bytes } = text;
  let [from, fromOther, written] = [text.start, other.start, 0];
  for (let i = 0; i <= OWN.size; i += 2) {
    const isLast = i === OWN.size;
    const until = isLast ? text.end : OWN.places[i]!;
    const length = until - from;
    if (length !== (isLast ? other.end : OTHER.places[i]!) - fromOther) return -1;
    for (let k = 0; k < length; k++) if (bytes[from + k] !== other.bytes[fromOther + k]) return -1;
    if (isLast) break;
    [from, fromOther] = [OWN.places[i + 1]!, OTHER.places[i + 1]!];
    let left = from - until;
    if (written + left + 4 > to.length) return -1;
    for (; left > LENGTH_MASK; left >>>= LENGTH_BITS) to[written++] = (left & LENGTH_MASK) | MORE;
    to[written++] = left;
    for (let k = until; k < from; k++) to[written++] = bytes[k]!;
  }
  return written;
}

/** Writes the text again that `values` were written of, from 0 on. It must fit. */
export function readValues(values: Uint8Array, at: number, other: TextPlace, to: Uint8Array): void {
  findValues(other, OTHER);
  const { bytes } = other;
  let [read, from, written] = [at, other.start, 0];
  for (let i = 0; i <= OTHER.size; i += 2) {
    const isLast = i === OTHER.size;
    const until = isLast ? other.end : OTHER.places[i]!;
    while (from < until) to[written++] = bytes[from++]!;
    if (isLast) return;
    from = OTHER.places[i + 1]!;
    let length = 0;
    for (let shift = 0; ; shift += LENGTH_BITS) {
      const byte = values[read++]!;
      length |= (byte & LENGTH_MASK) << shift;
      if (byte < MORE) break;
    }
    for (let k = 0; k < length; k++) to[written++] = values[read++]!;
  }
}

/** Returns false if there are too many, or the dimensions are no such JSON. */
function findValues({ bytes, start, nameBytes, end }: TextPlace, found: Values): boolean {
  found.size = 0;
  // Each round begins at `{` or `,`, and ends at `,` or `}`.
  let at = start + nameBytes;
  if (end - at === 2) return true;
  while (at < end - 1) {
    const key = endOfString(bytes, at + 2, end);
    const value = key + 3;
    if (bytes[at + 1] !== QUOTE || bytes[value - 1] !== QUOTE || found.size === 2 * MAX_VALUES) return false;
    at = endOfString(bytes, value, end);
    found.places[found.size++] = value;
    found.places[found.size++] = at;
    at++;
  }
  return at === end - 1;
}

function endOfString(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}
