/**
 * The JetStream source: delivers every message of the stream once and in order, whatever happens to the connection, the
 * consumer or the server. It keeps no state on the server: its consumer is ephemeral, in memory, without
 * acknowledgements, and is created again after the last message whenever it is lost.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumerInfo } from 'nats';
import { Quiet } from '../../base/log.ts';
import type { CoreConfig } from '../../config/core-settings.ts';
import type { RawMessage } from '../../decode/raw-message.ts';
import { StreamUnfit } from '../bus-error.ts';
import { misjudges, type SubjectFilter } from '../capture.ts';
import type { Bus } from '../connect.ts';
import { closedForGood, isTransient, jetstreamError } from '../errors.ts';
import { openBucket, readServerTime } from '../kv/bucket.ts';
import type { Envelope } from '../message.ts';
import {
  describeStream,
  ensureStream,
  holdsMs,
  REMAKE_WAIT_MS,
  refuseHistory,
  type StreamConfigured,
  type StreamFacts,
  streamExists,
} from '../stream.ts';
import { AnswerProof } from './answer-proof.ts';
import { type Answer, consequenceOf } from './answers.ts';
import { addConsumer, deleteConsumer } from './consumer.ts';
import { type ConsumerStart, NANOS_PER_MS, startAfter, startAt } from './consumer-start.ts';
import { type KnownSubjects, keepable, knownSubjects, takeCapture } from './known-subjects.ts';
import { MirrorLevel } from './mirror-level.ts';
import { Pull, type PullEnd, type RequestLimits, requestLimits } from './pull.ts';
import type { ReplySubject } from './reply-subject.ts';
import { RollbackWatch } from './rollback-watch.ts';
import { ServerClock, steadyNow } from './server-clock.ts';
import {
  type Gap,
  gapFields,
  newSourceStats,
  type Reader,
  type ReadFrom,
  type Source,
  type SourceStats,
} from './source.ts';
import { StrangeMessages } from './strange-messages.ts';
import { untilProven } from './stream-proof.ts';
import type { Trail } from './trail.ts';

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;
/** How often the server's clock is read while nothing arrives. */
const CLOCK_REFRESH_MS = 15_000;
const REPEAT_LOG_MS = 60_000;
/** How often the stream is looked at: somebody may change it. */
const LOOK_MS = 15_000;
/** How often a mirror is asked how far it is behind, while nothing arrives. It hears from its origin once a second. */
const MIRROR_ASK_MS = 1_000;
/** How long a mirror may be behind before it is told. */
const MIRROR_PATIENCE_MS = 30_000;

export interface JetStreamOptions {
  readonly start: ReadFrom;
  /** Returns milliseconds by a clock that is never set back; not necessarily the server's. */
  readonly now?: () => number;
  /** In [0, 1): spreads the retries. */
  readonly random?: () => number;
  /**
   * Leaves nothing on the bus except its consumer: creates no stream and no bucket, and has no entry of ours
   * timestamped.
   */
  readonly isPassive?: boolean;
  /**
   * What was read of the stream so far. With it, reading ends if the stream was rolled back (`SourceStats`); without,
   * it continues by time.
   */
  readonly trail?: Trail | undefined;
  /** Whether the source notes in the trail what it reads. One source does. */
  readonly isLive?: boolean | undefined;
}

/** By connection: when the stream was created that has yet to deliver a message. It outlives the sources. */
const unproven = new WeakMap<Bus, string>();

type Configured = StreamConfigured & Pick<CoreConfig, 'idleSlack'>;

export function createJetStreamSource(bus: Bus, core: Configured, options: JetStreamOptions): Source {
  return new JetStreamSource(bus, core, options);
}

class JetStreamSource implements Source {
  readonly stats: SourceStats = newSourceStats();
  readonly #bus: Bus;
  readonly #core: Configured;
  /** Moves on past what was reported as a gap, so that nothing is reported twice. */
  #start: ReadFrom;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #isPassive: boolean;
  readonly #clock = new ServerClock();
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  readonly #rollbacks: RollbackWatch | undefined;
  readonly #proof: AnswerProof;
  #clockReadAt = Number.NEGATIVE_INFINITY;
  /** The stream's last sequence, as of a time by the local clock. */
  #end = { sequence: 0, at: 0 };
  #isAttached = false;
  #replicas = 1;
  /** The stream copies others. */
  #isCopied = false;
  /** Present if the stream is a mirror. */
  #mirror: MirrorLevel | undefined;
  #mirrorAskedAt = Number.NEGATIVE_INFINITY;
  #attachedAt = 0;
  /** See `StreamFacts`. */
  #created = '';
  #consumer: { readonly name: string; readonly limits: RequestLimits } | undefined;
  #pull: Pull | undefined;
  /** The sequence that has to come next; 0 if unknown. */
  #next = 0;
  /** The nanoseconds below the millisecond of the last message's time, and how many messages were pending after it. */
  #lastSubMsNanos = 0;
  #lastPending = 0;
  /** The stream time last reported through `progress`. */
  #reported = 0;
  /** Says which messages count. Undefined before the first attachment. */
  #subjects: { readonly filter: SubjectFilter } | undefined;
  /** What it knew when the stream was last looked at. */
  #known: KnownSubjects | undefined;
  readonly #trail: Trail | undefined;
  readonly #isLive: boolean;
  readonly #strange = new StrangeMessages();

  constructor(bus: Bus, core: Configured, options: JetStreamOptions) {
    this.#bus = bus;
    this.#core = core;
    this.#start = options.start;
    this.#now = options.now ?? steadyNow;
    this.#random = options.random ?? Math.random;
    this.#isPassive = options.isPassive ?? false;
    const { trail, isLive = false } = options;
    this.#trail = trail;
    this.#isLive = isLive;
    this.#proof = new AnswerProof(bus, core, this.#now);
    this.#rollbacks = trail && new RollbackWatch({ bus, core, trail, isLive, now: this.#now });
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    const looking = setInterval(() => void this.#look(), LOOK_MS);
    try {
      await this.#readOn(reader, signal);
    } finally {
      clearInterval(looking);
      this.stats.reading = false;
      // Those of the live source wait in the trail, for whoever reads on.
      if (!this.#isLive) this.#settle();
    }
  }

  /** Reads from one consumer after another. */
  async #readOn(reader: Reader, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      if (attempt > 0) await this.#pause(attempt, signal);
      await this.#bus.whenConnected(signal);
      if (signal.aborted) return;
      const isReady = await this.#attach(reader, signal).then(
        () => true,
        (error: unknown) => this.#notAttached(error),
      );
      if (!isReady) continue;
      if (this.stats.rolledBack) return;
      const before = this.#reported;
      const end = await this.#read(reader, signal);
      if (this.stats.rolledBack) return;
      if (end.kind === 'failed') throw end.error;
      if (end.kind === 'stopped') return;
      // The consumer made progress: continue at once.
      if (this.#reported > before) attempt = -1;
      this.stats.reading = false;
      this.stats.resumptions += 1;
      this.#say(
        'lost',
        { reason: end.reason, after: this.stats.lastSequence },
        'lost the consumer; continuing with a new one',
      );
    }
  }

  async #pause(attempt: number, signal: AbortSignal): Promise<void> {
    const ms = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(attempt, 10));
    await sleep(ms * (0.5 + this.#random() / 2), undefined, { signal }).catch(() => {});
  }

  /** Creates a consumer that delivers what comes next. */
  async #attach(reader: Reader, signal: AbortSignal): Promise<void> {
    const { lastSequence: read } = this.stats;
    const facts = await this.#findStream(signal);
    const isReplaced = this.#isAttached && facts.created !== this.#created;
    if (isReplaced) refuseHistory(facts);
    if ((await this.#rollbacks?.attaches(facts, this.stats)) || this.#adopt(facts, read)) {
      this.stats.rolledBack = true;
      return;
    }
    let consumerStart = await this.#consumerStart(facts);
    let info = await this.#makeConsumer(facts, consumerStart);
    const earlier = this.stats.lastSequence > 0 ? undefined : earlierSequence(this.#start, info);
    if (earlier !== undefined) {
      deleteConsumer(this.#bus, facts.name, info.name);
      consumerStart = startAt(earlier, facts, this.#now());
      info = await this.#makeConsumer(facts, consumerStart);
    }
    this.#consumer = { name: info.name, limits: requestLimits(info) };
    this.#isAttached = true;
    this.#attachedAt = this.#now();
    this.#replicas = facts.replicas;
    this.stats.holdsMs = holdsMs(facts, this.#now());
    this.#isCopied = facts.sources.length > 0 || facts.mirror !== undefined;
    this.#mirror = facts.mirror && (this.#mirror ?? new MirrorLevel());
    this.#created = facts.created;
    this.stats.reading = true;
    this.#next = consumerStart.next;
    this.stats.unfit = undefined;
    this.stats.pending = info.num_pending;
    this.stats.readThrough = Math.max(this.stats.lastSequence, info.delivered.stream_seq);
    if (consumerStart.remark !== undefined) this.#bus.log.warn({ stream: facts.name }, consumerStart.remark);
    if (consumerStart.gap) this.#gap(reader, consumerStart.gap);
    this.#start = startAgain(this.#start, consumerStart, facts);
    if (isReplaced) unproven.set(this.#bus, facts.created);
    if (unproven.get(this.#bus) === facts.created && !this.#isPassive) this.#prove(signal);
  }

  /** A stream that is deleted while we read is created again, as the service does when it starts. */
  async #findStream(signal: AbortSignal): Promise<StreamFacts> {
    if (!this.#isAttached || this.#isPassive) return describeStream(this.#bus, this.#core);
    const { metricsStream: stream } = this.#core;
    // As we make one, it would capture what the copies brought in, or nothing of it.
    if (this.#isCopied) return describeStream(this.#bus, this.#core);
    if (!(await streamExists(this.#bus, stream))) {
      this.#say('gone', { stream }, 'the stream is gone; it is made again after a pause');
      await sleep(REMAKE_WAIT_MS, undefined, { signal }).catch(() => {});
    }
    return ensureStream(this.#bus, this.#core);
  }

  #prove(signal: AbortSignal): void {
    const isUnderWay = this.stats.unproven;
    this.stats.unproven = true;
    if (isUnderWay) return;
    const { metricsStream: stream, metricsSubjects: subjects } = this.#core;
    void untilProven(this.#bus, { stream, subjects, isProven: () => !this.stats.unproven }, signal);
  }

  async #makeConsumer(facts: StreamFacts, { deliver }: ConsumerStart): Promise<ConsumerInfo> {
    const before = this.#now();
    const info = await addConsumer(this.#bus, facts, deliver);
    this.#clock.stamped(Date.parse(info.created), before, this.#now());
    return info;
  }

  #consumerStart(facts: StreamFacts): ConsumerStart | Promise<ConsumerStart> {
    const { lastSequence: sequence } = this.stats;
    const nanos = BigInt(this.stats.lastStreamTime) * NANOS_PER_MS + BigInt(this.#lastSubMsNanos);
    const last = { sequence, nanos, next: this.#next, created: this.#created };
    if (sequence > 0) return startAfter(last, facts, { bus: this.#bus, core: this.#core }, this.#now());
    return startAt(this.#start, facts, this.#now());
  }

  /** An error before the first attachment goes to the operator; later, any error may be temporary. */
  #notAttached(error: unknown): false {
    if (this.#bus.connection.isClosed()) throw closedForGood();
    const explained = jetstreamError(error, `reading the stream ${this.#core.metricsStream}`);
    const mayPass = this.#isAttached || isTransient(error);
    if (!mayPass) throw explained;
    if (error instanceof StreamUnfit) this.#isUnfit(error);
    const { message: reason, advice } = explained;
    this.#say(reason, { reason, advice }, 'cannot read the stream; trying again');
    return false;
  }

  async #read(reader: Reader, signal: AbortSignal): Promise<PullEnd> {
    const consumer = { stream: this.#core.metricsStream, ...this.#consumer! };
    const handlers = {
      message: (message: RawMessage, envelope: Envelope, reply: ReplySubject) =>
        this.#onMessage(message, envelope, reply, reader),
      flush: reader.flush?.bind(reader),
      progress: () => this.#onProgress(reader),
      paused: () => this.#rollbacks?.paused(this.stats),
      idle: (askedAt: number) => this.#onIdle(askedAt, reader),
      idleDueAt: () => this.#idleDueAt(reader),
      answered: (answer: Answer, words: string) => this.#onAnswer(answer, words),
    };
    const pull = new Pull(this.#bus, consumer, handlers, this.#now);
    this.#pull = pull;
    const { promise: stopped, resolve } = Promise.withResolvers<void>();
    const stop = () => {
      pull.stop();
      resolve();
    };
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    const end = await pull.ended;
    // `progress` is not called again before its promise has resolved, whichever consumer the messages come from.
    if (end.kind === 'lost') await Promise.race([pull.held, stopped]);
    signal.removeEventListener('abort', stop);
    deleteConsumer(this.#bus, consumer.stream, consumer.name);
    return end;
  }

  #onMessage(message: RawMessage, envelope: Envelope, reply: ReplySubject, reader: Reader): void {
    const { sequence, streamTime } = message;
    if (this.stats.unproven) {
      this.stats.unproven = false;
      unproven.delete(this.#bus);
    }
    if (sequence !== this.#next && this.#next !== 0) {
      const messages = sequence - this.#next;
      this.#gap(reader, { fromTime: this.stats.lastStreamTime, toTime: streamTime, messages });
    }
    this.#next = sequence + 1;
    if (this.#isLive && this.#trail) this.#trail.first ??= sequence;
    if (streamTime < this.stats.lastStreamTime) this.#rollbacks?.wentBack({ sequence, time: streamTime });
    this.stats.lastSequence = sequence;
    this.stats.lastStreamTime = streamTime;
    this.#lastSubMsNanos = reply.subMsNanos;
    this.#lastPending = reply.pending;
    const verdict = this.#subjects!.filter.verdictOn(envelope);
    if (verdict === 'wanted') reader.message(message, envelope);
    else reader.leftOut?.(message);
    if (verdict === 'strange') this.#leaveOut(envelope.subject, sequence);
  }

  #onProgress(reader: Reader): void | Promise<void> {
    const { lastStreamTime } = this.stats;
    this.stats.pending = this.#lastPending;
    this.stats.readThrough = this.stats.lastSequence;
    this.#clock.arrived(lastStreamTime, this.#now());
    this.#reported = Math.max(this.#reported, lastStreamTime);
    this.#rollbacks?.progress(this.stats);
    this.#lookForRollback();
    return reader.progress(this.#reported);
  }

  #onIdle(askedAt: number, reader: Reader): void | Promise<void> {
    if (this.stats.lastSequence === 0 || !this.#proof.isDue) return this.#atEnd(askedAt, reader);
    if (!this.#pull!.hasGotSeveral) return this.#proof.find();
    this.#proof.given();
    return this.#atEnd(askedAt, reader);
  }

  #atEnd(askedAt: number, reader: Reader): void | Promise<void> {
    this.stats.pending = 0;
    // Messages that the stream had before it was asked, and that it did not hand over, were removed by retention.
    if (this.#end.at <= askedAt)
      this.stats.readThrough = Math.max(this.stats.readThrough, this.#end.sequence);
    void this.#refresh();
    if (this.#mirror !== undefined) void this.#askMirror(this.#mirror);
    this.#lookForRollback();
    const level = this.#mirror === undefined ? askedAt : this.#mirror.at(askedAt);
    const serverTime = level === undefined ? undefined : this.#clock.at(level);
    if (serverTime === undefined || serverTime - this.#core.idleSlack <= this.#reported) return undefined;
    this.#reported = serverTime - this.#core.idleSlack;
    return reader.progress(this.#reported);
  }

  /** When the server's clock, by the estimate, shows what the reader waits for. Of a copy, that is not known. */
  #idleDueAt({ awaited }: Reader): number {
    const now = this.#now();
    const serverTime = this.#isCopied ? undefined : this.#clock.at(now);
    if (awaited === undefined || serverTime === undefined) return now;
    return now + awaited + this.#core.idleSlack - serverTime + 1;
  }

  #onAnswer(answer: Answer, words: string): void {
    const { answers } = this.stats;
    answers.set(answer, (answers.get(answer) ?? 0) + 1);
    if (consequenceOf(answer) !== 'pause') return;
    // The words come from outside: one key for all of them, or there would be no end of keys.
    this.#say(
      answer,
      { answer: words },
      'the server refuses a request for messages; asking again after a pause',
    );
  }

  /** Looks whether the stream still is what we read, and where it ends. What else fails shows elsewhere. */
  async #look(): Promise<void> {
    if (!this.#isAttached || !this.#bus.connected) return;
    const { lastSequence: read } = this.stats;
    try {
      const facts = await describeStream(this.#bus, this.#core);
      if (facts.created !== this.#created) return;
      this.#end = { sequence: facts.lastSequence, at: this.#now() };
      this.stats.holdsMs = holdsMs(facts, this.#now());
      if (this.stats.unfit !== undefined) this.#bus.log.info({}, 'the stream captures what it should again');
      this.stats.unfit = undefined;
      if (!this.#adopt(facts, read)) return;
      this.stats.rolledBack = true;
      this.#pull?.stop();
    } catch (error) {
      // The live source says it, or a command that does not need to know.
      if (this.#isPassive) return;
      if (error instanceof StreamUnfit) return this.#isUnfit(error);
      const { message: reason } = jetstreamError(error, 'looking at the stream');
      this.#say('look', { reason }, 'cannot look at the stream: a change of it goes unnoticed; trying again');
    }
  }

  #isUnfit({ message: reason, advice }: StreamUnfit): void {
    if (this.stats.unfit === undefined) this.stats.misfits += 1;
    this.stats.unfit = reason;
    this.#settle();
    const held = this.#quiet.admit('unfit', this.#now());
    if (held === undefined) return;
    this.#bus.log.error({ reason, advice }, 'not ready: somebody changed the stream, and messages get lost');
  }

  /**
   * Takes what the stream stores now. Returns whether messages were read since the last look that this source may have
   * left out wrongly, so that their windows have to be computed again. `read`: the last sequence that had been read
   * when the stream was asked.
   */
  #adopt({ capture, created, lastSequence }: StreamFacts, read: number): boolean {
    const before = this.#known;
    const { metricsSubjects: wanted } = this.#core;
    this.#subjects = takeCapture(this.#bus, created, wanted, capture);
    const { filter } = this.#subjects;
    this.#known = knownSubjects(wanted, filter, read > 0 ? Math.min(read, lastSequence) : lastSequence);
    const isSame = before !== undefined && created === this.#created;
    const isMisjudged = isSame && misjudges([...before.wanted, ...before.patterns], filter.patterns);
    // What was read until now is told apart by the trail: it goes on saying what was known then.
    if (isMisjudged && this.#rollbacks?.misread(before.through, this.stats)) return true;
    this.#rollbacks?.judgedBy(this.#known);
    if (keepable(this.#known) === undefined)
      this.#say(
        'kept',
        {},
        'too many subjects for the checkpoints: a restart forgets how the stream was changed',
      );
    this.#settle();
    return false;
  }

  #leaveOut(subject: string, sequence: number): void {
    // What the live source has read, or will read, it counts itself.
    const isCounted = !this.#isLive && sequence >= (this.#trail?.first ?? Number.POSITIVE_INFINITY);
    if (!isCounted) this.#leftOut.add(subject, sequence);
  }

  get #leftOut(): StrangeMessages {
    return this.#isLive && this.#trail !== undefined ? this.#trail.strange : this.#strange;
  }

  /** Counts those messages that were left out and that the last look at the stream has not explained. */
  #settle(): void {
    const trail = this.#trail;
    const judge = this.#subjects?.filter.judge;
    if (judge === undefined) return;
    const messages = this.#leftOut.settle((subject) => judge(subject) === 'strange');
    if (messages === 0) return;
    if (trail === undefined || this.#isLive) this.stats.leftOut += messages;
    else trail.leftOutAside += messages;
    const advice =
      'Name their subjects in METRICS_SUBJECTS if they are metrics: the stream had other subjects or another transform when it stored them.';
    this.#say(
      'strange',
      { messages, advice },
      'left out messages with subjects that the stream no longer stores',
    );
  }

  #lookForRollback(): void {
    if (this.#rollbacks?.isDue() !== true) return;
    this.#rollbacks.compare().then(
      (isRolledBack) => {
        if (!isRolledBack) return;
        this.stats.rolledBack = true;
        this.#pull?.stop();
      },
      (error: unknown) => {
        const { message: reason } = jetstreamError(error, 'comparing what was read with the stream');
        this.#say('compare', { reason }, 'cannot tell whether the stream was rolled back; trying again');
      },
    );
  }

  /**
   * Reads the server's clock, by having it timestamp an entry of ours. If that fails, the last estimate stays in use.
   */
  async #refresh(): Promise<void> {
    // The consumer's timestamp still gives a lower bound of the server's clock.
    if (this.#isPassive || this.#now() - this.#clockReadAt < CLOCK_REFRESH_MS) return;
    this.#clockReadAt = this.#now();
    try {
      const bucket = await openBucket(this.#bus, this.#replicas);
      const before = this.#now();
      this.#clock.stamped(await readServerTime(bucket), before, this.#now());
    } catch (error) {
      const { message: reason } = jetstreamError(error, "reading the server's clock");
      this.#say(
        'clock',
        { reason },
        "cannot read the server's clock; while nothing arrives, windows close by an older estimate",
      );
    }
  }

  async #askMirror(level: MirrorLevel): Promise<void> {
    const askedAt = this.#now();
    if (askedAt - this.#mirrorAskedAt < MIRROR_ASK_MS) return;
    this.#mirrorAskedAt = askedAt;
    try {
      const { mirror, sources, created } = await describeStream(this.#bus, this.#core);
      if (mirror === undefined && created === this.#created) {
        // Somebody made a stream of its own of it. It lacks nothing any more.
        this.#mirror = undefined;
        this.#isCopied = sources.length > 0;
        return;
      }
      if (mirror !== undefined) level.take(mirror, askedAt, this.#now());
    } catch (error) {
      const { message: reason } = jetstreamError(error, 'asking the mirror how far it is behind');
      this.#say('mirror', { reason }, 'the mirror cannot be asked; while nothing arrives, windows wait');
    }
    const behind = this.#now() - (level.at(this.#now()) ?? this.#attachedAt);
    if (behind < MIRROR_PATIENCE_MS) return;
    const advice = 'Check its connection to its origin (nats stream info).';
    this.#say('mirror', { advice }, 'the mirror is behind its origin; while nothing arrives, windows wait');
  }

  #gap(reader: Reader, gap: Gap): void {
    this.stats.gaps += 1;
    this.stats.gapMessages += gap.messages;
    this.#say('gap', gapFields(gap), 'messages were removed from the stream before they were read');
    reader.gap?.(gap);
  }

  #say(key: string, fields: object, message: string): void {
    const held = this.#quiet.admit(key, this.#now());
    if (held !== undefined) this.#bus.log.warn(held > 0 ? { ...fields, repeated: held } : fields, message);
  }
}

/** Returns the sequence to begin with, if a start by time would skip it. */
function earlierSequence(start: ReadFrom, { delivered }: ConsumerInfo): ReadFrom | undefined {
  if (start.kind !== 'time' || start.orSequence === undefined) return undefined;
  return delivered.stream_seq + 1 > start.orSequence
    ? { kind: 'sequence', sequence: start.orSequence }
    : undefined;
}

/** Returns where to start if the consumer is lost before its first message. */
function startAgain(start: ReadFrom, consumerStart: ConsumerStart, facts: StreamFacts): ReadFrom {
  if (start.kind === 'time') {
    const orSequence = start.orSequence && Math.max(start.orSequence, facts.firstSequence);
    return { ...start, after: facts.firstSequence - 1, orSequence };
  }
  return consumerStart.next > 0 ? { kind: 'sequence', sequence: consumerStart.next } : start;
}
