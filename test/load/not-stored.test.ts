/** A server may take messages long before it stores them. */
import { expect, test } from 'vitest';
import { notStored, untilStored } from '../../src/load/not-stored.ts';

/** What the stream has stored when it is asked, one answer after the other; then the last one again. */
function asked(held: readonly number[], sent: number) {
  let now = 0;
  let i = 0;
  const clock = {
    steady: () => now,
    sleep: async (ms: number) => {
      now += ms;
    },
  };
  const read = async () => ({ messages: held[Math.min(i++, held.length - 1)]!, doubt: undefined });
  return untilStored(read, sent, clock).then((result) => ({ ...result, asked: i, ms: now }));
}

test('is asked once if it has all', async () => {
  expect(await asked([10], 10)).toMatchObject({ messages: 0, asked: 1, ms: 0 });
});

test('has time for as long as it stores more', async () => {
  const slow = Array.from({ length: 100 }, (_, i) => i);
  expect(await asked(slow, 99)).toMatchObject({ messages: 0 });
  const lost = await asked([0, 5, 8], 10);
  expect(lost).toMatchObject({ messages: 2 });
  expect(lost.ms).toBeGreaterThanOrEqual(5_000);
});

test('what others publish, or what is gone, makes it unknown', () => {
  expect(notStored(10, 11).unknown).toContain('more on that subject');
  expect(notStored(10, 9, 'gone')).toEqual({ messages: undefined, unknown: 'gone' });
  expect(notStored(10, 10, 'gone')).toEqual({ messages: 0 });
});
