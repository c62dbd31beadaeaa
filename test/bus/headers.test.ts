import { connect as connectSocket } from 'node:net';
import { headers, type Msg } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect } from '../../src/bus/connect.ts';
import { incoming, isConditional } from '../../src/bus/headers.ts';
import { createCoreSource } from '../../src/bus/read/core.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import { ensureStream, manager } from '../../src/bus/stream.ts';
import { DELETE_MARKER, SCHEDULE } from '../../src/decode/encoding.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { deleteStreams } from './deleted-streams.ts';
import { memoryLog, Recorder, settings, until } from './support.ts';

let nats: NatsServer;
beforeAll(async () => {
  nats = await startNats();
});
afterAll(() => nats.stop());

/** The header of what the server stores in place of a message that it removed. */
const MARKER = 'Nats-Marker-Reason: MaxAge\r\n';

/** The headers of a message, and the encoding that the reader gets. */
const ENCODED: readonly (readonly [
  headers: string | undefined,
  encoding: string | undefined,
  payload?: string,
])[] = [
  [undefined, undefined],
  ['', undefined],
  ['name: value\r\n', undefined],
  ['Content-Encoding: gzip\r\n', 'gzip'],
  ['a: b\r\ncontent-encoding:zstd \r\nc: d\r\n', 'zstd'],
  ['Content-Encoding: a\r\nCONTENT-ENCODING: b\r\n', 'a,b'],
  ['Content-Encoding:\r\n', ''],
  ['Content-Type: text/plain\r\n', undefined],
  [MARKER, undefined],
  [MARKER, DELETE_MARKER, ''],
  // No client sends these.
  ['two words: x\r\nContent-Encoding: gzip\r\n', undefined],
  ['no colon\r\n', undefined],
  ['\xff\xfe: x\r\n', undefined],
  [undefined, undefined],
];

/** Publishes a message for each of ENCODED, including headers that a client would refuse. */
async function publishEncoded({ port }: NatsServer): Promise<void> {
  const socket = connectSocket(port, '127.0.0.1');
  const answer = new Promise<void>((resolve) => {
    socket.on('data', (data) => {
      if (data.includes('PONG')) resolve();
    });
  });
  socket.write('CONNECT {"verbose":false,"headers":true}\r\n');
  for (const [i, [headers, , payload = `${i}`]] of ENCODED.entries()) {
    const block = headers === undefined ? '' : `NATS/1.0\r\n${headers}\r\n`;
    const sizes = headers === undefined ? payload.length : `${block.length} ${block.length + payload.length}`;
    const verb = headers === undefined ? 'PUB' : 'HPUB';
    socket.write(Buffer.from(`${verb} metrics ${sizes}\r\n${block}${payload}\r\n`, 'latin1'));
  }
  socket.write('PING\r\n');
  await answer;
  socket.destroy();
}

test.each([
  ['jetstream', 'frames'],
  ['jetstream', 'plain'],
  ['core', 'frames'],
  ['core', 'plain'],
])(
  '%s, %s: a reader gets the encoding of a message; headers that cannot be read are ignored',
  async (source, receive) => {
    const core = settings({
      NATS_URL: nats.url,
      METRICS_RECEIVE: receive,
      METRICS_SUBJECTS: 'metrics',
      METRICS_STREAM: receive,
    });
    const bus = await connect(core, memoryLog());
    const stop = new AbortController();
    const reader = new Recorder();
    if (source === 'jetstream') await ensureStream(bus, core);
    const from =
      source === 'jetstream'
        ? createJetStreamSource(bus, core, { start: { kind: 'earliest' } })
        : createCoreSource(bus, core);
    const reading = from.run(reader, stop.signal);
    await bus.flush();
    await publishEncoded(nats);
    await until('all', () => reader.payloads.length === ENCODED.length);
    expect(reader.payloads).toEqual(ENCODED.map(([, , payload], i) => payload ?? `${i}`));
    expect(reader.encodings).toEqual(ENCODED.map(([, encoding]) => encoding));
    stop.abort();
    await reading;
    if (source === 'jetstream') await deleteStreams(nats, (await manager(bus)).streams, [receive]);
    await bus.close();
  },
);

// From 2.12 on, a server refuses these headers where they mean nothing.
test('an order to publish something later is none to count; what comes of it is', () => {
  const encodingWith = (name: string, value: string) => {
    const block = headers();
    block.set(name, value);
    return incoming({ data: Buffer.from('{}'), subject: 'metrics', headers: block } as Partial<Msg> as Msg)
      .encoding;
  };
  expect(encodingWith('Nats-Schedule', '@at 2026-11-23T01:30:00Z')).toBe(SCHEDULE);
  expect(encodingWith('Nats-Scheduler', 'metrics.later')).toBeUndefined();
  expect(encodingWith('Nats-Schedule-Next', 'purge')).toBeUndefined();
});

test('the type of a message is passed on, however its header is written', () => {
  const block = headers();
  block.set('content-type', 'application/x-protobuf');
  const message = { data: Buffer.from('{}'), subject: 'metrics', headers: block } as Partial<Msg> as Msg;
  expect(incoming(message)).toMatchObject({ subject: 'metrics', contentType: 'application/x-protobuf' });
});

test('an increment is passed on, if its header is written as the server knows it', () => {
  const incrementIn = (name: string) => {
    const block = headers();
    block.set(name, '+5');
    const message = { data: Buffer.from(''), subject: 'metrics', headers: block } as Partial<Msg> as Msg;
    return incoming(message).increment;
  };
  expect(incrementIn('Nats-Incr')).toBe('+5');
  expect(incrementIn('nats-incr')).toBeUndefined();
});

test.each([
  ['Nats-Msg-Id', true],
  ['Nats-Expected-Last-Sequence', true],
  ['Nats-Batch-Id', true],
  ['Nats-Batched', false],
  ['Nats-Incr', true],
])('whether the header %s lets the stream refuse a message', (name, expected) => {
  const block = headers();
  block.set(name, '1');
  expect(isConditional({ headers: block } as Partial<Msg> as Msg)).toBe(expected);
});
