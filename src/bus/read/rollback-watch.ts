/**
 * Notices that the stream which a source reads was rolled back: it holds other messages, or none, in the place of some
 * that it handed out. A leader that is lost can do that, and a server that comes back with older files.
 */
import type { Bus } from '../connect.ts';
import { describeStream, type StreamConfigured, type StreamFacts } from '../stream.ts';
import type { KnownSubjects } from './known-subjects.ts';
import { compareMarks, isRolledBack } from './parting.ts';
import type { SourceStats } from './source.ts';
import { keyOfMark, type Mark, type Trail } from './trail.ts';

/** How often what was read is compared with the stream while the consumer lives: it may have outlived a rollback. */
const COMPARE_MS = 15_000;

export interface RollbackWatchOptions {
  readonly bus: Bus;
  readonly core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>;
  readonly trail: Trail;
  /** Whether this source notes what it reads. Others only compare when they attach. */
  readonly isLive: boolean;
  readonly now: () => number;
}

export class RollbackWatch {
  readonly #options: RollbackWatchOptions;
  #comparedAt: number;
  /** What was noted last. */
  #last: Mark | undefined;
  /** The last message of the stream that this one replaced. It stays in the stats until this one delivers something. */
  #foreign: Mark | undefined;

  constructor(options: RollbackWatchOptions) {
    this.#options = options;
    this.#comparedAt = options.now();
  }

  /** A message had an earlier stream time than the one before. */
  wentBack(mark: Mark): void {
    if (this.#options.isLive) this.#options.trail.wentBack(mark);
  }

  /** Notes what was read so far. */
  progress(stats: SourceStats): void {
    const read = this.#read(stats);
    if (!this.#options.isLive || read === undefined || this.#last?.sequence === read.sequence) return;
    this.#last = read;
    this.#options.trail.note(read);
  }

  /** Nothing arrives: perhaps the consumer waits for the stream to reach its position again. */
  paused(stats: SourceStats): void {
    const read = this.#read(stats);
    if (this.#options.isLive && read !== undefined) this.#options.trail.pin(read);
  }

  /** Resolves to whether the stream was rolled back, as far as a new consumer is concerned. */
  async attaches(facts: StreamFacts, stats: SourceStats): Promise<boolean> {
    const { bus, core, trail, isLive } = this.#options;
    if (facts.created !== trail.created) {
      if (isLive) this.#restart(facts.created, stats);
      return false;
    }
    const read = this.#read(stats);
    const own = read === undefined ? [] : [read];
    if (await isRolledBack(bus, core, facts, [...trail.marks, ...own])) {
      for (const mark of own) trail.pin(mark);
      return true;
    }
    // The new consumer may have nothing to read, and wait for the message after this one.
    if (isLive && facts.lastTime !== undefined)
      trail.pin({ sequence: facts.lastSequence, time: facts.lastTime });
    return false;
  }

  /**
   * The stream was found changed, and what was read of it after this sequence may have been judged wrongly. Returns
   * whether anything was, and has to be read again.
   */
  misread(after: number, stats: SourceStats): boolean {
    const read = this.#read(stats);
    if (!this.#options.isLive || read === undefined || read.sequence <= after) return false;
    this.#options.trail.misread(after, read);
    return true;
  }

  /** What was read so far was judged with this knowledge. */
  judgedBy(subjects: KnownSubjects): void {
    if (this.#options.isLive) this.#options.trail.subjects = subjects;
  }

  /** Whether it is time to compare. */
  isDue(): boolean {
    return this.#options.isLive && this.#options.now() - this.#comparedAt >= COMPARE_MS;
  }

  /** Resolves to whether the stream was rolled back since the last comparison. */
  async compare(): Promise<boolean> {
    const { bus, core, trail, now } = this.#options;
    this.#comparedAt = now();
    const { pinned } = trail;
    const marks = [...pinned, ...(this.#last === undefined ? [] : [this.#last])];
    const facts = await describeStream(bus, core);
    if (facts.created !== trail.created) return false;
    const held = await compareMarks(bus, core, facts, marks);
    const others = marks.filter((mark) => held.get(keyOfMark(mark)) === 'other');
    trail.unpin(pinned.filter((mark) => !others.includes(mark)));
    for (const mark of others) if (!pinned.includes(mark)) trail.pin(mark);
    return others.length > 0;
  }

  /** The last message of this stream that was read; undefined if there was none yet. */
  #read({ lastSequence: sequence, lastStreamTime: time }: SourceStats): Mark | undefined {
    const isForeign = this.#foreign?.sequence === sequence && this.#foreign.time === time;
    return sequence > 0 && !isForeign ? { sequence, time } : undefined;
  }

  #restart(created: string, { lastSequence: sequence, lastStreamTime: time }: SourceStats): void {
    this.#options.trail.restart(created);
    this.#last = undefined;
    this.#foreign = { sequence, time };
  }
}
