import { type MessageLabel, type RawMessage, wholeMessage } from '../decode/raw-message.ts';

/**
 * Small messages are copied into blocks of this size, so that they share a buffer, as they do when they arrive. One
 * that is longer than a quarter has its own, so that little of a block stays empty.
 */
const BLOCK_BYTES = 64 * 1024;
/** What a message takes beside its bytes. */
const MESSAGE_BYTES = 128;

export interface WaitingMessage {
  /** Of the same shape as all others: decoders that meet several take longer. */
  readonly message: RawMessage;
  readonly encoding: string | undefined;
  readonly label: MessageLabel | undefined;
}

interface Link extends WaitingMessage {
  next: Link | undefined;
}

/** Messages whose turn has not come, in their order, as copies. */
export class WaitingMessages {
  #first: Link | undefined;
  #last: Link | undefined;
  #count = 0;
  #bytes = 0;
  #block = new Uint8Array(0);
  #used = 0;

  get count(): number {
    return this.#count;
  }

  /** Memory that they take. */
  get bytes(): number {
    return this.#bytes;
  }

  add(
    { bytes, start, end, streamTime, sequence }: RawMessage,
    encoding: string | undefined,
    label: MessageLabel | undefined,
  ): void {
    const message = this.#copy(bytes.subarray(start, end));
    message.streamTime = streamTime;
    message.sequence = sequence;
    const link = { message, encoding, label, next: undefined };
    if (this.#last === undefined) this.#first = link;
    else this.#last.next = link;
    this.#last = link;
    this.#count += 1;
    this.#bytes += sizeOf(link.message);
  }

  take(): WaitingMessage | undefined {
    const first = this.#first;
    if (first === undefined) return undefined;
    this.#first = first.next;
    if (this.#first === undefined) this.clear();
    else {
      this.#count -= 1;
      this.#bytes -= sizeOf(first.message);
    }
    return first;
  }

  clear(): void {
    this.#first = undefined;
    this.#last = undefined;
    this.#count = 0;
    this.#bytes = 0;
    this.#block = new Uint8Array(0);
    this.#used = 0;
  }

  #copy(bytes: Uint8Array): RawMessage {
    const { length } = bytes;
    if (length >= BLOCK_BYTES / 4) return wholeMessage(new Uint8Array(bytes));
    if (this.#used + length > this.#block.length) {
      this.#block = new Uint8Array(BLOCK_BYTES);
      this.#used = 0;
    }
    const at = this.#used;
    this.#block.set(bytes, at);
    this.#used += length;
    const message = wholeMessage(this.#block);
    message.start = at;
    message.end = at + length;
    return message;
  }
}

/** What waiting takes of memory. */
export function sizeOf({ start, end }: RawMessage): number {
  return end - start + MESSAGE_BYTES;
}
