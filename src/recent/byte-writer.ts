/** Bytes that are appended, and taken as an array of just their length. */
const FIRST_BYTES = 64;
/** More than this is given back with what was written: one window that was large is no reason to keep it. */
const MAX_KEPT_BYTES = 256 * 1024;

export class ByteWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  byte(value: number): void {
    if (this.#size === this.#bytes.length) this.#grow(1);
    this.#bytes[this.#size++] = value;
  }

  /** A whole number from 0 to 2^53, in 7 bits a byte, the lowest first (LEB128). */
  whole(value: number): void {
    let left = value;
    for (; left >= 0x80; left = Math.floor(left / 0x80)) this.byte((left % 0x80) | 0x80);
    this.byte(left);
  }

  append(other: ByteWriter): void {
    this.appendBytes(other.#bytes.subarray(0, other.#size));
  }

  appendBytes(bytes: Uint8Array): void {
    if (this.#size + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#size);
    this.#size += bytes.length;
  }

  clear(): void {
    this.#size = 0;
    if (this.#bytes.length > MAX_KEPT_BYTES) this.#bytes = new Uint8Array(FIRST_BYTES);
  }

  /** Returns what was written, and begins anew. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#size);
    this.clear();
    return taken;
  }

  #grow(more: number): void {
    const longer = new Uint8Array(Math.max(2 * this.#bytes.length, this.#size + more));
    longer.set(this.#bytes);
    this.#bytes = longer;
  }
}
