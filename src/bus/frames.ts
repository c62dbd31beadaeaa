/**
 * Takes the messages of hot subscriptions from the bytes that the client reads, before it makes objects of them. All
 * else stays with the client: sign-in, TLS, reconnects, JetStream's API, messages with headers, other subscriptions.
 *
 * The client hands each chunk from the socket to its parser. Ours stands before that one: it follows the frames of the
 * protocol (docs.nats.io, "Client Protocol"), gives those of hot subscriptions to their sinks and everything else, in
 * order and byte for byte, to the client's. A subscription that is not hot, or not any more, gets its messages by its
 * plain callback, which must do the same work.
 *
 *     MSG <subject> <sid> [reply] <size>\r\n<payload>\r\n
 *     HMSG <subject> <sid> [reply] <header size> <size>\r\n<headers and payload>\r\n
 *
 * This reaches into the client, so it runs only on versions of the package that it was tested with.
 */

import type { NatsConnection } from 'nats';
import { BusError } from './bus-error.ts';

export const TESTED_VERSIONS: readonly string[] = ['2.29.3'];

/** A server's lines are shorter by far; one that is not is the client's trouble. */
const MAX_LINE_BYTES = 64 * 1024;
const LETTER_M = 0x4d;
const LETTER_H = 0x48;
const SPACE = 0x20;
const CR = 0x0d;
const LF = 0x0a;
const DIGIT_0 = 0x30;
const DOLLAR = 0x24;
const MSG_LENGTH = 'MSG '.length;
const HMSG_LENGTH = 'HMSG '.length;
const CRLF_LENGTH = 2;
/** What reading a line comes to in place of a position. */
const INCOMPLETE = -1;
const STRANGE = -2;
const NOTHING = new Uint8Array(0);

/** Takes the messages of one subscription. Nothing may be thrown: it would end the client's reader for good. */
export interface FrameSink {
  /**
   * Present where only messages with JetStream's reply subject are wanted. Reads the one that begins at `start`;
   * returns the position behind what was read, which is not behind `end`, or -1: the message is the client's.
   */
  readonly reply?: (bytes: Uint8Array, start: number, end: number) => number;
  /** A message without headers. */
  frame(bytes: Uint8Array, subjectStart: number, subjectEnd: number, start: number, end: number): void;
  /** The bytes of all messages so far are about to go. Absent: they must stay, and nobody changes them any more. */
  readonly flush?: (() => void) | undefined;
}

interface ClientParser {
  parse(bytes: Uint8Array): void;
}

/** What is known of the client's inside. */
interface ClientProtocol {
  /** Replaced with every connection to a server. */
  parser: ClientParser;
  readonly transport: { readonly version: string };
}

export class Frames {
  readonly #sinks = new Map<number, FrameSink>();

  /** Throws a `BusError` where the package is another version. */
  constructor(connection: NatsConnection) {
    const { protocol } = connection as unknown as { readonly protocol: ClientProtocol };
    const version = protocol?.transport?.version;
    if (!TESTED_VERSIONS.includes(version) || typeof protocol.parser?.parse !== 'function') {
      throw new BusError(
        `METRICS_RECEIVE=frames was tested with nats ${TESTED_VERSIONS.join(', ')}, not with ${version}`,
        'Install that version of the package, or set METRICS_RECEIVE=plain.',
      );
    }
    let parser: ClientParser = new FrameParser(protocol.parser, this.#sinks);
    Object.defineProperty(protocol, 'parser', {
      get: () => parser,
      set: (fresh: ClientParser) => {
        parser = new FrameParser(fresh, this.#sinks);
      },
    });
  }

  /** From the next frame on; returns what ends it. `sid`: the subscription's number. */
  listen(sid: number, sink: FrameSink): () => void {
    this.#sinks.set(sid, sink);
    return () => this.#sinks.delete(sid);
  }
}

/** Follows the frames of one connection to a server, however the chunks cut them. */
export class FrameParser implements ClientParser {
  readonly #client: ClientParser;
  readonly #sinks: ReadonlyMap<number, FrameSink>;
  /** Of the line read last: whose the frame is, undefined for the client's. */
  #sink: FrameSink | undefined;
  #subjectStart = 0;
  #subjectEnd = 0;
  #size = 0;
  /** The beginning of a line whose end has not come. */
  #line = NOTHING;
  /** A frame of a sink's whose end has not come, its line included, and how much of it has. */
  #frame = NOTHING;
  #filled = 0;
  /** Bytes of a frame of the client's that have not come. */
  #passing = 0;
  /** In the middle of a line of the client's that has no payload. */
  #isInLine = false;
  /** What came is not understood: all is the client's, whose callbacks do the same work. */
  #isLost = false;
  /** Who was given messages of the chunk, and whether the client has the chunk itself. */
  readonly #takers = new Set<FrameSink>();
  #lastTaker: FrameSink | undefined;
  #isGivenAway = false;

  constructor(client: ClientParser, sinks: ReadonlyMap<number, FrameSink>) {
    this.#client = client;
    this.#sinks = sinks;
  }

  parse(chunk: Uint8Array): void {
    this.#isGivenAway = false;
    this.#take(chunk);
    const isOurs = !this.#isGivenAway && chunk.byteLength === chunk.buffer.byteLength;
    if (isOurs) this.#release(chunk.buffer as ArrayBuffer);
    this.#takers.clear();
    this.#lastTaker = undefined;
  }

  /**
   * Gives the memory back at once. Left to the garbage collector, a second of a busy bus is tens of megabytes, for
   * which it marks the whole heap again and again; and what comes next would not find the same memory, still in the
   * cache.
   */
  #release(buffer: ArrayBuffer): void {
    for (const { flush } of this.#takers) if (flush === undefined) return;
    for (const { flush } of this.#takers) flush!();
    buffer.transfer(0);
  }

  #take(chunk: Uint8Array): void {
    const start = this.#goOn(chunk);
    let i = start;
    /** What is the client's from here on was not passed to it yet. */
    let own = start;
    while (i < chunk.length) {
      const first = chunk[i]!;
      if (first !== LETTER_M && first !== LETTER_H) {
        const lineEnd = chunk.indexOf(LF, i);
        this.#isInLine = lineEnd < 0;
        i = lineEnd < 0 ? chunk.length : lineEnd + 1;
        continue;
      }
      const payload = this.#readLine(chunk, i, chunk.length);
      if (payload < 0) {
        this.#isLost = payload === STRANGE;
        if (this.#isLost) break;
        this.#pass(chunk, own, i);
        this.#line = new Uint8Array(chunk.subarray(i));
        return;
      }
      const end = payload + this.#size + CRLF_LENGTH;
      if (this.#sink !== undefined && own < i) {
        this.#pass(chunk, own, i);
        own = i;
        // What has just been passed may have been of the same consumer, whose reply subject was then read last, or may
        // have ended the sink.
        this.#readLine(chunk, i, chunk.length);
      }
      if (this.#sink === undefined) {
        this.#passing = Math.max(0, end - chunk.length);
        i = end;
        continue;
      }
      if (end > chunk.length) {
        this.#begin(chunk.subarray(i), payload - i, i);
        return;
      }
      this.#hand(this.#sink, chunk, payload, payload + this.#size);
      i = end;
      own = end;
    }
    this.#pass(chunk, own, chunk.length);
  }

  /** Ends what an earlier chunk began. Returns the position of the first frame that begins in this one. */
  #goOn(chunk: Uint8Array): number {
    if (this.#isLost) return this.#pass(chunk, 0, chunk.length);
    if (this.#line.length > 0) return this.#goOnLine(chunk);
    if (this.#frame.length > 0) return this.#fill(chunk, 0);
    if (this.#isInLine) {
      const end = chunk.indexOf(LF);
      this.#isInLine = end < 0;
      return this.#pass(chunk, 0, end < 0 ? chunk.length : end + 1);
    }
    const end = Math.min(chunk.length, this.#passing);
    this.#passing -= end;
    return this.#pass(chunk, 0, end);
  }

  #goOnLine(chunk: Uint8Array): number {
    const lineEnd = chunk.indexOf(LF);
    const end = lineEnd < 0 ? chunk.length : lineEnd + 1;
    const line = Buffer.concat([this.#line, chunk.subarray(0, end)]);
    this.#line = NOTHING;
    const payload = this.#readLine(line, 0, line.length);
    if (payload === INCOMPLETE && line.length < MAX_LINE_BYTES) {
      this.#line = line;
      return end;
    }
    if (payload < 0) {
      this.#isLost = true;
      this.#client.parse(line);
      return this.#pass(chunk, end, chunk.length);
    }
    if (this.#sink !== undefined) {
      this.#begin(line, payload, 0);
      return this.#fill(chunk, end);
    }
    this.#client.parse(line);
    const wanted = this.#size + CRLF_LENGTH;
    const passed = this.#pass(chunk, end, Math.min(chunk.length, end + wanted));
    this.#passing = wanted - (passed - end);
    return passed;
  }

  /** A frame of a sink's, of which this is all that has come; its payload begins at `payload`. */
  #begin(known: Uint8Array, payload: number, offset: number): void {
    this.#frame = new Uint8Array(payload + this.#size + CRLF_LENGTH);
    this.#frame.set(known);
    this.#filled = known.length;
    this.#subjectStart -= offset;
    this.#subjectEnd -= offset;
  }

  /** Returns the position behind what was of the frame. */
  #fill(chunk: Uint8Array, from: number): number {
    const frame = this.#frame;
    const end = Math.min(chunk.length, from + frame.length - this.#filled);
    frame.set(chunk.subarray(from, end), this.#filled);
    this.#filled += end - from;
    if (this.#filled < frame.length) return end;
    this.#frame = NOTHING;
    const payloadEnd = frame.length - CRLF_LENGTH;
    this.#hand(this.#sink!, frame, payloadEnd - this.#size, payloadEnd);
    return end;
  }

  #hand(sink: FrameSink, bytes: Uint8Array, start: number, end: number): void {
    if (sink !== this.#lastTaker) {
      this.#takers.add(sink);
      this.#lastTaker = sink;
    }
    sink.frame(bytes, this.#subjectStart, this.#subjectEnd, start, end);
  }

  /** The client may keep what it is given: of a part, a copy. Returns `end`. */
  #pass(chunk: Uint8Array, start: number, end: number): number {
    if (start >= end) return end;
    this.#isGivenAway = start === 0 && end === chunk.length;
    this.#client.parse(this.#isGivenAway ? chunk : new Uint8Array(chunk.subarray(start, end)));
    return end;
  }

  /** Reads the line of a message. Returns the position of the payload, INCOMPLETE or STRANGE. */
  #readLine(bytes: Uint8Array, start: number, end: number): number {
    const hasHeaders = bytes[start] === LETTER_H;
    this.#subjectStart = start + (hasHeaders ? HMSG_LENGTH : MSG_LENGTH);
    let i = this.#subjectStart;
    while (i < end && bytes[i] !== SPACE) i++;
    this.#subjectEnd = i;
    let sid = 0;
    for (i++; i < end && bytes[i] !== SPACE; i++) sid = sid * 10 + bytes[i]! - DIGIT_0;
    const sink = hasHeaders ? undefined : this.#sinks.get(sid);
    this.#sink = sink;
    i++;
    if (sink?.reply !== undefined) {
      const behind = bytes[i] === DOLLAR ? sink.reply(bytes, i, end) : -1;
      if (behind < 0) this.#sink = undefined;
      else i = behind;
    }
    // What is left: the rest of the reply subject, sizes. The last one counts.
    for (let size = 0; i < end; i++) {
      const byte = bytes[i]!;
      if (byte === CR) {
        if (i + 1 === end) return INCOMPLETE;
        this.#size = size;
        return Number.isSafeInteger(size) && bytes[i + 1] === LF ? i + CRLF_LENGTH : STRANGE;
      }
      const digit = byte - DIGIT_0;
      if (byte === SPACE) size = 0;
      else size = digit >= 0 && digit <= 9 ? size * 10 + digit : Number.NaN;
    }
    return INCOMPLETE;
  }
}
