/** A message as it came, before anything is known of what is in it. */

/** Whoever hands messages over fills one object again for each, so it is good only until the call returns. */
export interface RawMessage {
  /** The message is the bytes from `start` to `end`. */
  bytes: Uint8Array;
  start: number;
  end: number;
  /** Milliseconds since 1970, whole, rounded down. */
  streamTime: number;
  /** Of the message in its stream; 0 in core mode. */
  sequence: number;
}

/** What the bus says of a message beside its bytes. Good only until the call returns, too. */
export interface MessageLabel {
  /** Decoded when accessed. */
  readonly subject: string;
  /** Quicker to get. Equal numbers mean equal subjects, for as long as the process lives; undefined if it has none. */
  readonly subjectNumber?: number | undefined;
  /** The header `Content-Type`. */
  readonly contentType?: string | undefined;
  /** The header `Nats-Incr`, of a message to a counter. */
  readonly increment?: string | undefined;
}

/** To be filled. */
export function newRawMessage(): RawMessage {
  return { bytes: new Uint8Array(0), start: 0, end: 0, streamTime: 0, sequence: 0 };
}

/** A message that is all of `bytes`. */
export function wholeMessage(bytes: Uint8Array, streamTime = 0, sequence = 0): RawMessage {
  return { bytes, start: 0, end: bytes.length, streamTime, sequence };
}
