/** Reads windows back from the stream: of each key, the newest message counts. */
import type { BusReading, BusStream, SinkBus, StoredPoint, WindowRange } from '../../src/sink/index.ts';
import { decodePoint, keyOf, type MessageKey } from './encode.ts';

/** A window is published after its end. The clocks of two servers of the bus may differ by this much. */
const CLOCKS_DIFFER_MS = 60_000;
/** Rows that are held at once. */
const MAX_HELD = 20_000;
/** Digits of a series' id by which the series of a large window are divided. */
const SLICE_DIGITS = 8;

/** Some windows, or of one that is too large some of the series, and where in the stream their messages are. */
interface Part extends WindowRange {
  readonly first: number;
  readonly last: number;
  readonly messages: number;
  readonly slice: number;
  readonly slices: number;
}

/** What a look at the headers says about a window. */
interface Found {
  readonly start: number;
  readonly first: number;
  last: number;
  messages: number;
}

/**
 * The stream is in the order of publishing, so what comes last may be about any window, and nothing can be said of a
 * key before the end. What fits the memory is read in one go. Otherwise, a look at the headers says where each window
 * is, and they are read in parts.
 */
export async function* storedWindows(
  bus: SinkBus,
  stream: BusStream,
  range: WindowRange,
  signal: AbortSignal,
  maxHeld = MAX_HELD,
): AsyncGenerator<StoredPoint> {
  const reading: BusReading = { stream, from: beginning(stream, range), to: stream.lastSequence };
  const all = await newestOf(bus, reading, (key) => isIn(range, key), maxHeld, signal);
  if (all !== undefined) yield* all;
  else {
    for (const part of await partsOf(bus, reading, range, maxHeld, signal)) {
      const within: BusReading = { stream, from: { sequence: part.first }, to: part.last };
      const isWanted = (key: MessageKey) => isIn(part, key) && sliceOf(key, part.slices) === part.slice;
      const newest = await newestOf(bus, within, isWanted, Number.POSITIVE_INFINITY, signal);
      yield* newest ?? [];
    }
  }
  signal.throwIfAborted();
}

/** Resolves to undefined if there are more than `most` keys. */
async function newestOf(
  bus: SinkBus,
  reading: BusReading,
  isWanted: (key: MessageKey) => boolean,
  most: number,
  signal: AbortSignal,
): Promise<StoredPoint[] | undefined> {
  const newest = new Map<string, StoredPoint | undefined>();
  for await (const message of bus.messages(reading, signal)) {
    const key = keyOf(message);
    if (key === undefined || !isWanted(key)) continue;
    newest.set(key.text, decodePoint(message));
    if (newest.size > most) return undefined;
  }
  return [...newest.values()].filter((point) => point !== undefined);
}

async function partsOf(
  bus: SinkBus,
  reading: BusReading,
  range: WindowRange,
  maxHeld: number,
  signal: AbortSignal,
): Promise<Part[]> {
  const windows = new Map<number, Found>();
  for await (const message of bus.messages({ ...reading, headersOnly: true }, signal)) {
    const key = keyOf(message);
    if (key === undefined || !isIn(range, key)) continue;
    const { windowStart: start } = key;
    const { sequence } = message;
    const found = windows.get(start) ?? { start, first: sequence, last: sequence, messages: 0 };
    found.last = sequence;
    found.messages += 1;
    windows.set(start, found);
  }
  const inOrder = [...windows.values()].sort((a, b) => a.start - b.start);
  return inOrder.reduce<Part[]>((parts, window) => addPart(parts, window, maxHeld), []);
}

/** Windows that follow each other are a part together if they fit; one that does not fit becomes several. */
function addPart(parts: Part[], { start, first, last, messages }: Found, maxHeld: number): Part[] {
  const before = parts.at(-1);
  if (before !== undefined && before.messages + messages <= maxHeld) {
    parts[parts.length - 1] = {
      ...before,
      to: start + 1,
      first: Math.min(before.first, first),
      last: Math.max(before.last, last),
      messages: before.messages + messages,
    };
    return parts;
  }
  const slices = Math.ceil(messages / maxHeld);
  for (let slice = 0; slice < slices; slice += 1)
    parts.push({ from: start, to: start + 1, first, last, messages, slice, slices });
  return parts;
}

const isIn = ({ from, to }: WindowRange, { windowStart }: MessageKey) =>
  windowStart >= from && windowStart < to;

function sliceOf({ series }: MessageKey, slices: number): number {
  return Number.parseInt(series.slice(0, SLICE_DIGITS), 16) % slices;
}

/** If its newest message is older than the range, the clock of the bus says nothing about it: from the first. */
function beginning({ lastTime = 0 }: BusStream, { from }: WindowRange): BusReading['from'] {
  const time = from - CLOCKS_DIFFER_MS;
  return time > 0 && from <= lastTime ? { time } : undefined;
}
