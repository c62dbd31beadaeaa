/** Who is answered first when a crowd has come, counted in rounds of the event loop and in requests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Heartbeat } from '../../src/base/heartbeat.ts';
import { HealthFirst } from '../../src/observe/health-first.ts';
import { serveHttp } from '../../src/observe/http-server.ts';
import type { Status } from '../../src/observe/status.ts';
import { LIMIT_MS } from '../limits.ts';
import type { CrowdData } from './crowd.ts';

const CROWD = 200;

describe('over the control socket', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'health-first-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('health is answered before most of those who have come earlier, and they are answered then', async () => {
    let others = 0;
    const health = Promise.withResolvers<number>();
    const all = Promise.withResolvers<void>();
    const http = await serveHttp({
      host: '127.0.0.1',
      port: 0,
      allowedHosts: undefined,
      clock: { now: Date.now },
      heartbeat: new Heartbeat(),
      unready: () => void health.resolve(others),
      status: () => ({}) as Status,
      metrics: async () => '',
      metricsType: 'text/plain',
      events: { opening: () => Buffer.from(''), subscribe: () => () => {} },
      control: {
        maxBodyBytes: 1000,
        answer: async () => {
          others += 1;
          if (others === CROWD) all.resolve();
          return { code: 200, type: 'text/plain', body: '' };
        },
      },
      replaced: (reason) => expect.unreachable(reason),
    });
    const socketPath = join(folder, 'control.sock');
    await http.listenOn(socketPath);
    const done = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const paths = [...Array<string>(CROWD).fill('/control/all/status'), '/readyz'];
    const crowd = new Worker(join(import.meta.dirname, 'crowd.ts'), {
      workerData: { socketPath, paths, done } satisfies CrowdData,
    });
    try {
      // Nothing is accepted meanwhile: the crowd is complete before its first request is read.
      expect(Atomics.wait(done, 0, 0, LIMIT_MS)).not.toBe('timed-out');
      expect(await health.promise).toBeLessThan(CROWD / 4);
      await all.promise;
    } finally {
      await crowd.terminate();
      await http.close();
    }
  });
});

describe('work that waits', () => {
  const rounds: (() => void)[] = [];
  const nextRound = () => rounds.shift()?.();
  const make = () => {
    rounds.length = 0;
    const done: string[] = [];
    const healthFirst = new HealthFirst((work) => rounds.push(work));
    const later = (...names: string[]) => {
      return names.map((name) => healthFirst.later(() => done.push(name)));
    };
    return { healthFirst, done, later };
  };

  test('is done in its order, a piece in each round, once nobody connects', () => {
    const { healthFirst, done, later } = make();
    healthFirst.newcomer();
    later('a', 'b', 'c');
    nextRound();
    expect(done).toEqual([]);
    nextRound();
    expect(done).toEqual(['a']);
    nextRound();
    nextRound();
    expect(done).toEqual(['a', 'b', 'c']);
    expect(rounds).toEqual([]);
    later('d');
    nextRound();
    expect(done).toEqual(['a', 'b', 'c', 'd']);
  });

  test('is not done once it is given up, and takes no round', () => {
    const { done, later } = make();
    const [, giveUp] = later('a', 'b', 'c');
    giveUp!();
    for (let round = 0; round < 2; round++) nextRound();
    expect(done).toEqual(['a', 'c']);
    for (const forget of later('d', 'e')) forget();
    later('f');
    nextRound();
    expect([done, rounds]).toEqual([['a', 'c', 'f'], []]);
  });

  test('is done also if somebody connects in every round', () => {
    const { healthFirst, done, later } = make();
    later('a', 'b');
    let passed = 0;
    for (; done.length < 2 && passed < 100; passed++) {
      healthFirst.newcomer();
      nextRound();
    }
    expect(done).toEqual(['a', 'b']);
    expect(passed).toBe(16);
  });
});
