/** Messages as they come from the bus. */

/** What is known of a message beside its bytes. */
export interface Envelope {
  /** Decoded when it is read. */
  readonly subject: string;
  /** What the header `Content-Encoding` says; undefined where it is absent. The bytes are as they were sent. */
  readonly encoding?: string | undefined;
}

/** A message of plain NATS. */
export interface Incoming extends Envelope {
  readonly data: Uint8Array;
  /** Empty or undefined: nobody waits for an answer. */
  readonly reply?: string;
}
