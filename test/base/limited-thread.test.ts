import { once } from 'node:events';
import { cachedDataVersionTag, setFlagsFromString } from 'node:v8';
import { expect, test } from 'vitest';
import { startThread } from '../../src/base/limited-thread.ts';

const OLD_MB = 96;
const WAITS = new URL('data:text/javascript,setInterval(() => {}, 1000)');

/** How much the heap of a thread may take in all, in MB. */
async function heapOf(young: number): Promise<number> {
  const thread = startThread(WAITS, 'test', undefined, { young, old: OLD_MB });
  try {
    await once(thread, 'online');
    return (await thread.getHeapStatistics()).heap_size_limit / 2 ** 20;
  } finally {
    await thread.terminate();
  }
}

test('a thread starts with the code that Node.js has kept of its own modules', async () => {
  // V8 takes it only where this is what it was. The first test of the file, as flags count from then on.
  const before = cachedDataVersionTag();
  await heapOf(6);
  expect(cachedDataVersionTag()).toBe(before);
});

test('the limits of a thread count, also where the process was started with others for its main thread', async () => {
  setFlagsFromString('--max-semi-space-size=8');
  setFlagsFromString(`--max-old-space-size=${10 * OLD_MB}`);
  const small = await heapOf(6);
  const large = await heapOf(24);
  expect(small).toBeGreaterThan(OLD_MB);
  expect(small).toBeLessThan(2 * OLD_MB);
  expect(large - small).toBeGreaterThanOrEqual(12);
});
