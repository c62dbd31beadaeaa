/** Publishing with acknowledgements, to somebody who stands in for the stream and decides when they come. */
import type { Msg } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AckedPublisher } from '../../src/bus/acked-publisher.ts';
import type { Bus } from '../../src/bus/connect.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
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
