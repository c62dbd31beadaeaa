/** Checkpoints in a NATS key-value bucket: one key per pipeline, sink and slice, written with compare-and-set. */

import type { KV } from 'nats';
import { lengthText } from '../../aggregate/coarse-tiling.ts';
import type { WindowShape } from '../../aggregate/tiling.ts';
import type { Config } from '../../config/config.ts';
import { areRules } from '../../decode/shaping-rules.ts';
import { BusError, OtherWindows, UnreadableCheckpoint } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { jetstreamError } from '../errors.ts';
import { isKnownSubjects, rememberSubjects } from '../read/known-subjects.ts';
import { isStoredStrange } from '../read/strange-messages.ts';
import type { StoredTrail } from '../read/trail.ts';
import {
  BUCKET,
  Bucket,
  bucketExists,
  isConflict,
  keysUnder,
  MAX_CONFLICTS,
  MAX_VALUE_BYTES,
} from './bucket.ts';

/** How far a sink has got. */
export interface Checkpoint {
  /** Start (ms since 1970) of the first window that is not confirmed; all earlier windows are (I5). */
  readonly next: number;
  /** Start of the first window that the sink ever got; absent if the sink began with an older version. */
  readonly began?: number | undefined;
  /**
   * The sequence up to which the stream had been read when the windows before `next` were closed. Later messages are
   * news.
   */
  readonly sequence: number;
  /**
   * What was read of the stream until then, to notice a rollback; absent if an older version saved the checkpoint.
   * Until everything that a rollback touches is rewritten, the stored checkpoint keeps the trail that shows it.
   */
  readonly trail?: StoredTrail | undefined;
  /** The identity of the store that has these windows; absent if it has none, or an older version saved this. */
  readonly store?: string | undefined;
  /**
   * By writer: the receipts that the store had when this was saved, see `Sink.receipt`. If it has an older one, or
   * none, it holds older content. Absent if it keeps none, or an older version saved this.
   */
  readonly receipts?: Readonly<Record<string, number>> | undefined;
  /** The latest windows that an operator had it skip: half-open ranges, in ms since 1970. Absent if there are none. */
  readonly skipped?: readonly (readonly [from: number, to: number])[] | undefined;
  /**
   * Which names the sink got, and from which window on, ascending. Absent if it has always got all names, or if an
   * older version saved this, which gives it all names.
   */
  readonly choices?: readonly NameChoice[] | undefined;
  /**
   * How long the sink's own windows are (SINK_<ID>_WINDOW), in ms. Absent if they are those of the pipeline, or if an
   * older version saved this, which gives it these.
   */
  readonly window?: number | undefined;
  /** The settings that shaped the windows. */
  readonly shape: CheckpointShape;
  /** RFC 3339. */
  readonly savedAt: string;
}

/** Which names a sink gets from a window on. */
export interface NameChoice {
  /** Start of the first window, in ms since 1970. */
  readonly from: number;
  /** Globs; empty: all names. */
  readonly names: readonly string[];
  /** It holds for the windows of this slice only, such as 0/2; absent: for all. */
  readonly slice?: string;
}

/** For instances that give a sink different names. */
export const SAME_NAMES_ADVICE =
  'Give all instances the same SINK_<ID>_NAMES. While they are restarted one by one, this passes.';

export interface CheckpointShape extends WindowShape {
  /** For example 0/1. */
  readonly slice: string;
}

export interface StoredCheckpoint {
  readonly sink: string;
  readonly slice: string;
  readonly checkpoint: Checkpoint;
}

/** What the bucket holds of a pipeline. */
export interface CheckpointSurvey {
  readonly stored: readonly StoredCheckpoint[];
  /**
   * By sink: why it is not known how far it has got. Its own checkpoint cannot be read, or it has none, and that of
   * another slice cannot be read.
   */
  readonly unreadable: ReadonlyMap<string, UnreadableCheckpoint>;
}

/** All calls reject with a `BusError` in bounded time if the store is down or holds something else. */
export interface CheckpointStore {
  load(sink: string): Promise<Checkpoint | undefined>;
  /**
   * Saves a checkpoint; it never moves backwards. Resolves to 'superseded' if the stored `next` is at or past that of
   * `checkpoint`.
   */
  save(sink: string, checkpoint: Checkpoint): Promise<'saved' | 'superseded'>;
  /** Resolves to the checkpoints of the pipeline, for every slice, of these sinks only, or of all. */
  list(sinks?: readonly string[]): Promise<StoredCheckpoint[]>;
}

/** The store that the service uses. */
export interface SurveyedStore extends CheckpointStore {
  /** As `list`, but an unreadable checkpoint concerns only its sink. `save` rejects for that sink until it is gone. */
  survey(): Promise<CheckpointSurvey>;
}

type Configured = Pick<Config['core'], 'pipeline' | 'slice'>;

/**
 * `replicas`: used if the bucket has to be created. As many as the stream has, or the bucket would not survive what the
 * stream survives.
 */
export function createCheckpointStore(
  bus: Bus,
  core: Configured,
  replicas: number,
  windows?: SinkWindows,
): SurveyedStore {
  return new BucketStore(bus, core, replicas, windows);
}

/**
 * By sink: how long its own windows are (undefined: as those of the pipeline). Checkpoints of other windows then count
 * as unreadable, and none of these is overwritten: rows of both in one table would count all twice.
 */
export type SinkWindows = ReadonlyMap<string, number | undefined>;

/**
 * Lets the sources of this connection count what the service, by its checkpoints, knows to count: a stream that was
 * changed holds messages under subjects that it stores no longer. Never rejects: then they are left out, and that is
 * said.
 */
export async function learnSubjects(bus: Bus, core: Configured): Promise<void> {
  try {
    const stored = (await bucketExists(bus)) ? await createCheckpointStore(bus, core, 1).survey() : undefined;
    for (const { checkpoint } of stored?.stored ?? []) {
      const { trail } = checkpoint;
      if (trail?.subjects !== undefined) rememberSubjects(bus, trail.created, trail.subjects);
    }
  } catch (error) {
    const { message: reason } = jetstreamError(error, 'reading the checkpoints');
    bus.log.warn(
      { reason },
      'what the stream stored under other subjects, before somebody changed it, is not counted here',
    );
  }
}

interface Stored {
  readonly revision: number;
  readonly checkpoint: Checkpoint | undefined;
}

class BucketStore implements SurveyedStore {
  readonly #bus: Bus;
  readonly #core: Configured;
  readonly #bucket: Bucket;
  readonly #known = new Map<string, Stored>();
  /** By sink: keys of other slices that could not be read, and without which it is unknown how far the sink has got. */
  readonly #inDoubt = new Map<string, readonly string[]>();
  /** By key: the revision that we wrote last. What is there before that may be ours, from before a restart. */
  readonly #written = new Map<string, number>();
  /** Keys to which another instance writes that gives the sink other names. */
  readonly #otherNames = new Set<string>();
  readonly #windows: SinkWindows;

  constructor(bus: Bus, core: Configured, replicas: number, windows: SinkWindows = new Map()) {
    this.#bus = bus;
    this.#core = core;
    this.#windows = windows;
    this.#bucket = new Bucket(bus, replicas);
  }

  load(sink: string): Promise<Checkpoint | undefined> {
    const key = this.#key(sink);
    return this.#call(`reading the checkpoint ${key}`, async (bucket) => {
      const stored = await read(bucket, key);
      this.#checkWindow(key, stored.checkpoint);
      this.#known.set(key, stored);
      return stored.checkpoint;
    });
  }

  save(sink: string, checkpoint: Checkpoint): Promise<'saved' | 'superseded'> {
    const key = this.#key(sink);
    return this.#call(`writing the checkpoint ${key}`, async (bucket) => {
      for (const other of this.#inDoubt.get(sink) ?? [])
        this.#checkWindow(other, (await read(bucket, other)).checkpoint);
      this.#inDoubt.delete(sink);
      return await this.#write(bucket, key, checkpoint);
    });
  }

  async #write(bucket: KV, key: string, checkpoint: Checkpoint): Promise<'saved' | 'superseded'> {
    const value = JSON.stringify(storable(checkpoint));
    const isPast = ({ checkpoint: other }: Stored) => other !== undefined && other.next >= checkpoint.next;
    let stored = this.#known.get(key);
    // What we remember may be out of date. For a write, a conflict shows that; before skipping the write, only reading
    // does.
    if (stored === undefined || isPast(stored)) stored = await read(bucket, key);
    this.#compareNames(key, stored, checkpoint);
    for (let conflicts = 0; conflicts <= MAX_CONFLICTS; conflicts++) {
      this.#checkWindow(key, stored.checkpoint);
      this.#known.set(key, stored);
      if (isPast(stored)) return 'superseded';
      try {
        const revision = await bucket.put(key, value, { previousSeq: stored.revision });
        this.#known.set(key, { revision, checkpoint });
        this.#written.set(key, revision);
        return 'saved';
      } catch (error) {
        if (!isConflict(error)) throw error;
        stored = await read(bucket, key);
        this.#compareNames(key, stored, checkpoint);
      }
    }
    throw new BusError(
      `writing the checkpoint ${key}: other writers came first more than ${MAX_CONFLICTS} times`,
      'Check that only one deployment uses this PIPELINE.',
    );
  }

  /** Throws an `OtherWindows` if it is of other windows than the sink has now. */
  #checkWindow(key: string, checkpoint: Checkpoint | undefined): void {
    const { sink = '' } = ownerOf(key) ?? {};
    const windowMs = this.#windows.get(sink);
    if (checkpoint === undefined || !this.#windows.has(sink) || checkpoint.window === windowMs) return;
    const variable = `SINK_${sink.toUpperCase()}_WINDOW`;
    const [had, has] = [lengthText(checkpoint.window), lengthText(windowMs)];
    throw new OtherWindows(
      `the checkpoint ${key} in the key-value bucket ${BUCKET} is of windows of ${had}, and by ${variable} the sink has windows of ${has}`,
      `Set ${variable} back${checkpoint.window === undefined ? ': leave it out' : ''}. Or add a sink with another id and another table. Or let this one begin anew: give it another table, or empty its table, and then remove the checkpoint with metrics-fanout checkpoint reset --sink ${sink} (while the service runs: metrics-fanout ctl checkpoint reset --sink ${sink}).`,
      checkpoint.next,
    );
  }

  /** Both write what they are to, so nothing is missing, but the store gets the names of both. */
  #compareNames(key: string, { revision, checkpoint: other }: Stored, own: Checkpoint): void {
    const isOthers = revision > (this.#written.get(key) ?? Number.POSITIVE_INFINITY);
    if (!isOthers) return;
    const namesOf = ({ choices }: Checkpoint) => JSON.stringify(choices?.at(-1)?.names ?? []);
    if (other === undefined || this.#otherNames.has(key) || namesOf(other) === namesOf(own)) return;
    this.#otherNames.add(key);
    const names = {
      ours: own.choices?.at(-1)?.names ?? 'all',
      theirs: other.choices?.at(-1)?.names ?? 'all',
    };
    this.#bus.log.warn(
      { key, ...names, advice: SAME_NAMES_ADVICE },
      'another instance gives this sink other names',
    );
  }

  async list(sinks?: readonly string[]): Promise<StoredCheckpoint[]> {
    const { found, bad } = await this.#all(sinks);
    for (const { error } of bad) throw error;
    return found.map(withoutKey);
  }

  async survey(): Promise<CheckpointSurvey> {
    const { found, bad } = await this.#all(undefined, (key, checkpoint) =>
      this.#checkWindow(key, checkpoint),
    );
    const unreadable = new Map<string, UnreadableCheckpoint>();
    for (const { sink, key, error } of bad) {
      const own = this.#key(sink);
      if (found.some((other) => other.key === own)) continue;
      if (key === own || !unreadable.has(sink)) unreadable.set(sink, error);
      if (key !== own) this.#inDoubt.set(sink, [...(this.#inDoubt.get(sink) ?? []), key]);
    }
    return { stored: found.map(withoutKey), unreadable };
  }

  /** Reads the checkpoints of the pipeline, of these sinks, or of all. */
  #all(
    sinks?: readonly string[],
    check: (key: string, checkpoint: Checkpoint | undefined) => void = () => {},
  ) {
    return this.#call('listing the checkpoints', async (bucket) => {
      const found: (StoredCheckpoint & { readonly key: string })[] = [];
      const bad: { readonly sink: string; readonly key: string; readonly error: UnreadableCheckpoint }[] = [];
      for (const key of await keysUnder(this.#bus, this.#core.pipeline)) {
        const owner = ownerOf(key);
        if (owner === undefined || sinks?.includes(owner.sink) === false) continue;
        try {
          const { checkpoint } = await read(bucket, key);
          check(key, checkpoint);
          if (checkpoint) found.push({ key, ...owner, checkpoint });
        } catch (error) {
          if (!(error instanceof UnreadableCheckpoint)) throw error;
          bad.push({ sink: owner.sink, key, error });
        }
      }
      return { found: found.sort((a, b) => (a.sink + a.slice < b.sink + b.slice ? -1 : 1)), bad };
    });
  }

  #key(sink: string): string {
    const { pipeline, slice } = this.#core;
    return `${pipeline}.${sink}.${slice.index}-${slice.of}`;
  }

  async #call<T>(doing: string, work: (bucket: KV) => Promise<T>): Promise<T> {
    try {
      return await this.#bucket.call(doing, work);
    } catch (error) {
      // The bucket may have been deleted, which makes what we remember worthless.
      this.#known.clear();
      throw error;
    }
  }
}

function withoutKey({ sink, slice, checkpoint }: StoredCheckpoint): StoredCheckpoint {
  return { sink, slice, checkpoint };
}

/** A missing key has revision 0; a deleted key has the revision of its deletion. */
async function read(bucket: KV, key: string): Promise<Stored> {
  const entry = await bucket.get(key);
  if (entry === null) return { revision: 0, checkpoint: undefined };
  if (entry.operation !== 'PUT') return { revision: entry.revision, checkpoint: undefined };
  return { revision: entry.revision, checkpoint: parseCheckpoint(key, entry.string()) };
}

/** The headers of the message that holds it count as well. */
const MAX_CHECKPOINT_BYTES = MAX_VALUE_BYTES - 256;

/**
 * Returns what of a checkpoint the bucket takes: all, unless long rules, subjects and choices of names come together.
 * Then the oldest of these choices are left out, and if that is not enough, the subjects: neither is missed while
 * nothing goes wrong.
 */
function storable(checkpoint: Checkpoint): Checkpoint {
  const fits = (some: Checkpoint) => Buffer.byteLength(JSON.stringify(some)) <= MAX_CHECKPOINT_BYTES;
  let least = checkpoint;
  while (!fits(least) && (least.choices?.length ?? 0) > 1)
    least = { ...least, choices: least.choices!.slice(1) };
  if (fits(least) || least.trail === undefined) return least;
  const { subjects: _, ...trail } = least.trail;
  return { ...least, trail };
}

/** Returns whose checkpoint a key of the bucket holds; undefined if it is not the key of a checkpoint. */
export function ownerOf(key: string): { readonly sink: string; readonly slice: string } | undefined {
  const [, sink, slice] = key.split('.');
  // A pipeline named `shapes` finds the shapes of all pipelines among its checkpoints.
  return sink && slice ? { sink, slice: slice.replace('-', '/') } : undefined;
}

/** Throws an `UnreadableCheckpoint`. */
export function parseCheckpoint(key: string, text: string): Checkpoint {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (isCheckpoint(value)) return value;
  const { sink = '', slice = '' } = ownerOf(key) ?? {};
  throw new UnreadableCheckpoint(
    `the checkpoint ${key} in the key-value bucket ${BUCKET} is not valid`,
    `Remove it: metrics-fanout checkpoint reset --sink ${sink} --slice ${slice} shows what that does, and does it with --yes. Or use nats kv get ${BUCKET} ${key} and nats kv del ${BUCKET} ${key}. A running service that has used the checkpoint goes on where it was, and a sink that was stopped at the start begins as if it never had one.`,
  );
}

function isCheckpoint(value: unknown): value is Checkpoint {
  const checkpoint = value as Partial<Checkpoint> | null | undefined;
  const shape = checkpoint?.shape as Partial<CheckpointShape> | null | undefined;
  return (
    isTime(checkpoint?.next) &&
    Number.isSafeInteger(checkpoint?.sequence) &&
    (checkpoint?.began === undefined || isTime(checkpoint.began)) &&
    (checkpoint?.trail === undefined || isTrail(checkpoint.trail)) &&
    ['string', 'undefined'].includes(typeof checkpoint?.store) &&
    (checkpoint?.receipts === undefined || isReceipts(checkpoint.receipts)) &&
    (checkpoint?.skipped === undefined || isSkipped(checkpoint.skipped)) &&
    (checkpoint?.choices === undefined || areChoices(checkpoint.choices)) &&
    isAtLeast(1, checkpoint?.window ?? 1) &&
    typeof checkpoint?.savedAt === 'string' &&
    isAtLeast(1, shape?.windowMs) &&
    isAtLeast(0, shape?.latenessMs) &&
    isAtLeast(0, shape?.maxAheadMs) &&
    isAtLeast(1, shape?.maxSeries) &&
    isAtLeast(1, shape?.maxSeriesBytes ?? 1) &&
    typeof shape?.slice === 'string'
  );
}

function isSkipped(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every((range) => Array.isArray(range) && range.length === 2 && range.every(isTime))
  );
}

function areChoices(value: unknown): boolean {
  if (!Array.isArray(value)) return false;
  const choices: readonly (Partial<NameChoice> | null)[] = value;
  return choices.every(
    (choice) =>
      isTime(choice?.from) &&
      (choice?.slice === undefined || /^\d+\/[1-9]\d*$/.test(String(choice.slice))) &&
      areNames(choice?.names),
  );
}

function areNames(names: unknown): boolean {
  return Array.isArray(names) && (names.length === 0 || areRules('names', names));
}

function isReceipts(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.values(value).every(isTime);
}

function isTrail(value: unknown): value is StoredTrail {
  const trail = value as Partial<StoredTrail> | null;
  if (typeof trail?.created !== 'string' || !Array.isArray(trail.marks)) return false;
  if (trail.subjects !== undefined && !isKnownSubjects(trail.subjects)) return false;
  if (trail.strange !== undefined && !isStoredStrange(trail.strange)) return false;
  return trail.marks.every(
    (mark) =>
      Array.isArray(mark) && Number.isSafeInteger(mark[0]) && mark.slice(1).every(isTime) && mark.length > 1,
  );
}

/** Milliseconds that a `Date` can hold: others would make every log line about them throw. */
function isTime(value: unknown): boolean {
  return Number.isSafeInteger(value) && !Number.isNaN(new Date(value as number).getTime());
}

function isAtLeast(least: number, value: unknown): boolean {
  return Number.isFinite(value) && (value as number) >= least;
}
