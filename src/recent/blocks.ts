/**
 * The blocks that are kept for questions: made between questions, of windows that were asked about twice lately, in
 * memory that RECENT_BYTES has to spare.
 */
import { BlockMaker } from './block.ts';
import type { Chunk } from './columns.ts';
import { LATELY_MS } from './question.ts';
import type { KeptWindow, RecentView } from './recent-windows.ts';

/** Windows of a block: more make fewer blocks, and more windows at the ends of a question that are in none. */
const BLOCK_WINDOWS = 8;
/** A block of fewer is not worth it. */
const MIN_WINDOWS = 3;
/** So many questions lately about windows are worth a block of them. */
const MIN_QUESTIONS = 2;

/** A window, or a block in place of several. */
export interface Part {
  readonly chunks: readonly Chunk[];
}

interface Block extends Part {
  /** Of its windows. */
  readonly serials: readonly number[];
  readonly bytes: number;
}

/** The windows that start within the time of one block. */
interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly windows: readonly KeptWindow[];
}

export class KeptBlocks {
  readonly #blocks = new Map<number, Block>();
  /** By start of a stretch: when it was asked about, and how often. */
  readonly #asked = new Map<number, { readonly at: number; readonly times: number }>();
  /** While one is made, what that takes. */
  #reserved = 0;
  /** How often all was given up. */
  #givenUp = 0;

  get bytes(): number {
    let bytes = this.#reserved;
    for (const block of this.#blocks.values()) bytes += block.bytes;
    return bytes;
  }

  clear(): void {
    this.#blocks.clear();
    this.#reserved = 0;
    this.#givenUp += 1;
  }

  /** Returns what a question about the windows has to read. */
  partsOf(windows: readonly KeptWindow[], now: number): readonly Part[] {
    const parts: Part[] = [];
    for (const { start, windows: own } of stretchesOf(windows)) {
      const before = this.#asked.get(start);
      const times = before !== undefined && now - before.at < LATELY_MS ? before.times + 1 : 1;
      this.#asked.set(start, { at: now, times });
      const block = this.#blocks.get(start);
      if (block !== undefined && isOf(block, own)) parts.push(block);
      else parts.push(...own);
    }
    return parts;
  }

  /**
   * Makes the blocks that are worth it, the latest first. `reserve` says whether there is room for what `bytes` says.
   */
  async prepare(
    { windows, dictionary }: RecentView,
    {
      now,
      pause,
      reserve,
    }: { readonly now: () => number; readonly pause: () => Promise<void>; reserve(): boolean },
  ): Promise<void> {
    const stretches = stretchesOf(windows);
    this.#forget(stretches, now());
    for (const stretch of stretches.toReversed()) {
      const known = this.#blocks.get(stretch.start);
      if (known !== undefined && isOf(known, stretch.windows)) continue;
      this.#blocks.delete(stretch.start);
      if (!isWorth(stretch, stretches) || (this.#asked.get(stretch.start)?.times ?? 0) < MIN_QUESTIONS)
        continue;
      const maker = new BlockMaker(stretch.windows, dictionary);
      this.#reserved = maker.bytes;
      const isRoom = reserve();
      if (!isRoom) {
        this.#reserved = 0;
        return;
      }
      const givenUp = this.#givenUp;
      const chunks = await maker.make(async () => {
        await pause();
        return this.#givenUp === givenUp;
      });
      if (chunks === undefined) return;
      this.#reserved = 0;
      const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes, 0);
      const serials = stretch.windows.map(({ serial }) => serial);
      this.#blocks.set(stretch.start, { serials, chunks, bytes });
    }
  }

  /** What was not asked about lately, or has no windows any more. */
  #forget(stretches: readonly Stretch[], now: number): void {
    const starts = new Set(stretches.map(({ start }) => start));
    for (const [start, { at }] of this.#asked) {
      if (now - at < LATELY_MS && starts.has(start)) continue;
      this.#asked.delete(start);
      this.#blocks.delete(start);
    }
    for (const start of this.#blocks.keys()) if (!starts.has(start)) this.#blocks.delete(start);
  }
}

/** `windows`: ascending by start. */
function stretchesOf(windows: readonly KeptWindow[]): Stretch[] {
  const stretches: { start: number; end: number; windows: KeptWindow[] }[] = [];
  for (const window of windows) {
    const last = stretches.at(-1);
    if (last !== undefined && window.start < last.end) {
      last.windows.push(window);
      continue;
    }
    const length = BLOCK_WINDOWS * window.windowMs;
    const start = Math.floor(window.start / length) * length;
    stretches.push({ start, end: start + length, windows: [window] });
  }
  return stretches;
}

/** The first one may lose its windows one by one. The last one gets others, and is made again each time. */
function isWorth(stretch: Stretch, all: readonly Stretch[]): boolean {
  return stretch !== all[0] && stretch.windows.length >= MIN_WINDOWS;
}

function isOf({ serials }: Block, windows: readonly KeptWindow[]): boolean {
  return serials.length === windows.length && windows.every(({ serial }, i) => serial === serials[i]);
}
