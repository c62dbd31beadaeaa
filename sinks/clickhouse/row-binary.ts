/** ClickHouse's RowBinary: holds exact numbers and any text. The text formats round the last bit of some numbers. */

const FIRST_BYTES = 65_536;
const MAX_VARINT_BYTES = 5;
const NUMBER_BYTES = 8;
/** A UTF-16 code unit takes up to three bytes in UTF-8. */
const BYTES_PER_UNIT = 3;

export class RowBinaryWriter {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  int64(value: number): void {
    this.#reserve(NUMBER_BYTES);
    this.#length = this.#bytes.writeBigInt64LE(BigInt(value), this.#length);
  }

  float64(value: number): void {
    this.#reserve(NUMBER_BYTES);
    this.#length = this.#bytes.writeDoubleLE(value, this.#length);
  }

  nullableFloat64(value: number | null): void {
    this.#reserve(1);
    this.#length = this.#bytes.writeUInt8(value === null ? 1 : 0, this.#length);
    if (value !== null) this.float64(value);
  }

  nullableString(text: string | null): void {
    this.#reserve(1);
    this.#length = this.#bytes.writeUInt8(text === null ? 1 : 0, this.#length);
    if (text !== null) this.string(text);
  }

  string(text: string): void {
    this.size(Buffer.byteLength(text));
    this.#reserve(text.length * BYTES_PER_UNIT);
    this.#length += this.#bytes.write(text, this.#length, 'utf8');
  }

  /** Writes the size of an array, before its elements. */
  size(count: number): void {
    this.#reserve(MAX_VARINT_BYTES);
    let left = count;
    for (; left > 0x7f; left >>>= 7)
      this.#length = this.#bytes.writeUInt8((left & 0x7f) | 0x80, this.#length);
    this.#length = this.#bytes.writeUInt8(left, this.#length);
  }

  finish(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
