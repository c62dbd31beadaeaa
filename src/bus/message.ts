/** Messages as they arrive from the bus. */

import type { MessageLabel } from '../decode/raw-message.ts';

/** What is known about a message in addition to its bytes. */
export interface Envelope extends MessageLabel {
  /** Whether the subject begins so, without decoding it; absent if it is decoded anyway. */
  startsWith?(prefix: Uint8Array): boolean;
  /** The header `Content-Encoding`, `DELETE_MARKER` or `SCHEDULE`; undefined if absent. The bytes are as sent. */
  readonly encoding?: string | undefined;
}

/** A message of plain NATS. */
export interface Incoming extends Envelope {
  readonly data: Uint8Array;
  /** Empty or undefined if nobody waits for an answer. */
  readonly reply?: string;
}
