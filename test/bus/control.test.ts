/** Control answers only to inboxes, and refuses requests that want the answer elsewhere. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Bus } from '../../src/bus/connect.ts';
import { isInbox, serveControl } from '../../src/bus/control.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { LIMIT_MS } from '../limits.ts';
import { repliesTaken } from './server-version.ts';
import { busAt, settings } from './support.ts';

/** More than nats-server takes of a message by default. */
const LARGE_BYTES = 1024 * 1024;
const identity = { instance: 'one', pipeline: 'default', slice: '0/1' };
let nats: NatsServer;
let bus: Bus;
let client: Bus;
let handled: string[];
let ignored: string[];

beforeAll(async () => {
  nats = await startNats();
  [bus, client] = [await busAt(nats.url), await busAt(nats.url)];
  await serveControl(bus, {
    identity,
    operations: { pause: { summary: '' }, large: { summary: '' } },
    replyPrefixes: ['_INBOX.'],
    handle: (operation) => {
      handled.push(operation);
      return { status: 200, body: operation === 'large' ? `"${'x'.repeat(LARGE_BYTES)}"` : '{}' };
    },
    unanswerable: (_, reply) => ignored.push(reply),
  });
});
beforeEach(() => {
  [handled, ignored] = [[], []];
});
afterAll(async () => {
  await Promise.all([bus?.close(), client?.close()]);
  await nats?.stop();
});

const subjects = [
  'fanout.control.one.pause',
  'fanout.control.all.pause',
  '$SRV.PING',
  '$SRV.PING.metrics-fanout',
  '$SRV.INFO',
  '$SRV.STATS',
];
const elsewhere = [
  'metrics',
  'metrics.a',
  '$KV.fanout-checkpoints.default.a.0-1',
  '$JS.API.STREAM.PURGE.METRICS',
  'fanout.control.all.pause',
  'fanout.control.events.x',
  '_INBOX',
  '_INBOXES.a',
  '_INBOX.',
  '_INBOX.*',
];

test('an answer that the bus does not take is told as an error that says what to do', async () => {
  const answer = await client.connection.request('fanout.control.one.large', '', { timeout: LIMIT_MS });
  expect(answer.headers?.get('Nats-Service-Error-Code')).toBe('413');
  expect(answer.json()).toMatchObject({
    instance: 'one',
    ok: false,
    error: { code: 'too_large', message: expect.stringMatching(/1048578 bytes.*max_payload.*HTTP/) },
  });
});

test.each(subjects)('%s answers to inboxes only', async (subject) => {
  const answers: string[] = [];
  const heard = client.connection.subscribe('>', {
    callback: (_, message) => {
      if (!subjects.includes(message.subject)) answers.push(message.subject);
    },
  });
  const request = () => client.connection.request(subject, '', { timeout: LIMIT_MS });
  for (const reply of elsewhere) client.connection.publish(subject, '', { reply });
  client.connection.publish(subject, '');
  // When this is answered, all earlier requests have been handled. After two round trips, all answers have arrived.
  await request();
  await bus.flush();
  await client.flush();
  heard.unsubscribe();
  expect(answers.filter((answered) => !answered.startsWith('_INBOX.fanout.'))).toEqual([]);
  const taken = await repliesTaken(client.connection, elsewhere);
  expect(ignored.sort()).toEqual([...taken, ''].sort());
  expect(handled).toEqual(subject.startsWith('fanout') ? ['pause'] : []);
});

test('a prefix consists of whole tokens', () => {
  const { controlReplyPrefixes } = settings({ CONTROL_REPLY_PREFIXES: '_INBOX.operator, in' });
  expect(controlReplyPrefixes).toEqual(['_INBOX.operator.', 'in.']);
  const isTaken = (subject: string) => isInbox(subject, controlReplyPrefixes);
  expect(['_INBOX.operator.x', 'in.a.b'].filter(isTaken)).toHaveLength(2);
  expect(['_INBOX.operators.x', '_INBOX.x', 'inn.a', 'in', 'in.', 'in..a', 'in.>'].filter(isTaken)).toEqual(
    [],
  );
  for (const bad of ['>', '*', '_INBOX.>', '$KV.a', 'a,,b', 'a b'])
    expect(() => settings({ CONTROL_REPLY_PREFIXES: bad }), bad).toThrow('CONTROL_REPLY_PREFIXES');
});
