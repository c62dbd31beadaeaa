import { AckPolicy } from 'nats';
import { expect, test } from 'vitest';
import { startNats } from '../../src/servers/nats.ts';
import { connect } from '../bus-client.ts';
import { deleteStreams } from './deleted-streams.ts';

/** So many that the server takes a while to remove their files. */
const CONSUMERS = 500;

test('a stream that is made after deletions has nothing of those before', async ({ onTestFinished }) => {
  const nats = await startNats();
  onTestFinished(() => nats.stop());
  const client = await connect({ servers: nats.url });
  onTestFinished(() => client.close());
  const { streams, consumers } = await client.jetstreamManager();
  const make = () => streams.add({ name: 'METRICS', subjects: ['metrics'] });
  await make();
  const names = Array.from({ length: CONSUMERS }, (_, i) => `c${i}`);
  await Promise.all(
    names.map((durable_name) => consumers.add('METRICS', { durable_name, ack_policy: AckPolicy.Explicit })),
  );
  await deleteStreams(nats, streams, ['METRICS']);
  await make();
  await client.jetstream().publish('metrics', '1');
  await deleteStreams(nats, streams, ['METRICS']);
  expect((await make()).state).toMatchObject({ messages: 0, last_seq: 0 });
});
