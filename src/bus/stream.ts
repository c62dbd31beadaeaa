/** The stream that captures the metrics: created if missing, checked if it exists, never altered. */

import {
  DiscardPolicy,
  type JetStreamManager,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from 'nats';
import type { CoreConfig } from '../config/core-settings.ts';
import { BusError } from './bus-error.ts';
import type { Bus } from './connect.ts';
import { apiErrorCode, jetstreamError } from './errors.ts';
import { uncovered } from './subjects.ts';

/** How long a request to JetStream's API may take. */
export const API_TIMEOUT_MS = 5_000;
/**
 * How long a stream must have been gone before it is made again. The server says that a stream is gone before it has
 * removed its files: one that is made at once can lose its own, and then stores nothing.
 */
export const REMAKE_WAIT_MS = 3_000;
const NANOS_PER_MS = 1_000_000;

/** The settings that describe the stream that the sources read. */
export type StreamConfigured = Pick<
  CoreConfig,
  'metricsStream' | 'metricsSubjects' | 'metricsStreamMaxAge' | 'metricsStreamMaxBytes' | 'metricsStreamNoAck'
>;

/** A stream's properties and contents, at the time of asking. Times are in milliseconds since 1970. */
export interface StreamFacts {
  readonly name: string;
  readonly subjects: readonly string[];
  /** When it was created: distinguishes it from another stream of the same name. */
  readonly created: string;
  readonly messages: number;
  readonly bytes: number;
  /** The first sequence that it still holds; `lastSequence` + 1 if it is empty. */
  readonly firstSequence: number;
  readonly lastSequence: number;
  /** Undefined if it is empty, as is `lastTime`. */
  readonly firstTime: number | undefined;
  readonly lastTime: number | undefined;
  /** Retention limits; undefined if there are none. */
  readonly maxAgeMs: number | undefined;
  readonly maxBytes: number | undefined;
  readonly maxMessages: number | undefined;
  /** Number of servers in the cluster that hold the stream. */
  readonly replicas: number;
}

/** The error codes of nats-server. */
const ERROR = {
  streamNotFound: 10059,
  nameInUse: 10058,
  subjectsOverlap: 10065,
  insufficientResources: 10023,
  insufficientStorage: 10047,
  accountLimit: 10002,
  maxBytesOfAccount: 10122,
} as const;

const NO_ROOM: readonly (number | undefined)[] = [
  ERROR.insufficientResources,
  ERROR.insufficientStorage,
  ERROR.accountLimit,
  ERROR.maxBytesOfAccount,
];

/** Errors when another instance creates the stream at the same time. */
const IN_THE_WAY: readonly (number | undefined)[] = [ERROR.nameInUse, ERROR.subjectsOverlap];

export function manager(bus: Bus): Promise<JetStreamManager> {
  return bus.connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS });
}

/** Rejects with a `BusError` if the stream does not exist or cannot be used. */
export async function describeStream(
  bus: Bus,
  core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
): Promise<StreamFacts> {
  const info = await find(bus, core.metricsStream);
  if (info === undefined) {
    throw new BusError(
      `there is no stream ${core.metricsStream}`,
      'Set METRICS_STREAM to an existing stream, or start the service, which creates it.',
    );
  }
  return checked(info, core);
}

/** Creates the stream if it is missing. Rejects with a `BusError` if it cannot be used. */
export async function ensureStream(bus: Bus, core: StreamConfigured): Promise<StreamFacts> {
  const existing = await find(bus, core.metricsStream);
  if (existing) return checked(existing, core);
  try {
    const made = await (await manager(bus)).streams.add(configuration(core));
    bus.log.info(
      { stream: core.metricsStream, subjects: core.metricsSubjects, maxAgeMs: core.metricsStreamMaxAge },
      'created the stream',
    );
    return facts(made);
  } catch (error) {
    // Another instance may have created it in the meantime, with other limits; the server reports that its name or its
    // subjects are taken.
    const raced = IN_THE_WAY.includes(apiErrorCode(error)) ? await find(bus, core.metricsStream) : undefined;
    if (raced) return checked(raced, core);
    throw await creationError(error, bus, core);
  }
}

/**
 * Throws a `BusError` if a stream that was just made has a history: its messages are older than it is, or its sequences
 * do not begin with 1. The server made it out of what was left of another.
 */
export function refuseHistory({ name, created, firstTime, messages, lastSequence }: StreamFacts): void {
  const isOlder = firstTime !== undefined && firstTime < Date.parse(created);
  if (!isOlder && (messages > 0 || lastSequence === 0)) return;
  throw new BusError(
    `the stream ${name} was made again, and has the history of another: ${messages} messages, the last sequence is ${lastSequence}`,
    `Delete it (nats stream rm ${name}). If that does not help, restart nats-server.`,
  );
}

/** Rejects with a `BusError` if it cannot find out. */
export async function streamExists(bus: Bus, name: string): Promise<boolean> {
  return (await find(bus, name)) !== undefined;
}

async function find(bus: Bus, name: string): Promise<StreamInfo | undefined> {
  try {
    return await (await manager(bus)).streams.info(name);
  } catch (error) {
    if (apiErrorCode(error) === ERROR.streamNotFound) return undefined;
    throw jetstreamError(error, `looking up the stream ${name}`);
  }
}

function configuration(core: StreamConfigured): Partial<StreamConfig> & { name: string } {
  return {
    name: core.metricsStream,
    description: 'metrics as published; read by metrics-fanout',
    subjects: [...core.metricsSubjects],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.Old,
    max_age: nanos(core.metricsStreamMaxAge),
    max_bytes: core.metricsStreamMaxBytes,
    // An answer of the server can arrive anywhere, also as a request to purge the stream: nobody may.
    deny_purge: true,
    deny_delete: true,
    // A producer says where its acknowledgement goes: to a key of the bucket, say.
    no_ack: core.metricsStreamNoAck,
  };
}

async function creationError(error: unknown, bus: Bus, core: StreamConfigured): Promise<BusError> {
  const doing = `creating the stream ${core.metricsStream}`;
  const code = apiErrorCode(error);
  if (code === ERROR.subjectsOverlap) {
    const other = await overlapping(bus, core);
    return new BusError(
      `${doing}: another stream${other === undefined ? '' : `, ${other},`} captures some of ${core.metricsSubjects.join(', ')}`,
      `Set METRICS_STREAM to ${other ?? 'that stream'}, or METRICS_SUBJECTS to subjects that no other stream captures.`,
    );
  }
  if (NO_ROOM.includes(code)) {
    return new BusError(
      `${doing}: the server has no room for ${core.metricsStreamMaxBytes} bytes`,
      'Lower METRICS_STREAM_MAX_BYTES, or give JetStream more storage (max_file_store, or the account limit).',
    );
  }
  return jetstreamError(error, doing);
}

/** Finds the name of the stream that is in the way; used only in the message. */
async function overlapping(bus: Bus, core: StreamConfigured): Promise<string | undefined> {
  for (const subject of core.metricsSubjects) {
    const name = await (await manager(bus)).streams.find(subject).catch(() => undefined);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** Returns the facts of a stream. Throws a `BusError` if it cannot serve as the source of truth. */
function checked(info: StreamInfo, core: Pick<StreamConfigured, 'metricsSubjects'>): StreamFacts {
  const { name, retention, mirror, sealed, subjects = [] } = info.config;
  if (mirror) {
    throw new BusError(
      `the stream ${name} is a mirror of ${mirror.name}: a mirror lags, so no window could ever be known to be complete`,
      `Set METRICS_STREAM to ${mirror.name}.`,
    );
  }
  if (retention !== RetentionPolicy.Limits) {
    throw new BusError(
      `the stream ${name} has ${retention} retention: messages cannot be replayed once they have been read`,
      'Set METRICS_STREAM to a stream with limits retention.',
    );
  }
  if (sealed) {
    throw new BusError(
      `the stream ${name} is sealed: it takes no new messages`,
      'Set METRICS_STREAM to another stream.',
    );
  }
  const missing = uncovered(core.metricsSubjects, subjects);
  if (missing.length > 0) {
    throw new BusError(
      `the stream ${name} does not capture ${missing.join(', ')} (its subjects: ${subjects.join(', ')})`,
      `Add ${missing.join(', ')} to the stream's subjects, or remove the same subjects from METRICS_SUBJECTS.`,
    );
  }
  return facts(info);
}

function facts(info: StreamInfo): StreamFacts {
  const { config, state } = info;
  const isEmpty = state.messages === 0;
  const limit = (value: number | undefined) => (value !== undefined && value > 0 ? value : undefined);
  return {
    name: config.name,
    subjects: config.subjects ?? [],
    created: String(info.created),
    messages: state.messages,
    bytes: state.bytes,
    firstSequence: isEmpty ? state.last_seq + 1 : state.first_seq,
    lastSequence: state.last_seq,
    firstTime: isEmpty ? undefined : Date.parse(state.first_ts),
    lastTime: isEmpty ? undefined : Date.parse(state.last_ts),
    maxAgeMs: limit(config.max_age / NANOS_PER_MS),
    maxBytes: limit(config.max_bytes),
    maxMessages: limit(config.max_msgs),
    replicas: config.num_replicas,
  };
}
