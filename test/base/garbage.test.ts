import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { TEST_LIMIT_MS } from '../limits.ts';

const URL_OF_MODULE = new URL('../../src/base/garbage.ts', import.meta.url).href;

/** A thread that makes garbage and then does nothing. */
function thread(): Worker {
  const code = `
    const { parentPort } = require('node:worker_threads');
    import('${URL_OF_MODULE}').then(({ shrinkWhenSettled }) => {
      const garbage = new WeakRef({ made: 'at the start' });
      shrinkWhenSettled(1);
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
});
