/** The charts of the page are kept where the checkpoints are. */
import type { KV, NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Charts } from '../../src/observe/history.ts';
import { momentsOf } from '../../src/observe/kept-history.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';

const KEY = 'charts.default_0-1';
let nats: NatsServer;
let client: NatsConnection;
let bucket: KV;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await client?.close();
  await nats?.stop();
});

/** The charts with which a page opens. */
async function opening({ url }: ServiceProgram): Promise<Charts> {
  const over = new AbortController();
  const { body } = await fetch(`${url}/api/events`, { signal: over.signal });
  let text = '';
  for await (const part of body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.includes('\n\n')) break;
  }
  over.abort();
  return JSON.parse(/^data: (.*)$/m.exec(text)![1]!).charts;
}

test('what an instance showed, the next one shows too, with a hole between', async () => {
  const env = { NATS_URL: nats.url, SINK_BLACKHOLE_ENABLED: 'true' };
  const first = await startServiceProgram(env);
  await first.stop();
  bucket = await client.jetstream().views.kv('fanout-checkpoints', { bindOnly: true });
  const now = Math.round(Date.now() / 1000);
  const times = [now - 7000, now - 300, now - 240];
  await bucket.put(KEY, JSON.stringify({ times, columns: { messages: [1, 2, 3], 'late:gone': [1, 1, 1] } }));
  const second = await startServiceProgram(env);
  await expect
    .poll(async () => (await opening(second)).times.slice(0, 3), { timeout: LIMIT_MS })
    .toEqual([now - 300, now - 240, now - 239]);
  const { columns } = await opening(second);
  expect(columns.messages!.slice(0, 3)).toEqual([2, 3, null]);
  expect(columns).not.toHaveProperty('late:gone');
  await second.stop();
  // It keeps them again when it stops.
  const entry = (await bucket.get(KEY))!;
  expect(entry.string()).not.toContain('late:gone');
  const kept = momentsOf(entry.string(), Date.now() / 1000);
  expect(kept.map(({ time }) => time)).toEqual(expect.arrayContaining([now - 300]));
});
