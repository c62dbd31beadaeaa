/**
 * The JetStream source: every message of the stream once and in order, whatever happens to connection, consumer or
 * server in between. It holds no state at the server: its consumer is ephemeral, in memory and without acknowledgements,
 * and is made again behind the last message whenever it is lost.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { AckPolicy, type ConsumerConfig, type Msg, nanos } from 'nats';
import { Quiet } from '../observe/log.ts';
import { openBucket } from './checkpoints.ts';
import { ServerClock, steadyNow } from './clock.ts';
import type { Bus } from './connect.ts';
import { isTransient, jetstreamError } from './errors.ts';
import { Pull, type PullEnd } from './pull.ts';
import type { ReplySubject } from './reply-subject.ts';
import { type Beginning, beginAt, beginBehind } from './resume.ts';
import type { CoreConfig } from './sign-in.ts';
import type { Gap, Reader, Source, SourceStats, Start } from './source.ts';
import { describeStream, ensureStream, manager, type StreamConfigured, type StreamFacts } from './stream.ts';
import { covers, uncovered } from './subjects.ts';

/** The server removes a consumer of ours after so long without requests. */
const INACTIVE_THRESHOLD_MS = 300_000;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;
/** How often the server's clock is read while nothing arrives. */
const CLOCK_REFRESH_MS = 15_000;
const CLOCK_KEY = 'clock';
/** With a filter, gaps do not show in the sequences: the stream is asked this often while we are behind. */
const RETENTION_CHECK_MS = 5_000;
const REPEAT_LOG_MS = 60_000;

export interface JetStreamOptions {
  readonly start: Start;
  /** Milliseconds by a clock that is never set back; not necessarily those of the server. */
  readonly now?: () => number;
  /** In [0, 1): spreads the retries. */
  readonly random?: () => number;
}

type Configured = StreamConfigured & Pick<CoreConfig, 'idleSlack'>;

export function createJetStreamSource(bus: Bus, core: Configured, options: JetStreamOptions): Source {
  return new JetStreamSource(bus, core, options);
}

class JetStreamSource implements Source {
  readonly stats: SourceStats = {
    pending: 0,
    lastSequence: 0,
    lastStreamTime: 0,
    gaps: 0,
    gapMessages: 0,
    resumptions: 0,
  };
  readonly #bus: Bus;
  readonly #core: Configured;
  /** Moves on with what was reported as a gap, so that nothing is reported twice. */
  #start: Start;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #clock = new ServerClock();
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  #clockReadAt = Number.NEGATIVE_INFINITY;
  #retentionReadAt = Number.NEGATIVE_INFINITY;
  #isAttached = false;
  #consumer = '';
  /** Without a filter, the sequence that has to come next; 0 where it is not known. */
  #next = 0;
  /** With a filter: all up to here was handed over, was a gap, or is not for us. */
  #through = 0;
  /** What the stream held, and when it was asked: with a filter, all of it is read once nothing is pending. */
  #held = { sequence: 0, at: 0 };
  #lastReply = '';
  #lastParsed: ReplySubject | undefined;
  /** What `progress` was told last. */
  #reported = 0;
  #isFiltered = false;
  /** Where the server cannot filter by several subjects. */
  #isWanted: ((subject: string) => boolean) | undefined;

  constructor(bus: Bus, core: Configured, options: JetStreamOptions) {
    this.#bus = bus;
    this.#core = core;
    this.#start = options.start;
    this.#now = options.now ?? steadyNow;
    this.#random = options.random ?? Math.random;
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      await this.#bus.whenConnected(signal);
      if (signal.aborted) return;
      const isReady = await this.#attach(reader).then(
        () => true,
        (error: unknown) => this.#notAttached(error),
      );
      if (!isReady) {
        const ms = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(attempt, 10));
        await sleep(ms * (0.5 + this.#random() / 2), undefined, { signal }).catch(() => {});
        continue;
      }
      attempt = -1;
      const end = await this.#read(reader, signal);
      if (end.kind === 'failed') throw end.error;
      if (end.kind === 'stopped') return;
      this.stats.resumptions += 1;
      this.#say('lost', { reason: end.reason, after: this.stats.lastSequence }, 'reading the stream anew');
    }
  }

  /** Makes a consumer that delivers what comes next. */
  async #attach(reader: Reader): Promise<void> {
    // A stream that is deleted under us is made again, as the service does at its start.
    const facts = await (this.#isAttached ? ensureStream : describeStream)(this.#bus, this.#core);
    const beginning = await this.#beginning(facts);
    const before = this.#now();
    const info = await (await manager(this.#bus)).consumers.add(facts.name, {
      ...beginning.deliver,
      ...this.#filter(facts),
      ack_policy: AckPolicy.None,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(INACTIVE_THRESHOLD_MS),
    });
    this.#clock.stamped(Date.parse(info.created), before, this.#now());
    this.#consumer = info.name;
    this.#isAttached = true;
    this.#next = this.#isFiltered ? 0 : beginning.next;
    this.stats.pending = info.num_pending;
    if (beginning.remark !== undefined) this.#bus.log.warn({ stream: facts.name }, beginning.remark);
    if (beginning.gap) this.#gap(reader, beginning.gap);
    if (beginning.next > 0) this.#through = beginning.next - 1;
    this.#start = startAgain(this.#start, beginning, facts);
  }

  #beginning(facts: StreamFacts): Beginning | Promise<Beginning> {
    const { lastSequence: sequence } = this.stats;
    const nanos = this.#lastParsed?.nanosOf(this.#lastReply) ?? 0n;
    const through = this.#isFiltered ? Math.max(sequence, this.#through) : sequence;
    if (sequence > 0) return beginBehind({ sequence, nanos, through }, facts, this.#bus);
    return beginAt(this.#start, facts, this.#now());
  }

  /** None where the stream captures nothing but what is wanted: only then do its sequences show every gap. */
  #filter(facts: StreamFacts): Partial<ConsumerConfig> {
    const wanted = this.#core.metricsSubjects;
    this.#isFiltered = uncovered(facts.subjects, wanted).length > 0;
    this.#isWanted = undefined;
    if (!this.#isFiltered) return {};
    if (wanted.length === 1) return { filter_subject: wanted[0]! };
    if (takesSeveralFilters(this.#bus.connection.info?.version ?? ''))
      return { filter_subjects: [...wanted] };
    this.#isFiltered = false;
    this.#isWanted = (subject) => wanted.some((pattern) => covers(pattern, subject));
    return {};
  }

  /** Before the first message an operator has to know; later on, whatever it is may pass. */
  #notAttached(error: unknown): false {
    const explained = jetstreamError(error, `reading the stream ${this.#core.metricsStream}`);
    const mayPass = this.#isAttached || isTransient(error);
    if (this.#bus.connection.isClosed() || !mayPass) throw explained;
    const { message: reason, advice } = explained;
    this.#say(reason, { reason, advice }, 'cannot read the stream; trying again');
    return false;
  }

  async #read(reader: Reader, signal: AbortSignal): Promise<PullEnd> {
    const consumer = { stream: this.#core.metricsStream, name: this.#consumer };
    const handlers = {
      message: (message: Msg, reply: string, parsed: ReplySubject) =>
        this.#onMessage(message, reply, parsed, reader),
      progress: () => this.#onProgress(reader),
      idle: (askedAt: number) => this.#onIdle(askedAt, reader),
    };
    const pull = new Pull(this.#bus, consumer, handlers, this.#now);
    const stop = () => pull.stop();
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    const end = await pull.ended;
    signal.removeEventListener('abort', stop);
    // Nobody waits for the answer: a consumer that stays behind ends by its inactivity.
    this.#bus.publish(`$JS.API.CONSUMER.DELETE.${consumer.stream}.${consumer.name}`, '');
    return end;
  }

  #onMessage(message: Msg, reply: string, parsed: ReplySubject, reader: Reader): void {
    const { streamSequence, timeMs } = parsed;
    if (streamSequence !== this.#next && this.#next !== 0) {
      const messages = streamSequence - this.#next;
      this.#gap(reader, { fromTime: this.stats.lastStreamTime, toTime: timeMs, messages });
    }
    if (!this.#isFiltered) this.#next = streamSequence + 1;
    this.stats.lastSequence = streamSequence;
    this.stats.lastStreamTime = timeMs;
    this.#lastReply = reply;
    this.#lastParsed = parsed;
    if (this.#isWanted === undefined || this.#isWanted(message.subject)) {
      reader.message(message.data, timeMs, streamSequence);
    }
  }

  #onProgress(reader: Reader): void | Promise<void> {
    const { lastStreamTime } = this.stats;
    this.stats.pending = this.#lastParsed?.pendingOf(this.#lastReply) ?? 0;
    this.#clock.arrived(lastStreamTime, this.#now());
    if (this.#isFiltered && this.stats.pending > 0) void this.#watchRetention(reader);
    this.#reported = Math.max(this.#reported, lastStreamTime);
    return reader.progress(this.#reported);
  }

  #onIdle(askedAt: number, reader: Reader): void | Promise<void> {
    this.stats.pending = 0;
    if (askedAt > this.#held.at) this.#through = Math.max(this.#through, this.#held.sequence);
    void this.#refresh();
    const serverTime = this.#clock.at(askedAt);
    if (serverTime === undefined || serverTime - this.#core.idleSlack <= this.#reported) return undefined;
    this.#reported = serverTime - this.#core.idleSlack;
    return reader.progress(this.#reported);
  }

  /** Reads the server's clock by having it stamp an entry of ours. Where that fails, the last estimate goes on. */
  async #refresh(): Promise<void> {
    if (this.#now() - this.#clockReadAt < CLOCK_REFRESH_MS) return;
    this.#clockReadAt = this.#now();
    try {
      if (this.#isFiltered) {
        const { lastSequence: sequence } = await describeStream(this.#bus, this.#core);
        this.#held = { sequence, at: this.#now() };
      }
      const bucket = await openBucket(this.#bus);
      const before = this.#now();
      await bucket.put(CLOCK_KEY, '');
      const entry = await bucket.get(CLOCK_KEY);
      if (entry) this.#clock.stamped(entry.created.getTime(), before, this.#now());
    } catch (error) {
      const { message: reason } = jetstreamError(error, "reading the server's clock");
      this.#say('clock', { reason }, 'windows close by an older estimate while nothing arrives');
    }
  }

  /** With a filter: compares how far retention is with how far delivery is, in that order, so that it cannot err. */
  async #watchRetention(reader: Reader): Promise<void> {
    if (this.#now() - this.#retentionReadAt < RETENTION_CHECK_MS) return;
    this.#retentionReadAt = this.#now();
    const consumer = this.#consumer;
    try {
      const facts = await describeStream(this.#bus, this.#core);
      const info = await (await manager(this.#bus)).consumers.info(facts.name, consumer);
      const through = Math.max(info.delivered.stream_seq, this.#through);
      const messages = facts.firstSequence - through - 1;
      if (consumer !== this.#consumer || messages <= 0) return;
      this.#through = facts.firstSequence - 1;
      const { lastStreamTime: fromTime } = this.stats;
      this.#gap(reader, { fromTime, toTime: facts.firstTime ?? fromTime, messages });
    } catch {
      // The next check will tell; a consumer that is gone is noticed where it is read.
    }
  }

  #gap(reader: Reader, gap: Gap): void {
    this.stats.gaps += 1;
    this.stats.gapMessages += gap.messages;
    this.#say('gap', { ...gap }, 'messages were removed from the stream before they were read');
    reader.gap?.(gap);
  }

  #say(key: string, fields: object, message: string): void {
    const held = this.#quiet.admit(key, this.#now());
    if (held !== undefined) this.#bus.log.warn(held > 0 ? { ...fields, repeated: held } : fields, message);
  }
}

/** Where to start should the consumer be lost before its first message. */
function startAgain(start: Start, beginning: Beginning, facts: StreamFacts): Start {
  if (start.kind === 'time') return { ...start, after: facts.firstSequence - 1 };
  return beginning.next > 0 ? { kind: 'sequence', sequence: beginning.next } : start;
}

/** filter_subjects came with nats-server 2.10. */
function takesSeveralFilters(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 10);
}
