/** The operations that an instance offers, and the form of their requests. Pure. */
import { parseDuration, parseTime } from '../base/time-text.ts';
import { MAX_BY, MAX_RANGES, MAX_WHERE, RECENT_MS, type RecentQuestion } from '../recent/question.ts';
import type { TimeRange } from '../recent/ranges.ts';
import { parseFilter } from '../tap/filters.ts';
import { Refusal } from './refusal.ts';

/** A request is a few names and times. More is a mistake, or an attack. */
export const MAX_REQUEST_BYTES = 16 * 1024;
const MAX_TEXT_CHARACTERS = 256;
const MAX_URL_CHARACTERS = 2048;
/** Of a profile, in seconds. */
export const MAX_PROFILE_SECONDS = 60;
/** A replay or a verification reads the whole range. More than a stream is kept for is a mistake. */
export const MAX_RANGE_MS = 31 * 24 * 3_600_000;

interface Field<T> {
  /** Returns undefined if the value is invalid. */
  readonly parse: (value: unknown) => T | undefined;
  /** Follows "expected". */
  readonly expected: string;
  readonly isOptional: boolean;
}

type Fields = Readonly<Record<string, Field<unknown>>>;
export type FieldValues<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

function field<T>(expected: string, parse: (value: unknown) => T | undefined): Field<T> {
  return { parse, expected, isOptional: false };
}

function optional<T>({ parse, expected }: Field<T>): Field<T | undefined> {
  return { parse, expected, isOptional: true };
}

const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value.length >= 1 && value.length <= max;

const text = field(`text of at most ${MAX_TEXT_CHARACTERS} characters`, (value) =>
  isText(value, MAX_TEXT_CHARACTERS) ? value : undefined,
);
const url = field(`a URL of at most ${MAX_URL_CHARACTERS} characters`, (value) =>
  isText(value, MAX_URL_CHARACTERS) && URL.canParse(value) ? value : undefined,
);
const time = field('an RFC 3339 time such as 2026-11-23T01:30:00Z', (value) =>
  isText(value, MAX_TEXT_CHARACTERS) ? parseTime(value) : undefined,
);
const flag = field('true or false', (value) => (typeof value === 'boolean' ? value : undefined));
const seconds = field(`a number from 1 to ${MAX_PROFILE_SECONDS}`, (value) =>
  typeof value === 'number' && value >= 1 && value <= MAX_PROFILE_SECONDS ? value : undefined,
);

const texts = (what: string, max: number, isGood: (text: string) => boolean) =>
  field(`at most ${max} ${what}, of at most ${MAX_TEXT_CHARACTERS} characters each`, (value) => {
    if (!Array.isArray(value) || value.length > max) return undefined;
    const given: readonly unknown[] = value;
    return given.every((each) => isText(each, MAX_TEXT_CHARACTERS) && isGood(each))
      ? (given as readonly string[])
      : undefined;
  });
const where = texts('filters such as app=api or status=5*', MAX_WHERE, (each) => each.indexOf('=') > 0);
const by = texts('keys of dimensions', MAX_BY, () => true);
const last = field('a time from 1ms to 1h, such as 5m', (value) => {
  const ms = isText(value, MAX_TEXT_CHARACTERS) ? parseDuration(value) : undefined;
  return ms !== undefined && ms > 0 && ms <= RECENT_MS ? ms : undefined;
});
/** Pairs of times. */
const ranges = field(`at most ${MAX_RANGES} pairs of RFC 3339 times`, (value) => {
  if (!Array.isArray(value) || value.length > MAX_RANGES) return undefined;
  const given = value.map((pair: unknown): TimeRange | undefined => {
    const [from, to] = Array.isArray(pair) && pair.length === 2 ? pair.map(time.parse) : [];
    return from !== undefined && to !== undefined && from < to ? { from, to } : undefined;
  });
  return given.includes(undefined) ? undefined : (given as readonly TimeRange[]);
});

/** In every request: only instances of that pipeline answer. */
const everywhere = { pipeline: optional(text) };
/** In requests that start a task. */
const task = { ...everywhere, callback: optional(url) };
/** In those that change something only with `yes`, and even if others may undo it only with `force`. */
const confirmed = { ...task, yes: optional(flag), force: optional(flag) };

/** By name. `fields`: the fields that a request may have. */
export const OPERATIONS = {
  status: { summary: 'show everything about the instance', fields: everywhere },
  config: { summary: 'show its settings, with secrets masked', fields: everywhere },
  query: {
    summary: 'add up the closed windows of the last hour that it has in memory',
    fields: {
      ...everywhere,
      name: optional(text),
      where: optional(where),
      by: optional(by),
      last: optional(last),
      from: optional(time),
      to: optional(time),
      ranges: optional(ranges),
      sketches: optional(flag),
    },
  },
  cardinality: {
    summary: 'show which names and dimensions have how many series, and since when',
    fields: everywhere,
  },
  'sink.pause': {
    summary: 'stop writing to a sink until it is resumed',
    fields: { ...everywhere, sink: text },
  },
  'sink.resume': { summary: 'resume a paused sink', fields: { ...everywhere, sink: text } },
  'checkpoint.list': {
    summary: 'show how far each sink has got, by the checkpoints of the pipeline',
    fields: { ...everywhere, sink: optional(text) },
  },
  'checkpoint.reset': {
    summary: 'have a sink begin again by its START',
    fields: { ...confirmed, sink: text },
  },
  'checkpoint.set': {
    summary: 'have a sink go on with another window',
    fields: { ...confirmed, sink: text, to: time },
  },
  replay: {
    summary: 'recompute a range of windows and overwrite them in a sink',
    fields: { ...task, sink: text, from: time, to: optional(time) },
  },
  verify: {
    summary: 'compare sinks with the stream, row by row',
    fields: { ...task, sink: optional(text), from: optional(time), to: optional(time), name: optional(text) },
  },
  detach: {
    summary: 'leave the bus and keep running',
    fields: { ...task, keepControl: optional(flag) },
  },
  attach: { summary: 'return to the bus', fields: task },
  'profile.cpu': { summary: 'write a CPU profile', fields: { ...task, seconds: optional(seconds) } },
  'profile.heap': { summary: 'write a heap snapshot', fields: task },
  'task.status': {
    summary: 'show the progress of a task, and its result',
    fields: { ...everywhere, id: text },
  },
  'task.cancel': { summary: 'cancel a task', fields: { ...everywhere, id: text } },
} as const satisfies Readonly<Record<string, { readonly summary: string; readonly fields: Fields }>>;

export type OperationName = keyof typeof OPERATIONS;
export type RequestOf<N extends OperationName> = FieldValues<(typeof OPERATIONS)[N]['fields']>;
/** One of the operations with its request. */
export type ControlRequest = {
  [N in OperationName]: { readonly operation: N } & RequestOf<N>;
}[OperationName];

/** Returns what is asked of the recent windows. */
export function questionOf(request: RequestOf<'query'>): RecentQuestion {
  const { name, last, from, to, ranges, sketches } = request;
  const filters = (request.where ?? []).flatMap((each) => parseFilter(each) ?? []);
  return { name, where: filters, by: [...new Set(request.by)], last, from, to, only: ranges, sketches };
}

/** Operations that change nothing, nor take long. */
const READS: readonly OperationName[] = [
  'status',
  'config',
  'query',
  'cardinality',
  'checkpoint.list',
  'task.status',
];

export function isRead(operation: OperationName): boolean {
  return READS.includes(operation);
}

export function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATIONS, name);
}

/** Parses a request, or throws a `Refusal`. No bytes count as an empty request. `now` ends a range without `to`. */
export function parseRequest(operation: OperationName, bytes: Uint8Array, now: number): ControlRequest {
  const given = parseObject(bytes);
  const fields: Fields = OPERATIONS[operation].fields;
  const unknown = Object.keys(given).find((key) => !Object.hasOwn(fields, key));
  if (unknown !== undefined) {
    const known = Object.keys(fields).join(', ');
    throw new Refusal(
      'unknown_field',
      `${operation} has no field ${shown(unknown)}. Its fields are ${known}.`,
      unknown,
    );
  }
  const values: Record<string, unknown> = { operation };
  // A null counts as absent: some languages write absent fields that way.
  for (const [key, { parse, expected, isOptional }] of Object.entries(fields)) {
    const value = Object.hasOwn(given, key) ? given[key] : undefined;
    if (value === undefined || value === null) {
      if (isOptional) continue;
      throw new Refusal('missing_field', `${operation} needs ${key}: ${expected}`, key);
    }
    values[key] = parse(value);
    if (values[key] === undefined) throw new Refusal('bad_value', `${key}: expected ${expected}`, key);
  }
  checkRange(values as { readonly from?: number; readonly to?: number }, now);
  return values as unknown as ControlRequest;
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  if (bytes.length > MAX_REQUEST_BYTES) {
    const message = `the request has ${bytes.length} bytes; the limit is ${MAX_REQUEST_BYTES}`;
    throw new Refusal('too_large', message);
  }
  if (bytes.length === 0) return {};
  let given: unknown;
  try {
    given = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new Refusal('not_json', 'the request is not JSON');
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new Refusal('not_json', 'the request is not a JSON object');
  return given as Record<string, unknown>;
}

function checkRange({ from, to }: { readonly from?: number; readonly to?: number }, now: number): void {
  if (from === undefined) return;
  const end = to ?? now;
  if (from >= end) {
    const times = `${new Date(from).toISOString()} and ${new Date(end).toISOString()}`;
    throw new Refusal(
      'bad_value',
      `from must be before ${to === undefined ? 'now' : 'to'}: ${times}`,
      'from',
    );
  }
  if (end - from <= MAX_RANGE_MS) return;
  const days = MAX_RANGE_MS / (24 * 3_600_000);
  throw new Refusal('range_too_long', `the range is longer than ${days} days`, 'from');
}

function shown(key: string): string {
  return JSON.stringify(key.slice(0, MAX_TEXT_CHARACTERS));
}
