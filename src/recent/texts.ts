/** Names and dimensions as numbers: each text is kept once, however many series have it. */

/** What a text takes beside its characters, and a key with its own table of values. */
const TEXT_BYTES = 120;
const KEY_BYTES = 400;

const textBytes = (text: string) => TEXT_BYTES + 2 * text.length;

export class Texts {
  /** By number. A number that no name has: "". */
  readonly names: string[] = [];
  readonly keys: string[] = [];
  /** By pair of a key and a value: the number of the key, and the value. */
  readonly keyOf: number[] = [];
  readonly values: string[] = [];
  readonly #names = new Map<string, number>();
  #freeNames: number[] = [];
  readonly #keys = new Map<string, number>();
  /** By key: its pairs by value. */
  readonly #pairs: Map<string, number>[] = [];
  #bytes = 0;

  /** The memory that they take, about. */
  get bytes(): number {
    return this.#bytes;
  }

  name(text: string): number {
    return this.#names.get(text) ?? this.#add(text, this.#freeNames.pop() ?? this.names.length);
  }

  /** Takes a name under the number that other texts gave it: chunks know names by number. Afterwards, `settle`. */
  adoptName(text: string, number: number): void {
    if (!this.#names.has(text)) this.#add(text, number);
  }

  /** Numbers in between that were not taken are free. */
  settle(): void {
    this.#freeNames = [...this.names.keys()].filter(
      (number) => this.#names.get(this.names[number]!) !== number,
    );
  }

  #add(text: string, number: number): number {
    while (this.names.length <= number) this.names.push('');
    this.names[number] = text;
    this.#names.set(text, number);
    this.#bytes += textBytes(text);
    return number;
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
