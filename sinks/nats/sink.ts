/**
 * The windows back on the bus: every point is a message on `<SUBJECT>.<name>`, for alerts, autoscalers and people. The
 * stream that captures them is the store; without one, plain NATS delivers to those who listen, and keeps nothing.
 */
import {
  type Batch,
  type BusStream,
  defineSink,
  fitting,
  isRefusal,
  type Point,
  type Rejection,
  type Sink,
  type SinkBus,
  type SinkContext,
  SinkError,
  type StoredPoint,
  unfitNumber,
  type WindowRange,
  type WriteOutcome,
  withAdvice,
} from '../../src/sink/index.ts';
import { type Config, settings, windowSubjects } from './config.ts';
import { type Encoded, encodePoint, encodeRemoval } from './encode.ts';
import { headerBytes, publishAll, withId } from './publish.ts';
import { storedWindows } from './stored-windows.ts';

/** One write at a time: what a later one says about a key must come later in the stream. */
const LIMITS = { maxPoints: 2_000, maxBytes: 2_000_000, inFlight: 1 };
/** nats-server takes 4,096 bytes for the first line of a message; the rest is for where the answer goes, and sizes. */
const MAX_SUBJECT_CHARACTERS = 3_500;
interface Session {
  readonly bus: SinkBus;
  /** Undefined with DELIVERY=core. */
  readonly stream: BusStream | undefined;
}

class NatsSink implements Sink {
  readonly #config: Config;
  readonly #connectBus: SinkContext['connectBus'];
  #session: Promise<Session> | undefined;

  constructor(config: Config, { connectBus }: SinkContext) {
    this.#config = config;
    this.#connectBus = connectBus;
  }

  async open(signal: AbortSignal): Promise<void> {
    const { bus, stream } = await this.#opened(signal);
    // It may have been opened long ago.
    const now = await this.#unlessAborted(this.#look(bus), signal);
    if (now?.created !== stream?.created) this.#session = Promise.resolve({ bus, stream: now });
  }

  async write(batch: Batch, signal: AbortSignal): Promise<WriteOutcome> {
    const rejected: Rejection[] = [];
    try {
      const { bus, stream } = await this.#opened(signal);
      const indices = new Map<Encoded, number>();
      for (const { index, point } of fitting(batch, unfitNumber, rejected)) {
        const message = encodePoint(point, this.#config);
        const reason = unfit(message, bus, stream);
        if (reason === undefined) indices.set(message, index);
        else rejected.push({ index, reason: 'too_large', message: reason });
      }
      const tooLarge = await this.#unlessAborted(this.#publish([...indices.keys()], signal), signal);
      for (const { message, reason } of tooLarge)
        rejected.push({ index: indices.get(message)!, reason: 'too_large', message: reason });
      return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
    } catch (error) {
      return outcomeOfError(error);
    }
  }

  async *read(range: WindowRange, signal: AbortSignal): AsyncGenerator<StoredPoint> {
    const { bus } = await this.#opened(signal);
    const stream = await unlessAborted(this.#look(bus), signal);
    if (stream === undefined) return;
    yield* storedWindows(bus, stream, range, signal);
  }

  async remove({ points }: { readonly points: readonly Point[] }, signal: AbortSignal): Promise<void> {
    if (this.#config.delivery === 'core') return;
    const messages = points.map((point) => encodeRemoval(point, this.#config));
    await this.#unlessAborted(this.#publish(messages, signal), signal);
  }

  async identity(signal: AbortSignal): Promise<string | undefined> {
    const { bus } = await this.#opened(signal);
    const stream = await unlessAborted(this.#look(bus), signal);
    return stream && `${stream.name.slice(0, 60)} ${stream.created}`;
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.then(({ bus }) => bus.close()).catch(() => {});
  }

  async #publish(messages: readonly Encoded[], signal: AbortSignal) {
    const { bus, stream } = await this.#opened(signal);
    if (stream !== undefined) return await publishAll(bus, stream, messages, signal);
    for (const message of messages) bus.send(withId(message, message.id));
    await bus.flush();
    return [];
  }

  /** The client does not connect again by itself: the lane says when to try. */
  async #opened(signal: AbortSignal): Promise<Session> {
    signal.throwIfAborted();
    const before = await this.#session?.catch(() => undefined);
    if (before?.bus.isClosed) this.#session = undefined;
    this.#session ??= this.#connect();
    const session = this.#session;
    session.catch(() => {
      if (this.#session === session) this.#session = undefined;
    });
    return await this.#unlessAborted(session, signal);
  }

  async #connect(): Promise<Session> {
    if (this.#connectBus === undefined) {
      throw new SinkError('bad_request', 'there is no bus to publish on', 'Run the sink within the service.');
    }
    const bus = await this.#connectBus();
    try {
      return { bus, stream: await this.#look(bus) };
    } catch (error) {
      await bus.close();
      throw error;
    }
  }

  async #look(bus: SinkBus): Promise<BusStream | undefined> {
    const subject = windowSubjects(this.#config);
    await bus.refuseLoop(subject);
    return this.#config.delivery === 'core' ? undefined : await bus.streamOf(subject);
  }

  /** What is given up must not arrive later, behind what comes next: its connection goes with it. */
  async #unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
    return await unlessAborted(promise, signal, () => void this.close());
  }
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal, onAbort = () => {}): Promise<T> {
  promise.catch(() => {});
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const giveUp = () => {
    onAbort();
    reject(new SinkError('timeout', 'the bus did not answer in time'));
  };
  signal.addEventListener('abort', giveUp, { once: true });
  if (signal.aborted) giveUp();
  return await Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', giveUp));
}

/** Returns why the bus cannot take the message; undefined if it can. */
function unfit(message: Encoded, bus: SinkBus, stream: BusStream | undefined): string | undefined {
  const { subject, body } = message;
  if (subject.length > MAX_SUBJECT_CHARACTERS)
    return `the subject takes ${subject.length} bytes; the limit is ${MAX_SUBJECT_CHARACTERS}`;
  const most = Math.min(bus.maxPayloadBytes, stream?.maxMessageBytes ?? Number.POSITIVE_INFINITY);
  const bytes = body.length + headerBytes(withId(message, message.id));
  return bytes > most ? `the message takes ${bytes} bytes; the limit of the bus is ${most}` : undefined;
}

function outcomeOfError(error: unknown): WriteOutcome {
  if (!(error instanceof SinkError)) throw error;
  const { reason } = error;
  return isRefusal(reason)
    ? { kind: 'refused', reason, message: withAdvice(error) }
    : { kind: 'retry', reason, message: withAdvice(error) };
}

export default defineSink({
  kind: 'nats',
  summary: 'the windows back on the bus, for alerts, autoscalers and people; a stream keeps them',
  settings,
  limits: LIMITS,
  readBackBy: ({ delivery }) => (delivery === 'stream' ? 'ranges' : 'none'),
  removesBy: ({ delivery }) => delivery === 'stream',
  // It is that of the stream, which may have several subjects.
  sharesIdentity: true,
  publishesOn: (config) => [{ key: 'subject', subject: windowSubjects(config) }],
  create: (config, context): Sink => new NatsSink(config, context),
});
