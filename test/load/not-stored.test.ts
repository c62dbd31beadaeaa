/** A server may take messages long before it stores them. */
import { expect, test } from 'vitest';
import { brokenInWords, notStored, untilStored } from '../../src/load/not-stored.ts';

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

test('a broken connection means a loss only if nobody knows better', () => {
  const unknown = { messages: undefined, unknown: 'a reason' };
  expect(brokenInWords(0, { messages: 0 })).toBe('the connection broke');
  expect(brokenInWords(1234, { messages: 0 })).toBe(
    'the connection broke: the server did not confirm 1,234 messages',
  );
  expect(brokenInWords(0, unknown)).toBe('the connection broke, so messages may be lost');
  expect(brokenInWords(7, unknown)).toBe(
    'the connection broke: the server did not confirm 7 messages; they, and more, may be lost',
  );
});
