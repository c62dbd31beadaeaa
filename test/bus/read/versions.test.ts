/** What nats-server does only from a certain version on, with a setting of its own: docs/nats-servers.md. */
import { expect, test } from 'vitest';
import { ensureStream } from '../../../src/bus/stream.ts';
import { startNats } from '../../../src/servers/nats.ts';
import { needsNats } from '../server-version.ts';
import { busAt, numbers, publishStored, Recorder, settings, startReading, until } from '../support.ts';

const MESSAGES = 30_000;

test('reply subjects with a domain and an account', async (context) => {
  needsNats(context, '2.14');
  const nats = await startNats({ domain: 'hub', extra: 'feature_flags { js_ack_fc_v2: true }' });
  const bus = await busAt(nats.url);
  const core = settings({ NATS_URL: nats.url });
  await ensureStream(bus, core);
  await publishStored(bus, 0, MESSAGES);
  const reader = new Recorder();
  const reading = startReading(bus, core, { kind: 'earliest' }, reader);
  await until('all are read', () => reader.sequences.length === MESSAGES);
  await until('it is idle', () => reader.progressTimes.at(-1)! >= reader.times.at(-1)!);
  await reading.stop();
  expect(reader.sequences).toEqual(numbers(1, MESSAGES + 1));
  expect(reader.payloads).toEqual(numbers(0, MESSAGES).map(String));
  expect(reader.gaps).toEqual([]);
  await bus.close();
  await nats.stop();
});
