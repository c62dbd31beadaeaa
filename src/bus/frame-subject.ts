import type { Envelope } from './message.ts';

/**
 * The subject of a frame, which has no headers. One object is used again and again, and the subject that it decoded
 * last: most messages have the same.
 */
export class FrameSubject implements Envelope {
  readonly encoding = undefined;
  readonly contentType = undefined;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #end = 0;
  #decoded = '';
  #decodedBytes: Uint8Array = new Uint8Array(0);

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
    const isSame =
      this.#end - this.#start === this.#decodedBytes.length && this.startsWith(this.#decodedBytes);
    if (isSame) return this.#decoded;
    this.#decodedBytes = new Uint8Array(this.#bytes.subarray(this.#start, this.#end));
    this.#decoded = Buffer.from(this.#decodedBytes).toString();
    return this.#decoded;
  }
}
