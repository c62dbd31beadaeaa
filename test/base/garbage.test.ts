import { once } from 'node:events';
import { cachedDataVersionTag } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { startThread } from '../../src/base/limited-thread.ts';
import { TEST_LIMIT_MS } from '../limits.ts';

const URL_OF_MODULE = new URL('../../src/base/garbage.ts', import.meta.url).href;

/** V8 takes code that was kept only as long as this is the same. Flags, which decide it, are those of the process. */
const TAG = cachedDataVersionTag();

/**
 * Some 4 MB of them: the heap has to grow by 3 MB, and with all of them that are garbage by then it has to stay one
 * that is looked at, for nothing else collects it while the thread waits.
 */
const OBJECTS = 100_000;

/** A thread that makes garbage and then does nothing. */
function thread(): Worker {
  const code = `
    const { parentPort } = require('node:worker_threads');
    import('${URL_OF_MODULE}').then(({ keepHeapSmall }) => {
      const garbage = new WeakRef({ made: 'at the start' });
      keepHeapSmall({ settledMs: 1, lookMs: 60_000 });
      let looks = 0;
      const timer = setInterval(() => {
        looks += 1;
        if (garbage.deref() !== undefined && looks < 50) return;
        parentPort.postMessage({ isCollected: garbage.deref() === undefined });
        clearInterval(timer);
      }, 20);
    });`;
  return new Worker(code, { eval: true });
}

test('a thread that has settled gives back what it needed to start', { timeout: TEST_LIMIT_MS }, async () => {
  const [said] = await once(thread(), 'message');
  expect(said).toEqual({ isCollected: true });
  expect(cachedDataVersionTag()).toBe(TAG);
});

test('a thread whose heap grows gives back what it no longer needs, and one whose heap does not is left alone', {
  timeout: TEST_LIMIT_MS,
}, async () => {
  const code = `
    import { constants, PerformanceObserver } from 'node:perf_hooks';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { parentPort } from 'node:worker_threads';
    import { keepHeapSmall } from '${URL_OF_MODULE}';
    const LOOK_MS = 10;
    let collections = 0;
    new PerformanceObserver((list) => {
      // V8 collects an idle heap too, after some seconds, and marks that with a flag.
      const { NODE_PERFORMANCE_GC_MAJOR: major, NODE_PERFORMANCE_GC_FLAGS_NO: none } = constants;
      for (const { detail } of list.getEntries()) if (detail.kind === major && detail.flags === none) collections += 1;
    }).observe({ entryTypes: ['gc'] });
    keepHeapSmall({ settledMs: 1, lookMs: LOOK_MS });
    const until = async (condition) => { while (!condition()) await sleep(LOOK_MS); };
    await until(() => collections > 0);
    for (let looks = 0; looks < 20; looks++) await sleep(LOOK_MS);
    const settled = collections;
    for (let looks = 0; looks < 20; looks++) await sleep(LOOK_MS);
    const quiet = collections;
    let held = Array.from({ length: ${OBJECTS} }, (_, i) => ({ i }));
    await until(() => collections > quiet);
    const lost = new WeakRef(held);
    held = Array.from({ length: ${OBJECTS} }, (_, i) => ({ i }));
    await until(() => lost.deref() === undefined);
    parentPort.postMessage({ whileQuiet: quiet - settled, held: held.length });`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const [said] = await once(startThread(url, 'test', undefined, { young: 4, old: 64 }), 'message');
  expect(said.held).toBe(OBJECTS);
  // One at each look would be 20 and more.
  expect(said.whileQuiet).toBeLessThan(5);
});

test('threads that collect at the same moment do not take the collector from each other', {
  timeout: TEST_LIMIT_MS,
}, async () => {
  const THREADS = 4;
  const code = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { collectGarbage } from '${URL_OF_MODULE}';
    const arrived = new Int32Array(workerData);
    const garbage = new WeakRef({});
    await new Promise((resolve) => setTimeout(resolve));
    if (Atomics.add(arrived, 0, 1) + 1 === ${THREADS}) Atomics.notify(arrived, 0);
    for (let now = Atomics.load(arrived, 0); now < ${THREADS}; now = Atomics.load(arrived, 0)) Atomics.wait(arrived, 0, now, 100);
    collectGarbage();
    parentPort.postMessage(garbage.deref() === undefined);`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  for (let round = 0; round < 10; round++) {
    const together = new SharedArrayBuffer(4);
    const said = Array.from({ length: THREADS }, () =>
      once(startThread(url, 'test', together, { young: 4, old: 64 }), 'message'),
    );
    expect((await Promise.all(said)).flat()).toEqual(Array(THREADS).fill(true));
  }
});

test('collecting again and again takes one context of V8 more, not one each time', {
  timeout: TEST_LIMIT_MS,
}, async () => {
  const code = `
    import { parentPort } from 'node:worker_threads';
    import { getHeapStatistics } from 'node:v8';
    import { collectGarbage } from '${URL_OF_MODULE}';
    const garbage = new WeakRef({});
    await new Promise((resolve) => setTimeout(resolve));
    for (let i = 0; i < 5; i++) collectGarbage();
    const isCollected = garbage.deref() === undefined;
    parentPort.postMessage({ isCollected, contexts: getHeapStatistics().number_of_native_contexts });`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const worker = startThread(url, 'test', undefined, { young: 4, old: 64 });
  const [{ isCollected, contexts }] = await once(worker, 'message');
  expect(isCollected).toBe(true);
  expect(contexts).toBeLessThanOrEqual(2);
  expect(cachedDataVersionTag()).toBe(TAG);
});
