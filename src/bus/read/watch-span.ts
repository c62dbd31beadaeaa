/** One span of the watch on the bus: what was heard, and what of it the stream had. Pure. */
import { crc32 } from 'node:zlib';

const LENGTH_FACTOR = 2 ** 21;

/** How many digests of each kind a span keeps; from then on it is not conclusive. */
export const MAX_DIGESTS = 200_000;

/** A number for the bytes of a message. Two messages that share it by chance can only hide a loss, never feign one. */
export type MessageDigest = number;

export function digestOf(bytes: Uint8Array, start: number, end: number): MessageDigest {
  const message = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
  return crc32(message) * LENGTH_FACTOR + (message.length % LENGTH_FACTOR);
}

/**
 * Pairs each message heard with one read from the stream, in any order. What is left over in the end was not stored.
 * Messages of equal bytes cannot be told apart. One that is read without having been heard in this span may be paired
 * with another, so a loss among equal messages can be missed.
 */
export class WatchSpan {
  /** Messages heard in this span. */
  heard = 0;
  /** Messages read since this span began that nobody has heard, in this span or another. */
  read = 0;
  /** Nothing more is heard in it. */
  isOver = false;
  /** Set if the span can tell nothing, with the reason. */
  unknown: string | undefined;
  readonly #missing = new Map<MessageDigest, number>();
  readonly #surplus = new Map<MessageDigest, number>();

  hear(digest: MessageDigest): void {
    this.heard += 1;
    if (!this.takeSurplus(digest)) this.#add(this.#missing, digest);
  }

  keepSurplus(digest: MessageDigest): void {
    this.read += 1;
    this.#add(this.#surplus, digest);
  }

  /** Pairs a message that was read with one that was heard. Returns false if none is missing. */
  takeMissing(digest: MessageDigest): boolean {
    return takeOne(this.#missing, digest);
  }

  /** Pairs a message that was heard with one that was read. Returns false if there is none. */
  takeSurplus(digest: MessageDigest): boolean {
    const isTaken = takeOne(this.#surplus, digest);
    if (isTaken) this.read -= 1;
    return isTaken;
  }

  /** How many of the messages heard have not been read. */
  get missing(): number {
    let missing = 0;
    for (const count of this.#missing.values()) missing += count;
    return missing;
  }

  #add(counts: Map<MessageDigest, number>, digest: MessageDigest): void {
    if (counts.size >= MAX_DIGESTS && !counts.has(digest)) {
      this.unknown = 'more messages than the watch keeps';
      return;
    }
    counts.set(digest, (counts.get(digest) ?? 0) + 1);
  }
}

function takeOne(counts: Map<MessageDigest, number>, digest: MessageDigest): boolean {
  const count = counts.get(digest);
  if (count === undefined) return false;
  if (count === 1) counts.delete(digest);
  else counts.set(digest, count - 1);
  return true;
}

/** The messages of the spans that could tell. */
export interface WatchTotals {
  spans: number;
  /** Spans that could tell nothing. */
  unknownSpans: number;
  heard: number;
  unstored: number;
  /** For the error: sums over the spans of unstored², unstored x heard, and heard². */
  unstoredSquared: number;
  product: number;
  heardSquared: number;
}

export function newWatchTotals(): WatchTotals {
  return {
    spans: 0,
    unknownSpans: 0,
    heard: 0,
    unstored: 0,
    unstoredSquared: 0,
    product: 0,
    heardSquared: 0,
  };
}

export function addSpan(totals: WatchTotals, heard: number, unstored: number): void {
  totals.spans += 1;
  totals.heard += heard;
  totals.unstored += unstored;
  totals.unstoredSquared += unstored * unstored;
  totals.product += unstored * heard;
  totals.heardSquared += heard * heard;
}

/** 95 % of a normal distribution. */
const Z = 1.96;
/**
 * The same of Student's distribution, for a few spans (M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions",
 * 1964, 26.7.5).
 */
function studentT(freedom: number): number {
  const second = (Z ** 3 + Z) / 4;
  const third = (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / 96;
  return Z + second / freedom + third / freedom ** 2;
}

/** The rule of three: with none in n, the share is below 3/n with 95 % confidence. */
const RULE_OF_THREE = 3;

/**
 * The share of messages that were not stored, and its error at 95 %, both from 0 to 1. Losses come in bursts, so the
 * spans are the sample and not the messages: the ratio estimator of cluster sampling (W. G. Cochran, "Sampling
 * Techniques", 3rd ed., 1977, chapter 9A). A few spans may agree by chance, so the error is at least that of as many
 * messages drawn one by one. Returns undefined if nothing was heard.
 */
export function unstoredShare(totals: WatchTotals): { share: number; error: number } | undefined {
  const { spans, heard, unstored } = totals;
  if (heard === 0) return undefined;
  const share = unstored / heard;
  if (unstored === 0) return { share, error: Math.min(1, RULE_OF_THREE / heard) };
  if (spans === 1) return { share, error: 1 };
  const residuals = totals.unstoredSquared - 2 * share * totals.product + share * share * totals.heardSquared;
  const variance = ((spans / (spans - 1)) * Math.max(0, residuals)) / (heard * heard);
  const ofSpans = studentT(spans - 1) * Math.sqrt(variance);
  const ofMessages = Z * Math.sqrt((share * (1 - share)) / heard);
  return { share, error: Math.min(1, Math.max(ofSpans, ofMessages)) };
}
