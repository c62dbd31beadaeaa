import { expect, test } from 'vitest';
import { freeSharedMemory } from '../../src/base/shared-memory.ts';

const MIB = 1024 * 1024;

/** In a function of its own, so that nothing else keeps it. */
function weakly(): WeakRef<SharedArrayBuffer> {
  return new WeakRef(new SharedArrayBuffer(MIB));
}

test('shared memory that nobody uses is freed once there may be enough of it', async () => {
  const memory = weakly();
  // A WeakRef keeps what it holds until the current turn is over.
  await new Promise((resolve) => setImmediate(resolve));
  freeSharedMemory(4 * MIB);
  expect(memory.deref()).toBeDefined();
  await new Promise((resolve) => setImmediate(resolve));
  freeSharedMemory(9 * MIB);
  expect(memory.deref()).toBeUndefined();
});
