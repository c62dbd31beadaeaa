import fc from 'fast-check';
import { headers, type NatsConnection } from 'nats';
import { Kind, Parser, type ParserEvent } from 'nats/lib/nats-base-client/parser.js';
import { afterEach, describe, expect, test } from 'vitest';
import { BusError } from '../../src/bus/bus-error.ts';
import { connect } from '../../src/bus/connect.ts';
import { FrameParser, type FrameSink, Frames, TESTED_VERSIONS } from '../../src/bus/frames.ts';
import { createCoreSource } from '../../src/bus/read/core.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import type { Source } from '../../src/bus/read/source.ts';
import { ensureStream } from '../../src/bus/stream.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { effort } from '../effort.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { makeCertificates } from './credentials.ts';
import { losing, memoryLog, numbers, publishStored, Recorder, settings, until } from './support.ts';

const STALL_MS = 1500;

/** What arrived, in order: messages with everything that is known about them, and anything else by its kind. */
type Event = string;

const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('latin1');
const messageEvent = (sid: number, subject: string, payload: string, headers = -1) =>
  JSON.stringify([sid, subject, payload, headers]);

function clientEvent({ kind, msg, data }: ParserEvent): Event {
  if (kind !== Kind.MSG) return `${kind} ${text(data)}`;
  return messageEvent(msg!.sid, text(msg!.subject), text(data), msg!.hdr);
}

/** Parses with the package's own parser alone. */
function byClient(chunks: readonly Uint8Array[]): Event[] {
  const events: Event[] = [];
  const parser = new Parser({ push: (event) => events.push(clientEvent(event)) });
  for (const chunk of chunks) parser.parse(chunk);
  return events;
}

function parseShared(parser: FrameParser, chunks: readonly Uint8Array[]): void {
  const buffer = new Uint8Array(Math.max(0, ...chunks.map(({ length }) => length)));
  for (const chunk of chunks) {
    buffer.set(chunk);
    parser.parseShared(buffer, chunk.length);
    buffer.fill(0xff);
  }
}

/** Subscriptions without a check of the reply subject, and one that expects a form of it. */
const PLAIN_SIDS = [1, 12];
const REPLY_SID = 3;
const REPLY_FORM = /^\$JS\.ACK\.\d+/;

/**
 * Reads the bytes as late as possible: those of sinks just before they are freed, those of the client at the end.
 * `isShared`: all chunks come in one buffer, one after the other.
 */
function byFrames(
  chunks: readonly Uint8Array[],
  isShared = false,
): { events: Event[]; replies: string[]; taken: number } {
  const seen: (() => Event)[] = [];
  const replies: string[] = [];
  let taken = 0;
  let waiting: number[] = [];
  const flush = () => {
    for (const i of waiting) {
      const event = seen[i]!();
      seen[i] = () => event;
    }
    waiting = [];
  };
  const sinkOf = (sid: number, reply?: FrameSink['reply']): FrameSink => ({
    ...(reply === undefined ? {} : { reply }),
    flush,
    frame(bytes, subjectStart, subjectEnd, start, end) {
      taken++;
      waiting.push(seen.length);
      const subject = () => text(bytes.subarray(subjectStart, subjectEnd));
      seen.push(() => messageEvent(sid, subject(), text(bytes.subarray(start, end))));
    },
  });
  const reply = (bytes: Uint8Array, start: number, end: number) => {
    const match = REPLY_FORM.exec(text(bytes.subarray(start, end)));
    if (match === null) return -1;
    replies.push(match[0]);
    return start + match[0].length;
  };
  const sinks = new Map(PLAIN_SIDS.map((sid) => [sid, sinkOf(sid)]));
  sinks.set(REPLY_SID, sinkOf(REPLY_SID, reply));
  const client = new Parser({ push: (event) => seen.push(() => clientEvent(event)) });
  const parser = new FrameParser(client, sinks);
  if (isShared) parseShared(parser, chunks);
  else for (const chunk of chunks) parser.parse(chunk);
  return { events: seen.map((event) => event()), replies, taken };
}

const frame = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(
        fc.constantFrom(1, 2, 3, 3, 12, 123),
        fc.constantFrom('a', 'metrics.a.b', '$JS.x'),
        fc.constantFrom('', '', '_INBOX.1', '7', '$JS.ACK.42.x', '$JS.ACK.x'),
        fc.oneof(fc.string({ maxLength: 30 }), fc.constantFrom('', '\r\n', 'MSG a 1 3\r\n', 'x'.repeat(300))),
      )
      .map(([sid, subject, reply, payload]) => {
        const bytes = Buffer.from(payload);
        const line = ['MSG', subject, sid, ...(reply === '' ? [] : [reply]), bytes.length].join(' ');
        return Buffer.concat([Buffer.from(`${line}\r\n`), bytes, Buffer.from('\r\n')]);
      }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(1, 2, 3), fc.string({ maxLength: 9 })).map(([sid, payload]) => {
      const headers = 'NATS/1.0 404 No Messages\r\n\r\n';
      const body = Buffer.from(headers + payload);
      return Buffer.concat([
        Buffer.from(`HMSG a ${sid} r ${headers.length} ${body.length}\r\n`),
        body,
        Buffer.from('\r\n'),
      ]);
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('PING\r\n', 'PONG\r\n', '+OK\r\n', "-ERR 'Slow Consumer'\r\n", 'INFO {"a":"MSG 1"}\r\n')
      .map((line) => Buffer.from(line)),
  },
);

/** The same bytes, cut at the given positions. */
function cut(bytes: Buffer, places: readonly number[]): Uint8Array[] {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((start, i) => Uint8Array.from(bytes.subarray(start, ends[i] ?? bytes.length)));
}

describe('frames', () => {
  test('are the same as those of the client, in the same order, however the chunks cut them', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 30 }),
        (frames, places) => {
          const bytes = Buffer.concat(frames);
          const { events } = byFrames(cut(bytes, places));
          expect(events).toEqual(byClient([bytes]));
          expect(byFrames(cut(bytes, places), true).events).toEqual(events);
        },
      ),
      { numRuns: effort(3000) },
    );
  });

  test('can be cut at every single byte', () => {
    const replied = 'MSG a.b 3 $JS.ACK.42.x 5\r\nhello\r\n';
    const bytes = Buffer.from(
      `PING\r\nMSG a.b 1 2\r\nhi\r\n${replied}MSG a 2 r 1\r\nx\r\nHMSG a 3 r 12 13\r\nNATS/1.0\r\n\r\n!\r\n${replied}`,
    );
    const expected = byClient([bytes]);
    expect(expected).toHaveLength(6);
    for (let i = 0; i <= bytes.length; i++) {
      const found = byFrames([bytes.subarray(0, i), bytes.subarray(i)]);
      expect(found.events, `cut at ${i}`).toEqual(expected);
      expect(found.taken).toBe(3);
    }
    expect(byFrames(Array.from(bytes, (byte) => Uint8Array.of(byte))).events).toEqual(expected);
  });

  test('a reply subject is read again if the client got something in between', () => {
    const message = (reply: string) => `MSG a 3 $JS.ACK.${reply}.x 1\r\nx\r\n`;
    const other = 'HMSG a 3 $JS.ACK.2.x 12 13\r\nNATS/1.0\r\n\r\n!\r\n';
    const { replies } = byFrames([Buffer.from(message('1') + other + message('3'))]);
    expect(replies).toEqual(['$JS.ACK.1', '$JS.ACK.3', '$JS.ACK.3']);
  });

  test('a message for the client may remove the sink of the message after it', () => {
    const other = 'HMSG a 9 r 12 13\r\nNATS/1.0\r\n\r\n!\r\n';
    const ours = 'MSG a 1 2\r\nhi\r\n';
    const bytes = Buffer.from(other + ours + ours);
    for (let cut = other.length; cut <= bytes.length; cut++) {
      const events: Event[] = [];
      let taken = 0;
      const sinks = new Map<number, FrameSink>([[1, { frame: () => taken++ }]]);
      const client = new Parser({
        push: (event) => {
          sinks.clear();
          events.push(clientEvent(event));
        },
      });
      const parser = new FrameParser(client, sinks);
      for (const chunk of [bytes.subarray(0, cut), bytes.subarray(cut)]) parser.parse(chunk);
      expect(taken, `cut at ${cut}`).toBe(0);
      expect(events, `cut at ${cut}`).toEqual(byClient([bytes]));
    }
  });

  test('the memory of a chunk is freed when nobody needs it any more', () => {
    const ours = 'MSG a 1 2\r\nhi\r\n';
    const cases = [
      { chunk: ours, isGone: true },
      { chunk: ours + ours.replace(' 1 ', ' 2 '), isGone: false, why: 'a sink keeps what it gets' },
      { chunk: `${ours}PING\r\n${ours}`, isGone: true, why: 'the client has a copy of its part' },
      { chunk: 'PING\r\n', isGone: false, why: 'all of it goes to the client' },
    ];
    for (const { chunk, isGone, why } of cases) {
      let flushed = 0;
      const flush = () => flushed++;
      const frame = () => {};
      const sinks = new Map<number, FrameSink>([
        [1, { frame, flush }],
        [2, { frame }],
      ]);
      const buffer = new TextEncoder().encode(chunk).slice().buffer;
      new FrameParser({ parse: () => {} }, sinks).parse(new Uint8Array(buffer));
      expect(buffer.detached, why).toBe(isGone);
      expect(flushed, why).toBe(isGone ? 1 : 0);
    }
    const shared = new Uint8Array(100);
    shared.set(Buffer.from(ours));
    const sinks = new Map<number, FrameSink>([[1, { frame: () => {}, flush: () => {} }]]);
    new FrameParser({ parse: () => {} }, sinks).parse(shared.subarray(0, ours.length));
    expect(shared.buffer.detached, 'somebody else has a part of it').toBe(false);
  });

  test('who keeps what it gets has a copy of a buffer that is used again', () => {
    const ours = Buffer.from('MSG a 1 2\r\nhi\r\n');
    const kept: (() => string)[] = [];
    const keep = (bytes: Uint8Array, start: number, end: number) =>
      kept.push(() => text(bytes.subarray(start, end)));
    const sinks = new Map<number, FrameSink>([
      [1, { frame: (bytes, _1, _2, start, end) => void keep(bytes, start, end) }],
      [2, { frame: () => {}, flush: () => {} }],
    ]);
    const client = { parse: (bytes: Uint8Array) => void keep(bytes, 0, bytes.length) };
    const parser = new FrameParser(client, sinks);
    parseShared(parser, [ours, Buffer.from('PING\r\n'), Buffer.concat([ours, ours])]);
    expect(kept.map((read) => read())).toEqual(['hi', 'PING\r\n', 'hi', 'hi']);
  });

  test('the memory of a message that came in several chunks is freed as well', () => {
    const ours = Buffer.from('MSG a 1 2\r\nhi\r\n');
    for (const flush of [() => {}, undefined]) {
      const given: Uint8Array[] = [];
      const sinks = new Map<number, FrameSink>([[1, { frame: (bytes) => given.push(bytes), flush }]]);
      const parser = new FrameParser({ parse: () => {} }, sinks);
      for (let cut = 1; cut < ours.length; cut++) {
        parser.parse(new Uint8Array(ours.subarray(0, cut)));
        parser.parse(new Uint8Array(ours.subarray(cut)));
        const { buffer } = given.at(-1)!;
        expect((buffer as ArrayBuffer).detached, `cut at ${cut}`).toBe(flush !== undefined);
      }
      expect(given.length).toBe(ours.length - 1);
    }
  });

  test('after bytes that are not understood, everything goes to the client', () => {
    const good = 'MSG a 1 2\r\nhi\r\n';
    const events: string[] = [];
    const client = { parse: (bytes: Uint8Array) => events.push(text(bytes)) };
    for (const strange of ['MSG a 1 x\r\n', 'MSG a 1 3\rx', `MSG ${'a'.repeat(70_000)}`]) {
      events.length = 0;
      let taken = 0;
      const parser = new FrameParser(client, new Map([[1, { frame: () => taken++ }]]));
      for (const chunk of [good, strange, good]) parser.parse(Buffer.from(chunk));
      expect(taken).toBe(1);
      expect(events.join('')).toBe(strange + good);
    }
  });
});

test('reading by frames is refused on a version of the package that was not tested', () => {
  const protocol = { parser: { parse: () => {} }, transport: { version: '2.99.0' } };
  const make = (version: string) =>
    new Frames({ protocol: { ...protocol, transport: { version } } } as unknown as NatsConnection);
  expect(() => make('2.99.0')).toThrow(BusError);
  expect(() => make('2.99.0')).toThrow(/not with 2.99.0/);
  expect(() => make(TESTED_VERSIONS[0]!)).not.toThrow();
  expect(() => new Frames({} as NatsConnection)).toThrow(BusError);
});

describe.each(['frames', 'plain'])('%s, on a real server', (METRICS_RECEIVE) => {
  const stops: (() => unknown)[] = [];
  afterEach(async () => {
    while (stops.length > 0) await stops.pop()!();
  });
  const attach = async (env: Record<string, string>) => {
    const core = settings({ METRICS_RECEIVE, ...env });
    const bus = await connect(core, memoryLog());
    stops.push(() => bus.close());
    return { core, bus };
  };
  const read = (source: Source) => {
    const reader = new Recorder();
    const stop = new AbortController();
    const running = source.run(reader, stop.signal);
    stops.push(async () => {
      stop.abort();
      await running;
    });
    return reader;
  };

  test('TLS, headers, large messages', async () => {
    const folder = temporaryFolder('frames');
    stops.push(() => folder.remove());
    const { server, ca } = makeCertificates(folder.path);
    const nats = await startNats({ jetstream: false, tls: server });
    stops.push(() => nats.stop());
    const { core, bus } = await attach({ NATS_URL: `tls://127.0.0.1:${nats.port}`, NATS_TLS_CA_FILE: ca });
    const reader = read(createCoreSource(bus, core));
    const expected = numbers(0, 2000).map((i) => `${i}`.padEnd(i % 500 === 0 ? 700_000 : i % 300, 'x'));
    for (const [i, payload] of expected.entries()) {
      const withHeader = headers();
      withHeader.set('name', 'value');
      bus.connection.publish('metrics.a', payload, i % 7 === 0 ? { headers: withHeader } : {});
      if (i % 500 === 0) await bus.flush();
    }
    await until('all', () => reader.payloads.length >= expected.length);
    expect(reader.payloads).toEqual(expected);
  });

  test('a connection that breaks again and again in the middle of frames', async () => {
    const nats = await startNats();
    stops.push(() => nats.stop());
    const proxy = await FaultProxy.start(nats.port);
    stops.push(() => proxy.stop());
    const { core, bus } = await attach({ NATS_URL: `nats://127.0.0.1:${proxy.port}` });
    await ensureStream(bus, core);
    const producer = await attach({ NATS_URL: nats.url });
    await publishStored(producer.bus, 0, 60_000);
    const source = createJetStreamSource(bus, core, { start: { kind: 'earliest' } });
    const reader = read(source);
    for (let breaks = 1; breaks <= 5; breaks++) {
      const { length } = reader.sequences;
      proxy.cut('response', 300_001 + 37 * breaks);
      await until(
        'broken and reading again',
        () => bus.stats.reconnects >= breaks && reader.sequences.length > length,
      );
      await publishStored(producer.bus, 50_000 + 10_000 * breaks, 60_000 + 10_000 * breaks);
    }
    await until('all', () => reader.sequences.length >= 110_000);
    expect(reader.sequences).toEqual(numbers(1, 110_001));
    expect(reader.payloads).toEqual(numbers(0, 110_000).map(String));
    expect(source.stats).toMatchObject({ gaps: 0 });
  });

  test('a request that the server ends silently is repeated', async () => {
    const nats = await startNats();
    stops.push(() => nats.stop());
    const { core, bus } = await attach({ NATS_URL: nats.url });
    await ensureStream(bus, core);
    const payload = new Uint8Array(3000);
    for (let i = 0; i < 12_000; i++) {
      bus.connection.publish('metrics', payload);
      if (i % 1000 === 999) await bus.flush();
    }
    let swallowed = 0;
    // As the server does if the messages use up the bytes of a request exactly.
    const isSwallowed = (code: number) => {
      if (code === 409) swallowed += 1;
      return code === 409;
    };
    const silent = losing(bus, () => false, isSwallowed);
    const source = createJetStreamSource(silent, core, { start: { kind: 'earliest' } });
    const reader = read(source);
    await until('all', () => reader.sequences.length >= 12_000);
    expect(swallowed).toBeGreaterThan(2);
    expect(reader.sequences).toEqual(numbers(1, 12_001));
    expect(source.stats).toMatchObject({ gaps: 0, resumptions: 0 });
  });

  test('a slow consumer is disconnected by the server, and goes on after the gap', async () => {
    const nats = await startNats({ jetstream: false, extra: 'max_pending: 1MB\nwrite_deadline: "200ms"' });
    stops.push(() => nats.stop());
    const { core, bus } = await attach({ NATS_URL: nats.url });
    const source = createCoreSource(bus, core);
    const reader = read(source);
    await bus.flush();
    // Stalls in every turn of the event loop: how much arrives during one stall depends on the machine.
    let isStalled = false;
    reader.onMessage = () => {
      if (isStalled || bus.stats.disconnects > 0) return;
      isStalled = true;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STALL_MS);
      setImmediate(() => {
        isStalled = false;
      });
    };
    const flood = startProgram(['load', '--rate', '0'], { NATS_URL: nats.url, METRICS_SOURCE: 'core' });
    stops.push(() => flood.stop('SIGKILL'));
    await until('disconnected', () => bus.stats.reconnects > 0);
    await until('a gap', () => source.stats.gaps > 0);
    await flood.stop('SIGINT');
    await until('reading again', () => bus.publish('metrics', 'again') && reader.payloads.includes('again'));
  });
});
