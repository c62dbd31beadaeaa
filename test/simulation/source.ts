/**
 * A source that behaves like src/bus/read/jetstream.ts and src/bus/read/pull.ts, over a network with delays. It has two
 * outstanding requests, so up to two batches still reach a reader that asked it to wait; a probe that shows when
 * everything has been read; and a new consumer after the last message whenever the old one is lost.
 */
import { BusError } from '../../src/bus/bus-error.ts';
import { ServerClock } from '../../src/bus/read/server-clock.ts';
import { newSourceStats, type Reader, type Source, type SourceStats } from '../../src/bus/read/source.ts';
import type { Mark, Trail } from '../../src/bus/read/trail.ts';
import type { Instance } from './instance.ts';
import { SimPull } from './pull.ts';
import { handOver, type SimMessage } from './stream.ts';
import type { World } from './world.ts';

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;
const CLOCK_REFRESH_MS = 15_000;
/** The same as in src/bus/read/rollback-watch.ts. */
const COMPARE_MS = 15_000;

export class SimSource implements Source {
  readonly stats: SourceStats = newSourceStats();
  /** What a decoder must make of the messages that were handed over (I8). */
  readonly handed = { messages: 0, samples: 0, rejectedMessages: 0, rejectedSamples: 0 };
  /** The next sequence: everything before it was handed over, or will never be. */
  next = 0;
  /** Virtual time at which the server's clock was last read. */
  clockReadAt = Number.NEGATIVE_INFINITY;
  /** When it last read a stream time ahead of the server's clock: the clock was set back in the meantime. */
  readAheadAt = Number.NEGATIVE_INFINITY;
  /** Number of messages in each gap that its reader reported to the engine. */
  readonly toldGaps: number[] = [];
  readonly #world: World;
  readonly #instance: Instance;
  readonly #startTime: number;
  readonly #closedThrough: number | undefined;
  /** It only checks windows that are already in the stores: what it misses is not lost. */
  readonly #isAside: boolean;
  readonly #clock = new ServerClock();
  #refreshedAt = Number.NEGATIVE_INFINITY;
  #end = { sequence: 0, at: 0 };
  #isAttached = false;
  #reported = 0;
  #held: Promise<void> | undefined;
  readonly #trail: Trail | undefined;
  readonly #isLive: boolean;
  #pull: SimPull | undefined;
  #comparedAt = Number.NaN;
  #lastMark: Mark | undefined;

  /** Reads from the first message with this stream time or a later one, and everything after `closedThrough`. */
  constructor(
    world: World,
    instance: Instance,
    startTime: number,
    closedThrough: number | undefined,
    {
      isAside = false,
      isLive = false,
      trail,
    }: { isAside?: boolean; isLive?: boolean; trail: Trail | undefined },
  ) {
    this.#isAside = isAside;
    this.#isLive = isLive;
    this.#trail = trail;
    this.#world = world;
    this.#instance = instance;
    this.#startTime = startTime;
    this.#closedThrough = closedThrough;
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    const { clock, connection } = this.#instance;
    for (let attempt = 0; !signal.aborted; attempt++) {
      if (attempt > 0) {
        const ms = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(attempt, 10));
        await clock.sleep(ms * (0.5 + clock.random() / 2), signal);
      }
      await connection.whenConnected(signal, (aborting, call) => this.#instance.onAbort(aborting, call));
      if (signal.aborted) return;
      if (!(await this.#attach(reader))) continue;
      if (signal.aborted || this.stats.rolledBack) return;
      const before = this.#reported;
      const end = await this.#read(reader, signal);
      if (end === 'stopped' || this.stats.rolledBack) return;
      if (this.#reported > before) attempt = -1;
      this.stats.reading = false;
      this.stats.resumptions += 1;
    }
  }

  async #attach(reader: Reader): Promise<boolean> {
    const { chance, scenario, stream, timeline } = this.#world;
    const instance = this.#instance;
    const before = instance.clock.now();
    await instance.pause(chance.int(1, 3 * scenario.latencyMs));
    const faulty = scenario.attachFailures > 0 && timeline.now < scenario.calmAt;
    if (!instance.connection.connected || (faulty && chance.bool(1 / scenario.attachFailures))) {
      // An operator has to know about a fault that does not pass by itself. A replay may end like this at any time.
      const mayPass = this.#isAttached && this === instance.sources[0];
      if (mayPass || !faulty || chance.bool(0.7)) return false;
      throw new BusError('cannot read the stream', '');
    }
    const stamp = this.#stamp();
    this.stats.rolledBack = this.#isParted();
    await instance.pause(chance.int(1, scenario.latencyMs));
    if (this.stats.rolledBack) return true;
    this.#clock.stamped(stamp, before, instance.clock.now());
    const first = Math.min(stream.firstAt(this.#startTime), (this.#closedThrough ?? Infinity) + 1);
    const wanted = this.next > 0 ? this.next : first;
    const held = stream.firstSequence(timeline.now);
    this.#world.trace.add('attach', `${instance.name} at ${wanted} of ${held}`);
    this.#isAttached = true;
    this.stats.reading = true;
    this.next = wanted;
    this.stats.readThrough = Math.min(Math.max(wanted, held) - 1, stream.lastSequence(timeline.now));
    if (held > wanted) this.#gap(reader, held, this.#world.serverNow());
    return true;
  }

  async #read(reader: Reader, signal: AbortSignal): Promise<'stopped' | 'lost'> {
    // By contract, progress is not called again before the promise that it returned has resolved.
    const held = this.#held;
    this.#comparedAt = this.#instance.clock.now();
    const pull = new SimPull(this.#world, this.#instance, this.next, held, {
      message: (message) => this.#message(reader, message),
      progress: () => this.#progress(reader),
      paused: () => this.#paused(),
      idle: (askedAt, last) => this.#idle(reader, askedAt, last),
    });
    this.#pull = pull;
    return await pull.run(signal);
  }

  /** Whether the newest message that is known to have been read is no longer there. */
  #isParted(): boolean {
    if (this.#trail === undefined) return false;
    const { lastSequence: sequence, lastStreamTime: time } = this.stats;
    const own = sequence > 0 ? [{ sequence, time }] : [];
    const marks = [...this.#trail.marks, ...own].sort((a, b) => b.sequence - a.sequence);
    if (marks[0] !== undefined && this.#world.isOther(marks[0])) {
      for (const mark of own) this.#trail.pin(mark);
      return true;
    }
    const { stream, timeline } = this.#world;
    const last = stream.lastSequence(timeline.now);
    if (this.#isLive && last >= stream.firstSequence(timeline.now))
      this.#trail.pin({ sequence: last, time: stream.at(last).streamTime });
    return false;
  }

  async #compare(): Promise<void> {
    const { clock, connection } = this.#instance;
    if (!this.#isLive || this.#trail === undefined || clock.now() - this.#comparedAt < COMPARE_MS) return;
    this.#comparedAt = clock.now();
    const { pinned } = this.#trail;
    const marks = [...pinned, ...(this.#lastMark === undefined ? [] : [this.#lastMark])];
    await this.#instance.pause(this.#world.chance.int(1, this.#world.scenario.latencyMs));
    const others = marks.filter((mark) => this.#world.isOther(mark));
    await this.#instance.pause(this.#world.chance.int(1, this.#world.scenario.latencyMs));
    if (!connection.connected) return;
    this.#trail.unpin(pinned.filter((mark) => !others.includes(mark)));
    for (const mark of others) if (!pinned.includes(mark)) this.#trail.pin(mark);
    if (others.length === 0) return;
    this.stats.rolledBack = true;
    this.#pull?.stop();
  }

  #note(): void {
    const { lastSequence: sequence, lastStreamTime: time } = this.stats;
    if (!this.#isLive || this.#trail === undefined || this.#lastMark?.sequence === sequence) return;
    this.#lastMark = { sequence, time };
    this.#trail.note(this.#lastMark);
  }

  #paused(): void {
    const { lastSequence: sequence, lastStreamTime: time } = this.stats;
    if (this.#isLive && sequence > 0) this.#trail?.pin({ sequence, time });
  }

  #message(reader: Reader, message: SimMessage): void {
    const { sequence } = message;
    if (message.streamTime < this.stats.lastStreamTime && this.#isLive)
      this.#trail?.wentBack({ sequence, time: message.streamTime });
    if (sequence > this.next) this.#gap(reader, sequence, message.streamTime);
    this.next = sequence + 1;
    this.stats.lastSequence = sequence;
    this.stats.lastStreamTime = message.streamTime;
    this.handed.messages += 1;
    this.handed.samples += message.samples;
    this.handed.rejectedMessages += message.rejectedMessages;
    this.handed.rejectedSamples += message.rejectedSamples;
    handOver(message, reader, message.streamTime, sequence);
  }

  #progress(reader: Reader): Promise<void> | undefined {
    this.stats.readThrough = this.stats.lastSequence;
    this.#clock.arrived(this.stats.lastStreamTime, this.#instance.clock.now());
    if (this.stats.lastStreamTime > this.#world.serverNow()) this.readAheadAt = this.#world.timeline.now;
    this.#reported = Math.max(this.#reported, this.stats.lastStreamTime);
    this.#note();
    void this.#compare();
    return this.#hold(reader.progress(this.#reported));
  }

  #idle(reader: Reader, askedAt: number, last: number): Promise<void> | undefined {
    // Messages that retention removed unread are reported with the next message: the windows close without them.
    if (last >= this.next && !this.#isAside) this.#world.invariants.lost(this.next, last + 1);
    if (this.#end.at <= askedAt)
      this.stats.readThrough = Math.max(this.stats.readThrough, this.#end.sequence);
    void this.#refresh();
    void this.#compare();
    const serverTime = this.#clock.at(askedAt);
    const { idleSlackMs } = this.#world.scenario;
    if (serverTime === undefined || serverTime - idleSlackMs <= this.#reported) return undefined;
    this.#reported = serverTime - idleSlackMs;
    return this.#hold(reader.progress(this.#reported));
  }

  /**
   * From time to time, reads the end of the stream and the server's clock. The source has the server stamp something.
   */
  async #refresh(): Promise<void> {
    const { clock } = this.#instance;
    if (clock.now() - this.#refreshedAt < CLOCK_REFRESH_MS) return;
    this.#refreshedAt = clock.now();
    const before = clock.now();
    await this.#instance.pause(this.#world.chance.int(1, this.#world.scenario.latencyMs));
    const stamp = this.#stamp();
    const sequence = this.#world.stream.lastSequence(this.#world.timeline.now);
    await this.#instance.pause(this.#world.chance.int(1, this.#world.scenario.latencyMs));
    this.#clock.stamped(stamp, before, clock.now());
    this.#end = { sequence, at: clock.now() };
  }

  #stamp(): number {
    this.clockReadAt = this.#world.timeline.now;
    return this.#world.serverNow();
  }

  #hold(promise: void | Promise<void>): Promise<void> | undefined {
    if (promise === undefined) return undefined;
    const held: Promise<void> = promise.then(() => {
      if (this.#held === held) this.#held = undefined;
    });
    this.#held = held;
    return held;
  }

  #gap(reader: Reader, next: number, toTime: number): void {
    const messages = next - this.next;
    this.#world.trace.add('gap', `${this.#instance.name} ${this.next} to ${next}`);
    if (!this.#isAside) this.#world.invariants.lost(this.next, next);
    this.stats.gaps += 1;
    this.stats.gapMessages += messages;
    this.next = next;
    const { gaps } = this.#instance.engine!;
    const before = gaps.times;
    reader.gap?.({ fromTime: this.stats.lastStreamTime, toTime, messages });
    // What a verification misses is not lost: only gaps of the live path must be reported.
    const isTold = gaps.times > before;
    if (isTold) this.toldGaps.push(messages);
    if (isTold || this === this.#instance.sources[0])
      this.#world.invariants.gapTold(this.#instance, next - messages, next);
  }
}
