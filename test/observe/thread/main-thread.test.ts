/** What the HTTP thread asks of the main thread, and what it answers if there is no answer. */
import { expect, test } from 'vitest';
import type { HttpReply, ServiceCall } from '../../../src/observe/http-routes.ts';
import { MainThread } from '../../../src/observe/thread/main-thread.ts';
import type { FromHttpThread, WaitLimits } from '../../../src/observe/thread/messages.ts';

const MAX_UNANSWERED_CALLS = 256;
const PATIENT: WaitLimits = { readyMs: 3_600_000, otherMs: 3_600_000 };
const HASTY: WaitLimits = { readyMs: 1, otherMs: 2 };
const METRICS: ServiceCall = { kind: 'metrics' };
const CONTROL: ServiceCall = {
  kind: 'control',
  entrance: 'tcp',
  request: { method: 'POST', url: '/control/all/status', headers: {}, body: new Uint8Array() },
};
const stays = new AbortController().signal;
const text = (body: string | Uint8Array): HttpReply => ({ code: 200, type: 'text/plain', body });

function mainThread(limits: WaitLimits, stillMs = 0) {
  const posted: number[] = [];
  const post = (message: FromHttpThread) => {
    if (message.kind === 'call') posted.push(message.number);
  };
  const main = new MainThread({ post, limits, stillMs: () => stillMs, now: () => 1_000_000 });
  return { main, posted };
}

test('all who ask for the same while nobody has an answer get the same one', async () => {
  const { main, posted } = mainThread(PATIENT);
  const asked = Array.from({ length: 10 }, () => main.ask(METRICS, stays));
  const status = main.ask({ kind: 'status' }, stays);
  expect(posted).toHaveLength(2);
  main.take(posted[1]!, text('status'));
  main.take(posted[0]!, text('metrics'));
  expect((await status).body).toBe('status');
  expect(new Set((await Promise.all(asked)).map(({ body }) => body))).toEqual(new Set(['metrics']));
  void main.ask(METRICS, stays);
  expect(posted).toHaveLength(3);
});

test('a reply that says it is the last one again is the very same bytes', async () => {
  const { main, posted } = mainThread(PATIENT);
  const bytes = new Uint8Array([1, 2, 3]);
  const ask = (call: ServiceCall, reply?: HttpReply) => {
    const asked = main.ask(call, stays);
    main.take(posted.at(-1)!, reply);
    return asked;
  };
  await ask(METRICS, text(bytes));
  await ask({ kind: 'status' }, text(new Uint8Array([4])));
  // One without bytes, such as that of a failure, is not kept.
  await ask(METRICS, text('failed'));
  expect((await ask(METRICS)).body).toBe(bytes);
});

test('requests to control are answered one by one, in whatever order', async () => {
  const { main, posted } = mainThread(PATIENT);
  const [one, two] = [main.ask(CONTROL, stays), main.ask(CONTROL, stays)];
  main.take(posted[1]!, text('two'));
  main.take(posted[0]!, text('one'));
  expect([(await one).body, (await two).body]).toEqual(['one', 'two']);
});

test('of requests to control, only so many wait for the main thread; scrapes and readiness have room', async () => {
  const { main, posted } = mainThread(PATIENT);
  const left = new AbortController();
  const asked = Array.from({ length: MAX_UNANSWERED_CALLS }, () => main.ask(CONTROL, left.signal));
  // What was posted stays in the queue, whether or not somebody waits for it.
  left.abort();
  await Promise.all(asked);
  expect(await main.ask(CONTROL, stays)).toMatchObject({
    code: 503,
    headers: { 'retry-after': expect.anything() },
  });
  expect(posted).toHaveLength(MAX_UNANSWERED_CALLS);
  const metrics = main.ask(METRICS, stays);
  main.take(posted.at(-1)!, text('metrics'));
  expect((await metrics).body).toBe('metrics');
  main.take(posted[0]!, text('late'));
  const again = main.ask(CONTROL, stays);
  main.take(posted.at(-1)!, text('answered'));
  expect((await again).body).toBe('answered');
});

test.each<[ServiceCall, number, string]>([
  [{ kind: 'ready' }, 503, 'the main thread has not answered within 0.001 s\n'],
  [METRICS, 504, 'the main thread has not answered within 0.002 s\n'],
  [CONTROL, 504, 'the main thread has not answered within 0.002 s. What was asked may still be done\n'],
])('%j that is not answered in time: %i, in words', async (call, code, body) => {
  expect(await mainThread(HASTY).main.ask(call, stays)).toMatchObject({ code, body });
});

test('after a while, the words say since when the main thread has stood still', async () => {
  const { main } = mainThread(HASTY, 12_000);
  const { body } = await main.ask(METRICS, stays);
  expect(body).toBe('the main thread has stood still since 1970-01-01T00:16:28.000Z (12 s)\n');
});

test('a peer that leaves is not waited for', async () => {
  const { main, posted } = mainThread(PATIENT);
  const left = new AbortController();
  const leaving = main.ask(METRICS, left.signal);
  const staying = main.ask(METRICS, stays);
  left.abort();
  await leaving;
  await main.ask(METRICS, AbortSignal.abort());
  main.take(posted[0]!, text('metrics'));
  expect((await staying).body).toBe('metrics');
  // An answer that nobody waits for any longer.
  main.take(posted[0]!, text('metrics'));
});
