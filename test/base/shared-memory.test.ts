import { expect, test } from 'vitest';
import { SharedMemoryCount } from '../../src/base/shared-memory.ts';

const MIB = 1024 * 1024;

/** In a function of its own, so that nothing else keeps it. */
function weakly(): WeakRef<SharedArrayBuffer> {
  return new WeakRef(new SharedArrayBuffer(MIB));
}

test('shared memory that nobody uses is freed once there may be enough of it', async () => {
  const count = new SharedMemoryCount();
  const memory = weakly();
  // A WeakRef keeps what it holds until the current turn is over.
  await new Promise((resolve) => setImmediate(resolve));
  count.free(4 * MIB);
  expect(memory.deref()).toBeDefined();
  await new Promise((resolve) => setImmediate(resolve));
  count.free(9 * MIB);
  expect(memory.deref()).toBeUndefined();
});

test('of several in one thread, each has its own count', async () => {
  const [much, little] = [new SharedMemoryCount(), new SharedMemoryCount()];
  much.free(100 * MIB);
  little.free(5 * MIB);
  const memory = weakly();
  await new Promise((resolve) => setImmediate(resolve));
  much.free(101 * MIB);
  expect(memory.deref()).toBeDefined();
});
