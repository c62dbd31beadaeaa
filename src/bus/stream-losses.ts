/**
 * What can keep a published message out of a stream, or take it out before it is read: as far as the limits of the
 * stream, of its account and of the server tell.
 */
import {
  DiscardPolicy,
  type JetStreamAccountStats,
  nanos,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from 'nats';
import { bytes, counted, percent, seconds } from '../base/number-format.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import type { Bus } from './connect.ts';
import { jetstreamError } from './errors.ts';
import { incrementsOf, incrementsProblem } from './increments.ts';
import { isNatsOlder } from './nats-version.ts';
import { findStream, manager } from './stream.ts';

/** One way to lose messages. */
export interface Loss {
  readonly detail: string;
  /** An imperative sentence; empty if there is nothing to do until somebody publishes too fast. */
  readonly advice: string;
  /** It loses what is published from now on, not some day. */
  readonly isNow: boolean;
}

export interface LossFacts {
  readonly info: StreamInfo;
  /** Undefined if the account could not be asked. */
  readonly account: JetStreamAccountStats | undefined;
  /** Of the server that we are connected to, in bytes. */
  readonly maxPayload: number;
  /** By the local clock. */
  readonly now: number;
}

interface Wanted extends Pick<CoreConfig, 'maxMessageBytes' | 'metricsStreamMaxAge' | 'metricsFormat'> {
  /** The longest windows of a sink, if any has windows of its own. */
  readonly longestWindowMs?: number | undefined;
}

/** A limit that what is published uses up. */
interface Store {
  readonly name: string;
  readonly used: number;
  readonly limit: number;
  readonly unit: (value: number) => string;
  /** What one message takes of it. */
  readonly each: number;
  readonly raise: string;
}

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
/** From this share on, a limit counts as nearly reached. */
const NEARLY = 0.8;
/** What came in less time than this says nothing about the hours to come. */
const MIN_SPAN_MS = 600_000;
/** What nats-server takes if nobody says otherwise. */
const DEFAULT_DEDUPLICATION = nanos(120_000);
/** From these versions on, a stream lets this many plain publishes wait. Newest first. */
const MAX_BUFFERED_MESSAGES = [
  ['2.12', 100_000],
  ['2.11', 10_000],
] as const;
const MAX_BUFFERED_BYTES = 128_000_000;

/** What could be found out. */
export interface Losses {
  readonly losses: readonly Loss[];
  /** Why the limits of the account are not known; undefined if they are. */
  readonly unknown: string | undefined;
}

/** Only looks. Returns undefined if there is no stream; rejects with a `BusError` if it cannot be looked up. */
export async function findLosses(
  bus: Bus,
  core: Wanted & Pick<CoreConfig, 'metricsStream'>,
): Promise<Losses | undefined> {
  const info = await findStream(bus, core.metricsStream);
  if (info === undefined) return undefined;
  let unknown: string | undefined;
  const account = await (await manager(bus)).getAccountInfo().catch((error: unknown) => {
    unknown = jetstreamError(error, 'asking for the limits of the account').message;
    return undefined;
  });
  const maxPayload = bus.connection.info!.max_payload;
  return { losses: lossesOf({ info, account, maxPayload, now: Date.now() }, core), unknown };
}

/** Each that is there for these settings; none where all is well. */
export function lossesOf(facts: LossFacts, wanted: Wanted): Loss[] {
  const found = [
    buffered(facts.info),
    ...fullStream(facts, wanted),
    fullAccount(facts, wanted),
    sealed(facts.info),
    incrementsProblem(incrementsOf(facts.info.config), wanted),
    ...sizes(facts, wanted),
    fullSubject(facts.info),
    shortAge(facts.info, wanted),
    inMemory(facts.info),
    deduplication(facts.info),
  ];
  return found.filter((loss) => loss !== undefined);
}

function later(detail: string, advice: string): Loss {
  return { detail, advice, isNow: false };
}

/** Servers before 2.11 do not say which version they are, and drop nothing. */
function buffered({ config }: StreamInfo): Loss | undefined {
  const version = config.metadata?.['_nats.ver'];
  if (version === undefined) return undefined;
  const limit = MAX_BUFFERED_MESSAGES.find(([since]) => !isNatsOlder(version, since));
  if (limit === undefined) return undefined;
  const most = `${counted(limit[1], 'message')} or ${bytes(MAX_BUFFERED_BYTES)}`;
  return later(
    `nats-server ${version} drops plain publishes when ${most} wait for the stream, unless max_buffered_msgs and max_buffered_size of its jetstream block say otherwise`,
    '',
  );
}

function fullStream(facts: LossFacts, { metricsStreamMaxAge }: Wanted): (Loss | undefined)[] {
  const { config, state } = facts.info;
  const isRefusing = config.discard === DiscardPolicy.New;
  const wantedMs = config.max_age > 0 ? config.max_age / nanos(1) : metricsStreamMaxAge;
  return storesOf(facts.info).map((store) => {
    const { name, limit, unit } = store;
    if (limit <= 0) return undefined;
    if (isRefusing) return refusing(store, facts, `discard: new refuses what comes`, 'Set discard: old. ');
    const keptMs = (limit / store.used) * ageOf(facts);
    const isFull = store.used + store.each > NEARLY * limit;
    if (state.messages === 0 || keptMs >= wantedMs || !(isFull || ageOf(facts) >= MIN_SPAN_MS))
      return undefined;
    const [kept, all] = [keptMs, wantedMs].map((ms) => seconds(ms / SECOND_MS));
    return later(
      `${name} (${unit(limit)}) leaves about the last ${kept}, not ${all}`,
      `${store.raise}: a service or a store that is away for longer misses messages.`,
    );
  });
}

function storesOf({ config, state }: StreamInfo): Store[] {
  const each = state.messages === 0 ? 0 : state.bytes / state.messages;
  const raise = (name: string) => `Raise ${name} of the stream`;
  return [
    {
      name: 'max_msgs',
      used: state.messages,
      limit: config.max_msgs,
      unit: (value) => counted(value, 'message'),
      each: 1,
      raise: raise('max_msgs'),
    },
    {
      name: 'max_bytes',
      used: state.bytes,
      limit: config.max_bytes,
      unit: bytes,
      each,
      raise: raise('max_bytes'),
    },
  ];
}

/** How far back what the stream holds reaches. */
function ageOf({ info: { state }, now }: LossFacts): number {
  return Math.max(0, now - Date.parse(state.first_ts));
}

/** A limit at which messages are refused, instead of the oldest removed. */
function refusing(
  { name, used, limit, unit, each, raise }: Store,
  facts: LossFacts,
  then: string,
  or: string,
) {
  const advice = `${or}${raise}.`;
  const { messages } = facts.info.state;
  if (used + each > limit) return { detail: `${name} is reached, and ${then}`, advice, isNow: true };
  const leftMs = (ageOf(facts) * (limit - used)) / used;
  const isKnown = messages > 0 && ageOf(facts) >= MIN_SPAN_MS && Number.isFinite(leftMs);
  const soon = isKnown ? `, in about ${seconds(leftMs / SECOND_MS)}` : '';
  return later(
    `when ${name} (${unit(limit)}) is reached, ${then}: now ${percent(used / limit)}${soon}`,
    advice,
  );
}

/** Once an account has used up its storage, no stream of it stores anything, whatever its `discard` says. */
function fullAccount(facts: LossFacts, { metricsStreamMaxAge }: Wanted): Loss | undefined {
  const { info, account } = facts;
  if (account === undefined) return undefined;
  const { config, state } = info;
  const tier = (account.tiers as Record<string, JetStreamAccountStats> | undefined)?.[
    `R${config.num_replicas}`
  ];
  const { memory, storage, limits } = tier ?? account;
  const isFile = config.storage === StorageType.File;
  const name = isFile ? 'max_file' : 'max_mem';
  const [used, limit] = isFile ? [storage, limits.max_storage] : [memory, limits.max_memory];
  if (limit <= 0) return undefined;
  const each = state.messages === 0 ? 0 : state.bytes / state.messages;
  const raise = `Raise ${name} of the account, or set a lower max_bytes or max_age for its streams`;
  const store = { name: `${name} of the account`, used, limit, unit: bytes, each, raise };
  const wantedMs = config.max_age > 0 ? config.max_age / nanos(1) : metricsStreamMaxAge;
  const isKnown = state.messages > 0 && ageOf(facts) >= MIN_SPAN_MS;
  const grown = isKnown ? state.bytes * (wantedMs / ageOf(facts)) : state.bytes;
  const most = config.max_bytes > 0 ? Math.min(grown, config.max_bytes) : grown;
  if (used < NEARLY * limit && used - state.bytes + Math.max(most, state.bytes) <= limit) return undefined;
  return refusing(store, facts, 'no stream of it stores anything', '');
}

function sealed({ config }: StreamInfo): Loss | undefined {
  if (!config.sealed) return undefined;
  const advice = 'Make another stream: a sealed one stays so.';
  return { detail: 'the stream is sealed, and stores nothing', advice, isNow: true };
}

function sizes(
  { info: { config }, maxPayload }: LossFacts,
  { maxMessageBytes }: Wanted,
): (Loss | undefined)[] {
  const least = Math.min(maxPayload, maxMessageBytes);
  const { max_msg_size: size } = config;
  return [
    size > 0 && size < least
      ? later(
          `messages of more than ${bytes(size)} are refused (max_msg_size)`,
          'Unset max_msg_size of the stream.',
        )
      : undefined,
    maxPayload < maxMessageBytes
      ? later(
          `the server takes no message of more than ${bytes(maxPayload)} (max_payload), and ends the connection of whoever sends one`,
          'Let producers send smaller messages, or raise max_payload of the server. If all of them are smaller, set MAX_MESSAGE_BYTES to it.',
        )
      : undefined,
    maxPayload > maxMessageBytes && !(size > 0 && size <= maxMessageBytes)
      ? later(
          `the service rejects messages of more than ${bytes(maxMessageBytes)} (MAX_MESSAGE_BYTES), and the server takes up to ${bytes(maxPayload)} (max_payload)`,
          'Raise MAX_MESSAGE_BYTES, or lower max_payload, which a producer is told of.',
        )
      : undefined,
  ];
}

/** With `discard: old`, the oldest messages of a subject go: see `earlyRemovals`. */
function fullSubject({ config }: StreamInfo): Loss | undefined {
  const { discard_new_per_subject: isRefusing, max_msgs_per_subject: limit } = config;
  if (!isRefusing || limit <= 0) return undefined;
  return later(
    `a subject that has ${counted(limit, 'message')} takes no more (max_msgs_per_subject, discard_new_per_subject)`,
    'Unset max_msgs_per_subject of the stream.',
  );
}

function shortAge(
  { config: { max_age: age } }: StreamInfo,
  { longestWindowMs = 0 }: Wanted,
): Loss | undefined {
  const removed = `messages are removed after ${seconds(age / nanos(SECOND_MS))} (max_age)`;
  // After a restart near the end of a window, all of it is read again.
  if (age > 0 && age < nanos(2 * longestWindowMs))
    return later(
      `${removed}, and windows of a sink are ${seconds(longestWindowMs / SECOND_MS)} long`,
      'Raise max_age of the stream to twice the longest SINK_<ID>_WINDOW at least: after a restart, a window is made anew from its start.',
    );
  if (age <= 0 || age >= nanos(HOUR_MS)) return undefined;
  return later(
    removed,
    'Raise max_age of the stream: a service or a store that is away for longer misses messages.',
  );
}

function inMemory({ config }: StreamInfo): Loss | undefined {
  if (config.storage === StorageType.File || config.num_replicas > 1) return undefined;
  return later(
    'a restart of the server loses what the stream holds (storage: memory)',
    'Make a stream with storage: file.',
  );
}

function deduplication({ config }: StreamInfo): Loss | undefined {
  // From 2.10 on, a stream without subjects has none.
  const { duplicate_window: window = 0, max_age: age } = config as Partial<StreamConfig>;
  // The server makes it no longer than max_age.
  if (window === DEFAULT_DEDUPLICATION || window === 0 || window === age) return undefined;
  const length = seconds(window / nanos(SECOND_MS));
  return window > DEFAULT_DEDUPLICATION
    ? later(
        `a message with the Nats-Msg-Id of another one within ${length} is not stored (duplicate_window)`,
        'Give each message an id of its own.',
      )
    : later(
        `a message that is published again after more than ${length} counts twice (duplicate_window)`,
        'Raise duplicate_window of the stream to as long as producers try again.',
      );
}
