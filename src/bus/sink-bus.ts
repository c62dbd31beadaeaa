/** The bus as a sink sees it that publishes there: a connection of its own, signed in as the service is. */
import {
  DeliverPolicy,
  ErrorCode,
  headers,
  type JetStreamClient,
  type NatsConnection,
  NatsError,
  RetentionPolicy,
  type StreamInfo,
} from 'nats';
import { CORE_SETTINGS, type CoreConfig, overlap, readBySelf } from '../config/core-settings.ts';
import { type Environment, readSettings, type SettingError } from '../settings/setting.ts';
import type {
  BusHeaders,
  BusMessage,
  BusReading,
  BusStream,
  PublishOutcome,
  SinkBus,
  StoredMessage,
} from '../sink/bus-port.ts';
import { type RefuseReason, type RetryReason, SinkError } from '../sink/contract.ts';
import { BusError } from './bus-error.ts';
import { captureOf, storedPatternsOf } from './capture.ts';
import { connectClient } from './client.ts';
import {
  apiErrorCode,
  connectError,
  isJetStreamAway,
  isTransient,
  jetstreamError,
  reasonInWords,
  signInRefusal,
} from './errors.ts';
import { apiPrefixOf, apiSubject, jetStreamOptions } from './jetstream-api.ts';
import { addConsumer } from './read/consumer.ts';
import { parseServers, signInOptions } from './sign-in.ts';
import { ReadingCut, type StoredMsg, storedMessages } from './stored-messages.ts';
import { findStream, manager } from './stream.ts';
import { covers } from './subjects.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** A silently dead connection is noticed within three of these; a write that waits is given up by its lane. */
const PING_INTERVAL_MS = 10_000;
/** The lane's own limit is what counts: `SINK_<ID>_TIMEOUT`, at most 24 hours. */
const ANSWER_TIMEOUT_MS = 86_400_000;
/** Messages that one request asks for. Those of windows have a few hundred bytes, and at most 64 KB or so. */
const FETCH_MESSAGES = 500;
const FETCH_HEADERS = 5_000;
const CLOSE_TIMEOUT_MS = 1_000;
/** The error codes of nats-server. */
const MESSAGE_TOO_LARGE = 10054;
/** No room in the stream, or on the server. */
const NO_ROOM: readonly (number | undefined)[] = [10023, 10047, 10077, 10002, 10122];
const RIGHTS_ADVICE =
  'Give the user of the service the rights that docs/stores.md#windows-back-on-the-bus lists for this sink.';

/** `env`: that of the service, whose NATS_* variables say where the bus is and how to sign in. */
export async function connectSinkBus(env: Environment): Promise<SinkBus> {
  const errors: SettingError[] = [];
  const core = readSettings(CORE_SETTINGS, '', env, errors, []);
  const [wrong] = errors;
  if (wrong !== undefined) {
    throw new SinkError('bad_request', `${wrong.variable} is not right.`, `Set it to ${wrong.expected}.`);
  }
  const servers = parseServers(core.natsUrl);
  try {
    const connection = await connectClient({
      ...signInOptions(core, servers),
      servers: [...servers.addresses],
      name: 'metrics-fanout sink',
      inboxPrefix: core.natsInboxPrefix,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      // The lane says when to try again.
      reconnect: false,
      maxReconnectAttempts: 0,
      noAsyncTraces: true,
    });
    return new SinkConnection(connection, core);
  } catch (error) {
    if (error instanceof BusError) throw new SinkError('bad_request', sentence(error.message), error.advice);
    const explained = await connectError(error, servers.addresses, core);
    throw new SinkError(signInRefusal(error) ?? 'connection', sentence(explained.message), explained.advice);
  }
}

class SinkConnection implements SinkBus {
  readonly connection: NatsConnection;
  readonly apiPrefix: string;
  readonly inboxPrefix: string;
  readonly #core: CoreConfig;
  readonly #client: JetStreamClient;

  constructor(connection: NatsConnection, core: CoreConfig) {
    this.connection = connection;
    this.apiPrefix = apiPrefixOf(core);
    this.inboxPrefix = core.natsInboxPrefix;
    this.#core = core;
    this.#client = connection.jetstream(jetStreamOptions(this));
  }

  get isClosed(): boolean {
    return this.connection.isClosed();
  }

  get maxPayloadBytes(): number {
    return this.connection.info?.max_payload ?? 1024 * 1024;
  }

  async refuseLoop(subject: string): Promise<void> {
    const { metricsSource, metricsStream, metricsSubjects } = this.#core;
    const direct = readBySelf(this.#core, subject);
    if (direct !== undefined) throw loopError(subject, direct);
    if (metricsSource === 'core') return;
    const info = await this.#asked(findStream(this, metricsStream));
    if (info === undefined) return;
    const capture = captureOf(info.config);
    const read = metricsSubjects.flatMap((wanted) => [wanted, ...storedPatternsOf(wanted, capture)]);
    for (const stored of storedPatternsOf(subject, capture)) {
      const both = read.find((other) => overlap(other, stored));
      if (both !== undefined)
        throw loopError(subject, `${both} (the stream ${metricsStream} stores it as ${stored})`);
    }
  }

  async streamOf(subject: string): Promise<BusStream> {
    const names: string[] = [];
    await this.#asked(
      (async () => {
        for await (const name of (await manager(this)).streams.names(subject)) names.push(name);
      })(),
    );
    for (const name of names) {
      const info = await this.#asked(findStream(this, name));
      if (info?.config.subjects?.some((pattern) => covers(pattern, subject))) return streamFor(info, subject);
    }
    const some = names.length === 0 ? '' : `; ${names.join(', ')} captures a part of it`;
    throw new SinkError(
      'not_found',
      `no stream captures ${subject}${some}.`,
      `Make one (nats stream add WINDOWS --subjects '${subject}' --max-age 24h --defaults), or set DELIVERY=core to publish without one, at most once.`,
    );
  }

  async publish(message: BusMessage, stream: string): Promise<PublishOutcome> {
    const options = { headers: encoded(message.headers), timeout: ANSWER_TIMEOUT_MS };
    try {
      const ack = await this.#client.publish(message.subject, message.body, options);
      if (ack.stream !== stream) {
        throw new SinkError('schema_mismatch', `the stream ${ack.stream} acknowledged, not ${stream}.`);
      }
      return { kind: 'stored', sequence: ack.seq, duplicate: ack.duplicate };
    } catch (error) {
      if (apiErrorCode(error) === MESSAGE_TOO_LARGE || codeOf(error) === ErrorCode.MaxPayloadExceeded) {
        return { kind: 'too_large', message: reasonInWords(error) };
      }
      throw this.#explained(error, 'publishing windows');
    }
  }

  send({ subject, headers: values, body }: BusMessage): void {
    try {
      this.connection.publish(subject, body, { headers: encoded(values) });
    } catch (error) {
      throw this.#explained(error, 'publishing windows');
    }
  }

  async flush(): Promise<void> {
    try {
      await this.connection.flush();
    } catch (error) {
      throw this.#explained(error, 'publishing windows');
    }
  }

  async *messages(reading: BusReading, signal: AbortSignal): AsyncGenerator<StoredMessage> {
    const { stream, to } = reading;
    const batch = reading.headersOnly ? FETCH_HEADERS : FETCH_MESSAGES;
    const { name: consumer, num_pending: pending } = await this.#asked(
      addConsumer(this, { name: stream.name, maxConsumerIdleMs: undefined }, consumerOf(reading)),
      signal,
    );
    try {
      if (pending === 0) return;
      const part = { stream: stream.name, consumer, batch, to };
      for await (const stored of storedMessages(this, part, signal)) yield storedMessage(stored);
    } catch (error) {
      if (!(error instanceof ReadingCut)) throw error;
      throw new SinkError(
        'connection',
        `the reading of the stream ${stream.name} ended early: ${error.message}.`,
      );
    } finally {
      // Nobody waits for the answer: a consumer left behind ends by inactivity.
      if (!this.isClosed) this.connection.publish(apiSubject(this, 'CONSUMER.DELETE', stream.name, consumer));
    }
  }

  async close(): Promise<void> {
    if (this.connection.isClosed()) return;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    await Promise.race([this.connection.close(), late]);
    clearTimeout(timer);
  }

  async #asked<T>(answer: Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#explained(error, 'asking the bus about the stream of the windows');
    }
  }

  #explained(error: unknown, doing: string): SinkError {
    if (error instanceof SinkError) return error;
    const { message, advice } = jetstreamError(error, doing);
    const reason = this.isClosed ? 'connection' : reasonOf(error);
    return new SinkError(reason, sentence(message), reason === 'unauthorized' ? RIGHTS_ADVICE : advice);
  }
}

function reasonOf(error: unknown): RetryReason | RefuseReason {
  const cause = error instanceof BusError ? (error.cause ?? error) : error;
  if (codeOf(cause) === ErrorCode.PermissionsViolation || /does not permit/.test(String(error)))
    return 'unauthorized';
  if (NO_ROOM.includes(apiErrorCode(cause))) return 'throttled';
  // Nobody answers: JetStream, or the stream, is not there.
  if (isJetStreamAway(cause)) return 'not_found';
  if (codeOf(cause) === ErrorCode.Timeout) return 'timeout';
  return isTransient(cause) || cause instanceof NatsError ? 'server_error' : 'unknown';
}

function codeOf(error: unknown): string {
  return error instanceof NatsError ? error.code : '';
}

/** Throws a `SinkError` if the stream does not keep what it acknowledges. */
function streamFor({ config, state, created }: StreamInfo, subject: string): BusStream {
  const { name, max_msg_size: maxSize = 0 } = config;
  const unfit = [
    [
      config.retention !== RetentionPolicy.Limits,
      `has ${config.retention} retention, and forgets what was read`,
      'limits retention',
    ],
    [config.no_ack, 'acknowledges nothing', 'acknowledgements'],
    [config.sealed, 'is sealed', 'subjects that it takes'],
    [
      config.max_msgs_per_subject > 0,
      'keeps a number of messages per name, for all of its series together',
      'no limit of messages per subject',
    ],
  ] as const;
  const [, what, wanted] = unfit.find(([is]) => is) ?? [];
  if (what !== undefined) {
    throw new SinkError(
      'schema_mismatch',
      `the stream ${name} captures ${subject}, but it ${what}.`,
      `Make another stream for ${subject}, with ${wanted}, or set DELIVERY=core.`,
    );
  }
  return {
    name,
    created: String(created),
    stored: storedPatternsOf(subject, captureOf(config)),
    lastSequence: state.last_seq,
    lastTime: state.messages === 0 ? undefined : Date.parse(state.last_ts),
    maxMessageBytes: maxSize > 0 ? maxSize : undefined,
  };
}

function consumerOf({ stream, from, headersOnly = false }: BusReading) {
  const [only, ...more] = stream.stored;
  const filter = more.length === 0 ? { filter_subject: only! } : { filter_subjects: [...stream.stored] };
  const shared = { ...filter, headers_only: headersOnly };
  if (from === undefined) return { ...shared, deliver_policy: DeliverPolicy.All };
  return 'sequence' in from
    ? { ...shared, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: from.sequence }
    : {
        ...shared,
        deliver_policy: DeliverPolicy.StartTime,
        opt_start_time: new Date(from.time).toISOString(),
      };
}

function storedMessage({ sequence, message }: StoredMsg): StoredMessage {
  const { data: body, headers: values } = message;
  return { sequence, body, header: (name) => values?.get(name) ?? '' };
}

function encoded(values: BusHeaders) {
  const all = headers();
  for (const [name, value] of Object.entries(values)) all.set(name, value);
  return all;
}

function loopError(subject: string, read: string): SinkError {
  return new SinkError(
    'bad_request',
    `the service itself reads ${read}, and would read the windows that it publishes on ${subject}.`,
    'Set SUBJECT of the sink to another one, or METRICS_SUBJECTS to subjects that do not cover it.',
  );
}

function sentence(text: string): string {
  return text.endsWith('.') ? text : `${text}.`;
}
