/**
 * Takes the messages of hot subscriptions from the bytes that the client reads, before it turns them into objects.
 * Everything else stays with the client: sign-in, TLS, reconnects, JetStream's API, messages with headers, other
 * subscriptions.
 *
 * The client hands each chunk from the socket to its parser, by way of a queue; without TLS, `DirectTransport` hands
 * them over itself. Ours sits in front of that parser: it follows the frames of the protocol (docs.nats.io, "Client
 * Protocol"), gives those of hot subscriptions to their sinks, and passes everything else, in order and byte for byte,
 * to the client's parser. A subscription that is not hot, or no longer hot, gets its messages through its plain
 * callback, which must do the same work.
 *
 *     MSG <subject> <sid> [reply] <size>\r\n<payload>\r\n
 *     HMSG <subject> <sid> [reply] <header size> <size>\r\n<headers and payload>\r\n
 *
 * This depends on internals of the client, so it runs only with versions of the package that it was tested with.
 */

import type { NatsConnection } from 'nats';
import { BusError } from './bus-error.ts';
import type { DirectTransport } from './transport.ts';

export const TESTED_VERSIONS: readonly string[] = ['2.29.3'];

/** A server's lines are far shorter. A longer one is left to the client. */
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
/** Results of reading a line, in place of a position. */
const INCOMPLETE = -1;
const STRANGE = -2;
/** In place of a size: negative, as is what further digits make of it. A NaN would have all sizes be doubles. */
const NO_SIZE = -1;
const NOTHING = new Uint8Array(0);

/** Takes the messages of one subscription. It must not throw: that would end the client's reader for good. */
export interface FrameSink {
  /**
   * Present if only messages with JetStream's reply subject are wanted. Reads the reply subject that begins at `start`.
   * Returns the position after what it read, which is at most `end`, or -1 if the message belongs to the client.
   */
  readonly reply?: (bytes: Uint8Array, start: number, end: number) => number;
  /** Takes a message without headers. */
  frame(bytes: Uint8Array, subjectStart: number, subjectEnd: number, start: number, end: number): void;
  /**
   * Called when the bytes of all messages so far are about to be released. If absent, the bytes stay, and nothing
   * changes them any longer.
   */
  readonly flush?: (() => void) | undefined;
}

interface ClientParser {
  parse(bytes: Uint8Array): void;
}

/** The client's internals, as far as they are known. */
interface ClientProtocol {
  /** Replaced at every connection to a server. */
  parser: ClientParser;
  /** Replaced too. `receive`: of a `DirectTransport`. */
  readonly transport: { readonly version: string; receive?: DirectTransport['receive'] };
}

export class Frames {
  readonly #sinks = new Map<number, FrameSink>();

  /** Throws a `BusError` if the package has another version. */
  constructor(connection: NatsConnection) {
    const { protocol } = connection as unknown as { readonly protocol: ClientProtocol };
    const version = protocol?.transport?.version;
    if (!TESTED_VERSIONS.includes(version) || typeof protocol.parser?.parse !== 'function') {
      throw new BusError(
        `METRICS_RECEIVE=frames is tested with nats ${TESTED_VERSIONS.join(', ')}, not with ${version}`,
        'Install that version of the package, or set METRICS_RECEIVE=plain.',
      );
    }
    let parser = this.#parserOf(protocol, protocol.parser);
    Object.defineProperty(protocol, 'parser', {
      get: () => parser,
      set: (fresh: ClientParser) => {
        parser = this.#parserOf(protocol, fresh);
      },
    });
  }

  /** What a server says first comes through the client's queue, and from then on nothing does. */
  #parserOf(protocol: ClientProtocol, client: ClientParser): ClientParser {
    const parser = new FrameParser(client, this.#sinks);
    const receive = (buffer: Uint8Array, length: number) => parser.parseShared(buffer, length);
    return {
      parse(chunk) {
        parser.parse(chunk);
        protocol.transport.receive = receive;
      },
    };
  }

  /**
   * Gives `sink` the frames of a subscription, from the next frame on. Returns a function that stops this. `sid`: the
   * subscription's number.
   */
  listen(sid: number, sink: FrameSink): () => void {
    this.#sinks.set(sid, sink);
    return () => this.#sinks.delete(sid);
  }
}

/** Follows the frames of one connection to a server, wherever the chunks cut them. */
export class FrameParser implements ClientParser {
  readonly #client: ClientParser;
  readonly #sinks: ReadonlyMap<number, FrameSink>;
  /** The sink of the frame whose line was read last; undefined if the frame is the client's. */
  #sink: FrameSink | undefined;
  #subjectStart = 0;
  #subjectEnd = 0;
  #size = 0;
  /** The start of a line whose end has not arrived. */
  #line = NOTHING;
  /** A sink's frame, including its line, whose end has not arrived, and how much of it has. */
  #frame = NOTHING;
  #filled = 0;
  /** The frame that this chunk completed. */
  #completed = NOTHING;
  /** How many bytes of a client's frame have not arrived. */
  #passing = 0;
  /** Whether we are in the middle of a client's line that has no payload. */
  #isInLine = false;
  /** The input was not understood. Everything now goes to the client, whose callbacks do the same work. */
  #isLost = false;
  /** The sinks that were given messages from this chunk, and whether the client was given the chunk itself. */
  readonly #takers = new Set<FrameSink>();
  #lastTaker: FrameSink | undefined;
  #isGivenAway = false;
  /** The chunk is used again, for other bytes. */
  #isShared = false;

  constructor(client: ClientParser, sinks: ReadonlyMap<number, FrameSink>) {
    this.#client = client;
    this.#sinks = sinks;
  }

  parse(chunk: Uint8Array): void {
    this.#isGivenAway = false;
    this.#take(chunk, chunk.length);
    const isOurs = !this.#isGivenAway && chunk.byteLength === chunk.buffer.byteLength;
    if (isOurs) this.#release(chunk, this.#completed);
    else if (this.#completed.length > 0) this.#release(this.#completed);
    this.#completed = NOTHING;
    this.#takers.clear();
    this.#lastTaker = undefined;
  }

  /**
   * The same of the first bytes of a buffer, which are good only until the call returns. It is best the same buffer
   * each time: whenever a message refers to a new one, the garbage collector has to note that.
   */
  parseShared(buffer: Uint8Array, length: number): void {
    if (!this.#isFlushed()) {
      this.parse(new Uint8Array(buffer.subarray(0, length)));
      return;
    }
    this.#isShared = true;
    this.#take(buffer, length);
    this.#isShared = false;
    this.#release(this.#completed);
    this.#completed = NOTHING;
    this.#takers.clear();
    this.#lastTaker = undefined;
  }

  /** Whether no sink needs its bytes for longer. */
  #isFlushed(): boolean {
    for (const { flush } of this.#sinks.values()) if (flush === undefined) return false;
    return true;
  }

  /**
   * Releases the memory of whole buffers at once. If it were left to the garbage collector, one second of a busy bus
   * would be tens of megabytes, for which it marks the whole heap again and again, and the next chunks would not reuse
   * the same memory while it is still in the cache.
   */
  #release(...buffers: readonly Uint8Array[]): void {
    for (const { flush } of this.#takers) if (flush === undefined) return;
    for (const { flush } of this.#takers) flush!();
    for (const { buffer, length } of buffers) if (length > 0) (buffer as ArrayBuffer).transfer(0);
  }

  /** `length`: how many bytes of the chunk there are. */
  #take(chunk: Uint8Array, length: number): void {
    const start = this.#goOn(chunk, length);
    let i = start;
    /** The client's bytes from here on have not been passed to it yet. */
    let own = start;
    while (i < length) {
      const first = chunk[i]!;
      if (first !== LETTER_M && first !== LETTER_H) {
        const lineEnd = lineEndOf(chunk, i, length);
        this.#isInLine = lineEnd < 0;
        i = lineEnd < 0 ? length : lineEnd + 1;
        continue;
      }
      const payload = this.#readLine(chunk, i, length);
      if (payload < 0) {
        this.#isLost = payload === STRANGE;
        if (this.#isLost) break;
        this.#pass(chunk, own, i);
        this.#line = new Uint8Array(chunk.subarray(i, length));
        return;
      }
      const end = payload + this.#size + CRLF_LENGTH;
      if (this.#sink !== undefined && own < i) {
        this.#pass(chunk, own, i);
        own = i;
        // The bytes just passed may have included a message of the same consumer, so its reply subject was read last;
        // or they may have ended the sink.
        this.#readLine(chunk, i, length);
      }
      if (this.#sink === undefined) {
        this.#passing = Math.max(0, end - length);
        i = end;
        continue;
      }
      if (end > length) {
        this.#begin(chunk.subarray(i, length), payload - i, i);
        return;
      }
      this.#hand(this.#sink, chunk, payload, payload + this.#size);
      i = end;
      own = end;
    }
    this.#pass(chunk, own, length);
  }

  /** Finishes what an earlier chunk began. Returns the position of the first frame that begins in this chunk. */
  #goOn(chunk: Uint8Array, length: number): number {
    if (this.#isLost) return this.#pass(chunk, 0, length);
    if (this.#line.length > 0) return this.#goOnLine(chunk, length);
    if (this.#frame.length > 0) return this.#fill(chunk, 0, length);
    if (this.#isInLine) {
      const end = lineEndOf(chunk, 0, length);
      this.#isInLine = end < 0;
      return this.#pass(chunk, 0, end < 0 ? length : end + 1);
    }
    const end = Math.min(length, this.#passing);
    this.#passing -= end;
    return this.#pass(chunk, 0, end);
  }

  #goOnLine(chunk: Uint8Array, length: number): number {
    const lineEnd = lineEndOf(chunk, 0, length);
    const end = lineEnd < 0 ? length : lineEnd + 1;
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
      return this.#pass(chunk, end, length);
    }
    if (this.#sink !== undefined) {
      this.#begin(line, payload, 0);
      return this.#fill(chunk, end, length);
    }
    this.#client.parse(line);
    const wanted = this.#size + CRLF_LENGTH;
    const passed = this.#pass(chunk, end, Math.min(length, end + wanted));
    this.#passing = wanted - (passed - end);
    return passed;
  }

  /** Begins a sink's frame of which only `known` has arrived so far; its payload begins at `payload`. */
  #begin(known: Uint8Array, payload: number, offset: number): void {
    this.#frame = new Uint8Array(payload + this.#size + CRLF_LENGTH);
    this.#frame.set(known);
    this.#filled = known.length;
    this.#subjectStart -= offset;
    this.#subjectEnd -= offset;
  }

  /** Adds to the frame. Returns the position after the bytes that belonged to it. */
  #fill(chunk: Uint8Array, from: number, length: number): number {
    const frame = this.#frame;
    const end = Math.min(length, from + frame.length - this.#filled);
    frame.set(chunk.subarray(from, end), this.#filled);
    this.#filled += end - from;
    if (this.#filled < frame.length) return end;
    this.#frame = NOTHING;
    this.#completed = frame;
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

  /**
   * Passes bytes to the client. The client may keep what it is given, so a part of a chunk is copied. Returns `end`.
   */
  #pass(chunk: Uint8Array, start: number, end: number): number {
    if (start >= end) return end;
    this.#isGivenAway = !this.#isShared && start === 0 && end === chunk.length;
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
      const replyEnd = bytes[i] === DOLLAR ? sink.reply(bytes, i, end) : -1;
      if (replyEnd < 0) this.#sink = undefined;
      else i = replyEnd;
    }
    // The rest is the end of the reply subject, and sizes. The last size counts.
    for (let size = 0; i < end; i++) {
      const byte = bytes[i]!;
      if (byte === CR) {
        if (i + 1 === end) return INCOMPLETE;
        this.#size = size;
        return size >= 0 && Number.isSafeInteger(size) && bytes[i + 1] === LF ? i + CRLF_LENGTH : STRANGE;
      }
      const digit = byte - DIGIT_0;
      if (byte === SPACE) size = 0;
      else size = digit >= 0 && digit <= 9 ? size * 10 + digit : NO_SIZE;
    }
    return INCOMPLETE;
  }
}

/** Returns where the next line feed is; -1 if there is none. */
function lineEndOf(bytes: Uint8Array, from: number, length: number): number {
  const at = bytes.indexOf(LF, from);
  return at < length ? at : -1;
}
