/** What commands print, and their exit codes if nobody reads it. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAIN } from '../../src/base/own-program.ts';

/** More than a pipe holds. */
const SINKS = 5_000;
const QUESTION = 'sum of \u009b2J\u202e, by app';

/** Answers as a service with this many sinks would. */
const service = createServer((_, response) => {
  const sinks = Array.from({ length: SINKS }, (_, i) => ({
    id: `sink${i}`,
    cost: {},
    queries: { sums: { question: QUESTION } },
  }));
  response.end(JSON.stringify({ now: new Date().toISOString(), messages: { perSecond: 1 }, sinks }));
});
let url: string;
beforeAll(async () => {
  service.listen(0, '127.0.0.1');
  await once(service, 'listening');
  url = `http://127.0.0.1:${(service.address() as AddressInfo).port}`;
});
afterAll(() => service.close());

/** `delayMs`: how long its output is not read; undefined: never, it is closed. */
async function called(args: readonly string[], delayMs: number | undefined, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, ['--no-warnings', MAIN, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exit = once(child, 'exit');
  if (delayMs === undefined) {
    child.stdout.destroy();
    return { code: (await exit)[0], text: '' };
  }
  await sleep(delayMs);
  const text = (await child.stdout.setEncoding('utf8').toArray()).join('');
  return { code: (await exit)[0], text };
}

test('a long answer arrives in full, however late it is read, and nothing in it acts on a terminal', async () => {
  const { code, text } = await called(['compare', '--once', '--json', '--url', url], 2_000);
  expect(code).toBe(0);
  const [answer] = JSON.parse(text).services;
  expect(answer.sinks).toHaveLength(SINKS);
  expect(answer.sinks[0].queries.sums.question).toBe(QUESTION);
  expect(text).not.toMatch(/[\u007f-\u009f\u202a-\u202e]/);
});

test('the exit code says what was found even if nobody reads the output', async () => {
  // A bus that is not there.
  const env = { NATS_URL: 'nats://127.0.0.1:1', SINK_BLACKHOLE_ENABLED: 'true' };
  expect(await called(['check'], undefined, env)).toMatchObject({ code: 1 });
  expect(await called(['manual'], undefined)).toMatchObject({ code: 0 });
  expect(await called(['compare', '--once', '--url', 'http://127.0.0.1:1'], undefined)).toMatchObject({
    code: 1,
  });
});
