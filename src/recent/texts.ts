/** Names and dimensions as numbers: each text is kept once, however many series have it. */

/** What a text takes beside its characters, and a key with its own table of values. */
const TEXT_BYTES = 120;
const KEY_BYTES = 400;

const textBytes = (text: string) => TEXT_BYTES + 2 * text.length;

export class Texts {
  readonly names: string[] = [];
  readonly keys: string[] = [];
  /** By pair of a key and a value: the number of the key, and the value. */
  readonly keyOf: number[] = [];
  readonly values: string[] = [];
  readonly #names = new Map<string, number>();
  readonly #keys = new Map<string, number>();
  /** By key: its pairs by value. */
  readonly #pairs: Map<string, number>[] = [];
  #bytes = 0;

  /** The memory that they take, about. */
  get bytes(): number {
    return this.#bytes;
  }

  name(text: string): number {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    this.#names.set(text, this.names.length);
    this.#bytes += textBytes(text);
    return this.names.push(text) - 1;
  }

  pair(key: string, value: string): number {
    const number = this.#key(key);
    const pairs = this.#pairs[number]!;
    const known = pairs.get(value);
    if (known !== undefined) return known;
    pairs.set(value, this.values.length);
    this.#bytes += textBytes(value);
    this.keyOf.push(number);
    return this.values.push(value) - 1;
  }

  /** Returns the number of a key that some series has; -1 for any other. */
  keyNumber(key: string): number {
    return this.#keys.get(key) ?? -1;
  }

  #key(text: string): number {
    const known = this.#keys.get(text);
    if (known !== undefined) return known;
    this.#keys.set(text, this.keys.length);
    this.#pairs.push(new Map());
    this.#bytes += textBytes(text) + KEY_BYTES;
    return this.keys.push(text) - 1;
  }
}
