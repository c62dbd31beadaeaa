/** The stream that captures the metrics: created if missing, checked if it exists, never altered. */

import {
  DiscardPolicy,
  type JetStreamManager,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
  type StreamSource,
  type StreamSourceInfo,
} from 'nats';
import { counted } from '../base/number-format.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { BusError, StreamUnfit } from './bus-error.ts';
import { type Capture, captureOf, mixedUp, notCaptured, storedPatterns } from './capture.ts';
import type { Bus } from './connect.ts';
import { earlyRemovals } from './early-removal.ts';
import { apiErrorCode, jetstreamError } from './errors.ts';
import { type Increments, incrementsOf } from './increments.ts';
import { jetStreamOptions, placeOfApi } from './jetstream-api.ts';
import type { MirrorState } from './read/mirror-level.ts';

/**
 * How long a stream must have been gone before it is made again. The server says that a stream is gone before it has
 * removed its files: one that is made at once can lose its own, and then stores nothing.
 */
export const REMAKE_WAIT_MS = 3_000;
const NANOS_PER_MS = 1_000_000;

/** The settings that describe the stream that the sources read. */
export type StreamConfigured = Pick<
  CoreConfig,
  | 'metricsStream'
  | 'metricsSubjects'
  | 'metricsStreamMaxAge'
  | 'metricsStreamMaxBytes'
  | 'metricsStreamNoAck'
  | 'metricsFormat'
>;

/** A stream's properties and contents, at the time of asking. Times are in milliseconds since 1970. */
export interface StreamFacts {
  readonly name: string;
  readonly subjects: readonly string[];
  /** The streams that it copies, with sequences and times of its own. */
  readonly sources: readonly string[];
  /** The stream whose sequences and times it has, and what it says about how far it is behind. */
  readonly mirror: (MirrorState & { readonly origin: string }) | undefined;
  readonly capture: Capture;
  /** When it was created: distinguishes it from another stream of the same name. */
  readonly created: string;
  readonly messages: number;
  readonly bytes: number;
  /** The sequence of its first message ever, whether it has come yet or not. */
  readonly beginSequence: number;
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
  /** After how long without requests the server removes a consumer at the latest; undefined if there is no limit. */
  readonly maxConsumerIdleMs: number | undefined;
  /** The settings by which it lets messages go early. */
  readonly removesEarly: readonly string[];
  readonly increments: Increments;
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

export function manager(bus: Pick<Bus, 'connection' | 'apiPrefix'>): Promise<JetStreamManager> {
  return bus.connection.jetstreamManager(jetStreamOptions(bus));
}

/** Rejects with a `BusError` if the stream does not exist or cannot be used. */
export async function describeStream(
  bus: Bus,
  core: Pick<StreamConfigured, 'metricsStream' | 'metricsSubjects'>,
): Promise<StreamFacts> {
  const info = await findStream(bus, core.metricsStream);
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
  const existing = await findStream(bus, core.metricsStream);
  if (existing) return checked(existing, core);
  try {
    const made = await (await manager(bus)).streams.add(configuration(core));
    const { metricsStream: stream, metricsSubjects: subjects, metricsStreamMaxAge: maxAgeMs } = core;
    const place = placeOfApi(bus);
    const where = place === '' ? {} : { place };
    bus.log.info({ stream, subjects, maxAgeMs, ...where }, 'created the stream');
    return facts(made);
  } catch (error) {
    // Another instance may have created it in the meantime, with other limits; the server reports that its name or its
    // subjects are taken.
    const raced = IN_THE_WAY.includes(apiErrorCode(error))
      ? await findStream(bus, core.metricsStream)
      : undefined;
    if (raced) return checked(raced, core);
    throw await creationError(error, bus, core);
  }
}

/**
 * Throws a `BusError` if a stream that was just made has a history: its messages are older than it is, or its sequences
 * do not begin where those of a new stream do. The server made it out of what was left of another. (A mirror has the
 * messages of its origin.)
 */
export function refuseHistory(facts: StreamFacts): void {
  const { name, created, firstTime, messages, lastSequence, beginSequence } = facts;
  if (facts.mirror !== undefined) return;
  const isOlder = firstTime !== undefined && firstTime < Date.parse(created);
  if (!isOlder && (messages > 0 || lastSequence < beginSequence)) return;
  throw new BusError(
    `the stream ${name} was made again, and has the history of another: ${counted(messages, 'message')}, the last sequence is ${lastSequence}`,
    `Delete it (nats stream rm ${name}). If that does not help, restart nats-server.`,
  );
}

/** Returns whether earlier messages than those that it holds were removed. */
export function isTruncated({ firstSequence, beginSequence }: StreamFacts): boolean {
  return firstSequence > beginSequence;
}

/** How fast a stream is filled shows only after some time. */
const MIN_SPAN_MS = 60_000;

/**
 * Returns for how long the stream can hold a message, in ms: by its limit of age, and by those of bytes and messages if
 * it is filled as it was since its first message. Undefined if it has no limit, or nobody can tell yet.
 */
export function holdsMs(facts: StreamFacts, now: number): number | undefined {
  const { maxAgeMs, maxBytes, maxMessages, firstTime = now, bytes, messages } = facts;
  const spanMs = now - firstTime;
  const filledIn = (limit: number | undefined, used: number) =>
    limit === undefined || spanMs < MIN_SPAN_MS || used === 0 ? Infinity : (spanMs * limit) / used;
  const least = Math.min(maxAgeMs ?? Infinity, filledIn(maxBytes, bytes), filledIn(maxMessages, messages));
  return Number.isFinite(least) ? least : undefined;
}

/** Rejects with a `BusError` if it cannot find out. */
export async function streamExists(bus: Bus, name: string): Promise<boolean> {
  return (await findStream(bus, name)) !== undefined;
}

/** Undefined if there is none. Rejects with a `BusError` if it cannot find out. */
export async function findStream(
  bus: Pick<Bus, 'connection' | 'apiPrefix'>,
  name: string,
): Promise<StreamInfo | undefined> {
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
    // Without it, the server refuses every increment; with it, all else.
    ...(core.metricsFormat === 'counter' && { allow_msg_counter: true }),
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

/** Finds the name of the stream that is in the way; undefined if there is none, or it cannot be found out. */
export async function overlapping(bus: Bus, core: StreamConfigured): Promise<string | undefined> {
  for (const subject of core.metricsSubjects) {
    const name = await (await manager(bus)).streams.find(subject).catch(() => undefined);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** Names streams that capture the subject; undefined if that cannot be found out. */
export async function capturing(bus: Bus, subject: string): Promise<readonly string[] | undefined> {
  try {
    return await (await manager(bus)).streams.names(subject).next();
  } catch {
    // Not everybody may ask.
    return undefined;
  }
}

/** Returns the facts of a stream. Throws a `StreamUnfit` if it cannot serve as the source of truth. */
function checked(info: StreamInfo, core: Pick<StreamConfigured, 'metricsSubjects'>): StreamFacts {
  const { name, retention, mirror, sealed } = info.config;
  if (mirror && isFiltered(mirror)) {
    throw new StreamUnfit(
      `the stream ${name} is a mirror of some subjects of ${mirror.name}: the messages that it skips could not be told from messages that are lost`,
      `Set METRICS_STREAM to a mirror of all that ${mirror.name} holds, or to a stream with ${mirror.name} as a source.`,
    );
  }
  if (retention !== RetentionPolicy.Limits) {
    throw new StreamUnfit(
      `the stream ${name} has ${retention} retention: messages cannot be replayed once they have been read`,
      'Set METRICS_STREAM to a stream with limits retention.',
    );
  }
  if (sealed) {
    throw new StreamUnfit(
      `the stream ${name} is sealed: it takes no new messages`,
      'Set METRICS_STREAM to another stream.',
    );
  }
  const capture = captureOf(info.config);
  const missing = notCaptured(core.metricsSubjects, capture);
  if (missing.length > 0) throw missingError(info.config, capture, missing);
  const [mixed] = mixedUp(core.metricsSubjects, capture);
  if (mixed !== undefined) {
    throw new StreamUnfit(
      `the stream ${name} stores ${mixed.subject} as ${mixed.stored}, together with other subjects`,
      `Set METRICS_SUBJECTS to what the stream stores: ${storedPatterns(capture).join(', ')}.`,
    );
  }
  return facts(info);
}

/** A mirror has the sequences of its origin. */
function isFiltered({ filter_subject, subject_transforms = [] }: StreamSource): boolean {
  const filters = [filter_subject, ...subject_transforms.map(({ src }) => src)];
  return filters.some((filter) => filter && filter !== '>');
}

function missingError(
  { name, subjects = [], sources = [], mirror }: StreamConfig,
  capture: Capture,
  missing: readonly string[],
): StreamUnfit {
  const them = missing.join(', ');
  const stored = storedPatterns(capture).join(', ');
  // A message that comes by a source and by a subject is stored twice: no advice to add subjects.
  if (sources.length > 0 || mirror) {
    return new StreamUnfit(
      `the stream ${name} can hold nothing of ${them} (it stores: ${stored})`,
      `Remove ${them} from METRICS_SUBJECTS, or name there what the stream stores.`,
    );
  }
  const asStored = stored === subjects.join(', ') ? '' : `; it stores: ${stored}`;
  return new StreamUnfit(
    `the stream ${name} does not capture ${them} (its subjects: ${subjects.join(', ')}${asStored})`,
    `Add ${them} to the stream's subjects, or remove the same subjects from METRICS_SUBJECTS.`,
  );
}

function mirrorOf({ name, lag, active, error }: StreamSourceInfo): StreamFacts['mirror'] {
  return { origin: name, lag, heardMsAgo: active / NANOS_PER_MS, isBroken: error !== undefined };
}

function facts(info: StreamInfo): StreamFacts {
  const { config, state } = info;
  const isEmpty = state.messages === 0;
  const limit = (value: number | undefined) => (value !== undefined && value > 0 ? value : undefined);
  return {
    name: config.name,
    subjects: config.subjects ?? [],
    sources: (config.sources ?? []).map(({ name }) => name),
    mirror: info.mirror && mirrorOf(info.mirror),
    capture: captureOf(config),
    created: String(info.created),
    messages: state.messages,
    bytes: state.bytes,
    // From 2.10 on. Older servers do not know it.
    beginSequence: Math.max(1, config.first_seq ?? 1),
    firstSequence: isEmpty ? state.last_seq + 1 : state.first_seq,
    lastSequence: state.last_seq,
    firstTime: isEmpty ? undefined : Date.parse(state.first_ts),
    lastTime: isEmpty ? undefined : Date.parse(state.last_ts),
    maxAgeMs: limit(config.max_age / NANOS_PER_MS),
    maxBytes: limit(config.max_bytes),
    maxMessages: limit(config.max_msgs),
    maxConsumerIdleMs: limit((config.consumer_limits?.inactive_threshold ?? 0) / NANOS_PER_MS),
    removesEarly: earlyRemovals(config),
    increments: incrementsOf(config),
    replicas: config.num_replicas,
  };
}
