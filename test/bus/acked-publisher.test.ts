/** Publishing with acknowledgements, to a stream, and to somebody who stands in for one and decides when they come. */
import type { Msg } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AckedPublisher } from '../../src/bus/acked-publisher.ts';
import type { Bus } from '../../src/bus/connect.ts';
import { manager } from '../../src/bus/stream.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { FaultProxy } from '../faults/proxy.ts';
import { LIMIT_MS } from '../limits.ts';
import { busAt, until } from './support.ts';

const IN_FLIGHT = 256;
const MESSAGES = 2 * IN_FLIGHT + 10;

let nats: NatsServer;
let bus: Bus;
let stream: Bus;

beforeAll(async () => {
  nats = await startNats();
  [bus, stream] = [await busAt(nats.url), await busAt(nats.url)];
});
afterAll(async () => {
  await Promise.all([bus?.close(), stream?.close()]);
  await nats?.stop();
});

test('256 messages wait for their acknowledgement; each acknowledgement lets another one go', async () => {
  const waiting: Msg[] = [];
  const heard = new Set<string>();
  stream.connection.subscribe('acked', {
    callback: (_, message) => {
      waiting.push(message);
      // It comes again if it has waited for long.
      heard.add(message.string());
    },
  });
  await stream.flush();
  const publisher = new AckedPublisher(bus);
  for (let i = 0; i < MESSAGES; i++) publisher.publish('acked', Buffer.from(String(i)));
  const acknowledge = (message: Msg) => message.respond('{"stream":"S","seq":1}');
  for (const many of [IN_FLIGHT, IN_FLIGHT + 10, MESSAGES]) {
    await until(`${many} came`, () => heard.size >= many);
    await bus.flush();
    await stream.flush();
    expect(heard.size).toBe(many);
    for (const message of waiting.splice(0, many === IN_FLIGHT ? 10 : MESSAGES)) acknowledge(message);
  }
  const answering = setInterval(() => waiting.splice(0).forEach(acknowledge), 10);
  await publisher.flush();
  clearInterval(answering);
  expect(publisher.result).toMatchObject({ acknowledged: MESSAGES, refused: 0, unanswered: 0 });
});

test('what is not acknowledged is published again, and a stream takes it once', async () => {
  const { streams } = await manager(stream);
  await streams.add({ name: 'METRICS', subjects: ['metrics'] });
  const way = await FaultProxy.start(nats.port);
  const producer = await busAt(`nats://127.0.0.1:${way.port}`);
  const publisher = new AckedPublisher(producer);
  const many = 10;
  way.hang();
  for (let i = 0; i < many; i++) publisher.publish('metrics', Buffer.from(String(i)));
  await until('all are published again', () => publisher.result.repeated >= many);
  // Both copies of each arrive.
  await way.pass();
  await publisher.flush();
  expect(publisher.result).toMatchObject({ acknowledged: many, refused: 0, unanswered: 0 });
  // What was published before it has been stored by then.
  await producer.connection.jetstream().publish('metrics', 'last', { timeout: LIMIT_MS });
  expect((await streams.info('METRICS')).state.messages).toBe(many + 1);
  await producer.close();
  await way.stop();
});
