import type { Sample, Spelling } from '../aggregate/sample.ts';
import { type Origin, PLAIN } from './origin.ts';

export const NO_TYPE = -1;

const NO_BYTES: Uint8Array = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

/** A sample in a message, with the spelling by which the table finds its series. Decoders reuse these objects. */
export class DecodedSample implements Sample, Spelling {
  /** The whole buffer that holds the message; the message goes from `messageStart` to `messageEnd`. */
  bytes = NO_BYTES;
  view = NO_VIEW;
  messageStart = 0;
  messageEnd = 0;
  // They start as NaN, so that the engine always sees doubles here and never boxes them again.
  value = Number.NaN;
  eventTime = Number.NaN;
  streamTime = Number.NaN;
  sequence = Number.NaN;
  weight = Number.NaN;
  series = -1;
  type = NO_TYPE;
  nameStart = 0;
  nameLength = 0;
  dimensionsStart = 0;
  dimensionsLength = 0;
  origin = 0;
  /** What `origin` stands for. */
  source = PLAIN;
  /** Hash of the spelling, once all of it is known. */
  hash = 0;

  constructor() {
    this.weight = 1;
  }

  /** Turns to a message from there. */
  comesFrom(source: Origin): void {
    this.source = source;
    this.origin = source.number;
  }

  clear(): void {
    this.series = -1;
    this.type = NO_TYPE;
    this.value = Number.NaN;
    this.eventTime = Number.NaN;
    this.nameStart = 0;
    this.nameLength = 0;
    this.dimensionsStart = 0;
    this.dimensionsLength = 0;
  }
}
