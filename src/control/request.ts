/** What may be asked of an instance, and how a request must look. Pure. */
import { parseTime } from '../base/time-text.ts';
import { Refusal } from './refusal.ts';

/** Requests are a few names and times; more is a mistake, or worse. */
export const MAX_REQUEST_BYTES = 16 * 1024;
const MAX_TEXT_CHARACTERS = 256;
const MAX_URL_CHARACTERS = 2048;
/** Of a profile, in seconds. */
export const MAX_PROFILE_SECONDS = 60;
/** A replay or a verification reads all of it: more than streams are kept for is a mistake. */
export const MAX_RANGE_MS = 31 * 24 * 3_600_000;

interface Field<T> {
  /** Undefined where the value is not acceptable. */
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

const text = field(`a text of at most ${MAX_TEXT_CHARACTERS} characters`, (value) =>
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

/** In every request: only instances of that pipeline answer. */
const everywhere = { pipeline: optional(text) };
/** Where the answer is the id of a task. */
const task = { ...everywhere, callback: optional(url) };

/** By name. `fields`: what a request may hold. */
export const OPERATIONS = {
  status: { summary: 'all that is to be known of the instance', fields: everywhere },
  config: { summary: 'its settings, secrets masked', fields: everywhere },
  'sink.pause': { summary: 'leave a sink alone until it is resumed', fields: { ...everywhere, sink: text } },
  'sink.resume': { summary: 'go on with a paused sink', fields: { ...everywhere, sink: text } },
  replay: {
    summary: 'compute a range of windows again and write it over what a sink has',
    fields: { ...task, sink: text, from: time, to: optional(time) },
  },
  verify: {
    summary: 'compare sinks with the stream, row by row',
    fields: { ...task, sink: optional(text), from: time, to: optional(time), name: optional(text) },
  },
  detach: {
    summary: 'leave the bus and stay up',
    fields: { ...task, keepControl: optional(flag) },
  },
  attach: { summary: 'come back to the bus', fields: task },
  'profile.cpu': { summary: 'write a CPU profile', fields: { ...task, seconds: optional(seconds) } },
  'profile.heap': { summary: 'write a heap snapshot', fields: task },
  'task.status': { summary: 'how far a task is, and what came of it', fields: { ...everywhere, id: text } },
  'task.cancel': { summary: 'end a task', fields: { ...everywhere, id: text } },
} as const satisfies Readonly<Record<string, { readonly summary: string; readonly fields: Fields }>>;

export type OperationName = keyof typeof OPERATIONS;
export type RequestOf<N extends OperationName> = FieldValues<(typeof OPERATIONS)[N]['fields']>;
/** One of the operations with its request. */
export type ControlRequest = {
  [N in OperationName]: { readonly operation: N } & RequestOf<N>;
}[OperationName];

export function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATIONS, name);
}

/** Throws a `Refusal`. Nothing at all is taken as an empty request. `now`: where a range without `to` ends. */
export function parseRequest(operation: OperationName, bytes: Uint8Array, now: number): ControlRequest {
  const given = parseObject(bytes);
  const fields: Fields = OPERATIONS[operation].fields;
  const unknown = Object.keys(given).find((key) => !Object.hasOwn(fields, key));
  if (unknown !== undefined) {
    const known = Object.keys(fields).join(', ');
    throw new Refusal(
      'unknown_field',
      `${operation} has no field ${shown(unknown)}; it has ${known}`,
      unknown,
    );
  }
  const values: Record<string, unknown> = { operation };
  // A null is what is left out: some languages write it so.
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
    const message = `the request has ${bytes.length} bytes; at most ${MAX_REQUEST_BYTES} are read`;
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
  if (from >= end)
    throw new Refusal('bad_value', `from must be before ${to === undefined ? 'now' : 'to'}`, 'from');
  if (end - from <= MAX_RANGE_MS) return;
  const days = MAX_RANGE_MS / (24 * 3_600_000);
  throw new Refusal('range_too_long', `the range is longer than ${days} days`, 'from');
}

function shown(key: string): string {
  return JSON.stringify(key.slice(0, MAX_TEXT_CHARACTERS));
}
