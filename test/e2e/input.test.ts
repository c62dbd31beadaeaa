import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { loadConfig } from '../../src/config/config.ts';
import { REJECTION_TEXTS, REJECTIONS } from '../../src/decode/rejection.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { storedPoints, WINDOW_MS, WINDOWS } from './support.ts';

const folder = temporaryFolder('input');
const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;
const path = join(folder.path, 'fanout.db');
const limited = join(import.meta.dirname, 'limited-sink.ts');
let nats: NatsServer;
let service: ServiceProgram;
let bus: Bus;
let env: Record<string, string>;

beforeAll(async () => {
  nats = await startNats({ maxPayloadBytes: MAX_PAYLOAD_BYTES });
  env = {
    ...WINDOWS,
    NATS_URL: nats.url,
    FANOUT_REJECTED: 'true',
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: path,
    SINK_LIMITED_ENABLED: 'true',
    SINK_LIMITED_KIND: limited,
  };
  service = await startServiceProgram(env);
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  bus = await connect((await loadConfig({ NATS_URL: nats.url })).core, silent);
});
afterAll(async () => {
  await bus?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

/** Messages that are not samples, by the reason for which they are counted. */
const BAD: Record<string, (string | Uint8Array)[]> = {
  empty: ['', ' \n'],
  not_json: [
    'x',
    '{"name":"a"',
    '{"name":"a","type":"counter","value":NaN}',
    '[{"name":"a"},]',
    '{} {}',
    '\0',
  ],
  not_an_object: ['1', '"a"', 'null', 'true'],
  too_deep: [`{"x":${'['.repeat(5000)}${']'.repeat(5000)}}`],
  too_large: [`{"name":"${'a'.repeat(10 * 1024 * 1024)}","type":"counter","value":1}`],
  duplicate_key: ['{"name":"a","name":"b","type":"counter","value":1}'],
  bad_unicode: [
    '{"name":"\\ud800","type":"counter","value":1}',
    Buffer.from('{"name":"\xff","type":"counter","value":1}', 'latin1'),
  ],
  missing_name: ['{"type":"counter","value":1}'],
  bad_name: ['{"name":1,"type":"counter","value":1}', '{"name":"","type":"counter","value":1}'],
  bad_type: ['{"name":"a","type":"set","value":1}', '{"name":"a","value":1}'],
  bad_value: ['{"name":"a","type":"gauge","value":1e999}', '{"name":"a","type":"gauge","value":"1"}'],
  bad_dimensions: ['{"name":"a","type":"counter","value":1,"dimensions":{"b":{}}}'],
  too_many_dimensions: [
    JSON.stringify({
      name: 'a',
      type: 'counter',
      value: 1,
      dimensions: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, 'v'])),
    }),
  ],
  too_long: [`{"name":"${'a'.repeat(513)}","type":"counter","value":1}`],
  bad_timestamp: ['{"name":"a","type":"counter","value":1,"timestamp":"yesterday"}'],
  not_line_protocol: ['a =1', 'a b=1 2 3', ',,,=', 'name=a'],
  not_statsd: ['a|c', 'a|c|b', '|'],
};

/** Publishes, and retries if the limit of unsent bytes is exceeded. */
async function publish(subject: string, payload: string | Uint8Array): Promise<void> {
  while (!bus.publish(subject, payload)) await bus.flush();
  await bus.flush();
}

test('rejected messages are counted by reason, rarely logged, and do not affect good ones', async () => {
  const good = (value: number) => `{"name":"good","type":"counter","value":${value}}`;
  const rounds = 20;
  for (let round = 0; round < rounds; round++) {
    for (const [reason, messages] of Object.entries(BAD)) {
      // Ten megabytes each time: once is enough.
      if (reason === 'too_large' && round > 0) continue;
      for (const message of messages) {
        await publish('metrics.bad', message);
        await publish('metrics', good(1));
      }
    }
    await publish('metrics.array', `[${good(2)},{"name":"bad"},5,${good(3)}]`);
  }
  const end = Math.ceil(Date.now() / WINDOW_MS) * WINDOW_MS;
  await service.untilConfirmed(end);

  const { messages, samples, ready } = await service.status();
  const expected = Object.entries(BAD).map(([reason, list]) => [
    reason,
    list.length * (reason === 'too_large' ? 1 : rounds),
  ]);
  const none = Object.fromEntries(REJECTIONS.map((reason) => [reason, 0]));
  expect(messages.rejected).toEqual({ ...none, ...Object.fromEntries(expected) });
  expect(samples.rejected).toMatchObject({ bad_type: rounds, not_an_object: rounds });
  const bad = expected.reduce((sum, [, count]) => sum + Number(count), 0);
  expect(messages.received).toBe(2 * bad + rounds);
  expect(samples.byType.counter).toBe(bad + 2 * rounds);
  expect(ready).toBe(true);
  const points = (await storedPoints(env, 'sqlite')).filter(({ series }) => series.name === 'good');
  expect(points.reduce((sum, point) => sum + point.sum, 0)).toBe(bad + 5 * rounds);

  const counting = startProgram(['count', '--json'], env);
  expect(await counting.ended).toBe(0);
  const parts = Object.values(samples.rejected).reduce((sum, count) => sum + count, 0);
  expect(JSON.parse(counting.output.stdout)).toMatchObject({
    complete: true,
    remarks: [
      expect.stringContaining(`${bad} messages and ${parts} parts of others rejected in this range (`),
    ],
  });

  const lines = service.output.stderr.split('\n').filter((line) => line.includes('rejected a message'));
  for (const line of lines) {
    const { reason, advice } = JSON.parse(line);
    expect(advice).toBe(REJECTION_TEXTS[reason as keyof typeof REJECTION_TEXTS]);
  }
  const seconds = (Date.now() - Date.parse((await service.status()).startedAt)) / 1000;
  expect(lines.length).toBeGreaterThanOrEqual(Object.keys(BAD).length);
  expect(lines.length).toBeLessThanOrEqual(Object.keys(BAD).length * (seconds + 2));
});

test('a point that a store refuses for good is counted and published, and the others are written', async () => {
  const records: { sink: string; reason: string; point: { name: string; count: number } }[] = [];
  bus.subscribe('fanout.rejected.>', ({ data }) => records.push(JSON.parse(Buffer.from(data).toString())));
  await bus.flush();
  await publish('metrics', '{"name":"refuse.me","type":"counter","value":7}');
  await publish('metrics', '{"name":"take.me","type":"counter","value":8}');
  await service.untilConfirmed(Date.now());
  await bus.flush();
  await expect.poll(() => records.length).toBeGreaterThan(0);
  expect(records).toMatchObject([
    { sink: 'limited', reason: 'refused', point: { name: 'refuse.me', count: 1 } },
  ]);
  const { sinks } = await service.status();
  const limitedSink = sinks.find(({ id }) => id === 'limited');
  expect(limitedSink).toMatchObject({ up: true, rejected: { refused: 1 } });
  expect((await storedPoints(env, 'sqlite')).map(({ series }) => series.name)).toContain('refuse.me');
});
