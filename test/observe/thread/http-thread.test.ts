/** The thread that owns the HTTP port: what it answers while the main thread is blocked, and what becomes of it. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Heartbeat } from '../../../src/base/heartbeat.ts';
import { type HttpOptions, type ServiceHttp, serveHttp } from '../../../src/observe/http-server.ts';
import type { Status } from '../../../src/observe/status.ts';
import { LIMIT_MS } from '../../limits.ts';
import type { AskerData } from './asker.ts';

const NS_PER_S = 1_000_000_000n;
const HASTY = { readyMs: 50, otherMs: 50 };
const root = join(import.meta.dirname, '../../..');

let http: ServiceHttp | undefined;
let heartbeat: Heartbeat;
/** How much too early the heart beats, in seconds: so much longer the main thread seems to have stood still. */
let earlier: bigint;
let replaced: string[];
let workers: Worker[];
const noteWorker = (worker: Worker) => workers.push(worker);

beforeEach(() => {
  [earlier, replaced, workers] = [0n, [], []];
  heartbeat = new Heartbeat(undefined, () => process.hrtime.bigint() - earlier * NS_PER_S);
  process.on('worker', noteWorker);
});
afterEach(async () => {
  process.off('worker', noteWorker);
  await http?.close();
  http = undefined;
});

async function serve(options: Partial<HttpOptions> = {}): Promise<ServiceHttp> {
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    allowedHosts: undefined,
    clock: { now: Date.now },
    heartbeat,
    unready: () => undefined,
    status: () => ({ now: 'now' }) as Status,
    metrics: async () => 'metrics',
    metricsType: 'text/plain',
    events: { opening: () => Buffer.from('opening\n'), subscribe: () => () => {} },
    replaced: (reason) => replaced.push(reason),
    ...options,
  });
  return http;
}

async function answerTo(path: string): Promise<{ code: number; body: string }> {
  const response = await fetch(`http://127.0.0.1:${http!.port}${path}`);
  return { code: response.status, body: await response.text() };
}

/** Blocks this thread, which is the main thread of the service, until somebody else has got an answer with the code. */
async function bodyWhileBlocked(path: string, until: number): Promise<string> {
  const done = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  const workerData: AskerData = { port: http!.port, path, until, done };
  const asker = new Worker(join(import.meta.dirname, 'asker.ts'), { workerData });
  try {
    await once(asker, 'online');
    Atomics.store(done, 1, 1);
    Atomics.notify(done, 1);
    expect(Atomics.wait(done, 0, 0, LIMIT_MS)).not.toBe('timed-out');
    // The message has been posted, and nothing was done here meanwhile.
    const [text] = (await once(asker, 'message')) as [string];
    return text;
  } finally {
    await asker.terminate();
  }
}

describe('while the main thread is blocked', () => {
  // By its heart, it has not stood still, however long a busy machine takes.
  beforeEach(() => {
    earlier = -3_600n;
  });

  test.each([
    ['/livez', 200, 'ok\n'],
    ['/healthz', 200, 'ok\n'],
    ['/', 200, 'metrics-fanout'],
    ['/absent', 404, 'not found\n'],
  ])('%s is answered with %i', async (path, code, body) => {
    await serve();
    expect(await bodyWhileBlocked(path, code)).toContain(body);
  });

  test.each([
    ['/readyz', 503],
    ['/metrics', 504],
    ['/api/status', 504],
    ['/api/events', 504],
  ])('%s gets %i with words in time, and its answer when the main thread moves again', async (path, code) => {
    await serve({ waitLimits: HASTY });
    expect(await bodyWhileBlocked(path, code)).toBe('the main thread has not answered within 0.05 s\n');
    const codeNow = async () => {
      const response = await fetch(`http://127.0.0.1:${http!.port}${path}`);
      await response.body!.cancel();
      return response.status;
    };
    await expect.poll(codeNow).toBe(200);
  });
});

describe('a main thread that stands still', () => {
  const seemStill = (seconds: bigint) => {
    earlier = seconds;
    heartbeat.beat();
  };
  const WORDS = /^the main thread has stood still since \d{4}-\d\d-\d\dT[\d:.]+Z \(\d+ s\)\n$/;
  const STILL = { code: 503, body: expect.stringMatching(WORDS) };

  test('fails /healthz after 30 s, /livez after two minutes, and neither when it moves again', async () => {
    await serve();
    seemStill(31n);
    expect(await answerTo('/healthz')).toEqual(STILL);
    expect((await answerTo('/livez')).code).toBe(200);
    seemStill(121n);
    expect(await answerTo('/healthz')).toEqual(STILL);
    expect(await answerTo('/livez')).toEqual(STILL);
    seemStill(0n);
    expect(await answerTo('/healthz')).toEqual({ code: 200, body: 'ok\n' });
    expect(await answerTo('/livez')).toEqual({ code: 200, body: 'ok\n' });
  });
});

describe('events', () => {
  test('are taken from the service only while a page is open', async () => {
    const sends = new Set<(event: string) => void>();
    const subscribe = (send: (event: string) => void) => {
      sends.add(send);
      return () => sends.delete(send);
    };
    await serve({ events: { opening: () => Buffer.from('event: opening\n\n'), subscribe } });
    await answerTo('/metrics');
    expect(sends.size).toBe(0);
    const pages = await Promise.all(
      [0, 1].map(async () => {
        const leave = new AbortController();
        const { body } = await fetch(`http://127.0.0.1:${http!.port}/api/events`, { signal: leave.signal });
        return { leave, reader: body!.pipeThrough(new TextDecoderStream()).getReader(), text: '' };
      }),
    );
    const until = async (part: string) => {
      for (const page of pages)
        while (!page.text.includes(part)) page.text += (await page.reader.read()).value;
    };
    await until('event: opening');
    // One for the thread, however many pages there are.
    expect(sends.size).toBe(1);
    for (let number = 0; number < 20; number++) {
      for (const send of sends) send(`event: view\ndata: ${number}\n\n`);
      await until(`data: ${number}\n`);
    }
    for (const { leave } of pages) leave.abort();
    await expect.poll(() => sends.size).toBe(0);
  });
});

describe('the thread', () => {
  test('that ends is replaced on the same port, and the service hears of it', async () => {
    const { port } = await serve();
    await workers[0]!.terminate();
    await expect.poll(() => answerTo('/metrics').catch(() => undefined)).toMatchObject({ code: 200 });
    expect(replaced).toEqual(['it ended by itself']);
    expect([workers.length, http!.port]).toEqual([2, port]);
    expect((await answerTo('/healthz')).code).toBe(200);
  });

  test('that cannot be replaced is a failure of the service', async () => {
    const thief = createServer();
    const { port } = await serve({
      replaced: () => thief.listen(port, '127.0.0.1'),
    });
    try {
      await workers[0]!.terminate();
      await expect(http!.failed).rejects.toMatchObject({ name: 'ListenError' });
    } finally {
      thief.close();
    }
  });

  test('is ended by close, which is no failure, and leaves the port to others', async () => {
    const { port } = await serve();
    await http!.close();
    expect(workers.map(({ threadId }) => threadId)).toEqual([-1]);
    const next = createServer().listen(port, '127.0.0.1');
    await once(next, 'listening');
    next.close();
    expect(replaced).toEqual([]);
  });

  test('has little memory, and loads no package: each would take as much as all of the rest', async () => {
    await serve();
    const { maxOldGenerationSizeMb, maxYoungGenerationSizeMb } = workers[0]!.resourceLimits!;
    expect(maxOldGenerationSizeMb! + maxYoungGenerationSizeMb!).toBeLessThanOrEqual(100);
    const loaded = new Set<string>();
    const load = (path: string) => {
      if (loaded.has(path)) return;
      loaded.add(path);
      if (path.startsWith('node:')) return;
      const imports = readFileSync(path, 'utf8').matchAll(/^import (?!type )[^;]*?'([^']+)';$/gm);
      for (const [, module] of imports)
        load(module!.startsWith('.') ? join(dirname(path), module!) : module!);
    };
    load(join(root, 'src/observe/thread/http-thread.ts'));
    expect(loaded.size).toBeGreaterThan(10);
    const others = [...loaded].filter((path) => !/^node:|\/src\/(base|observe)\//.test(path));
    expect(others).toEqual([]);
  });
});
