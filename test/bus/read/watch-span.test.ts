import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  addSpan,
  digestOf,
  newWatchTotals,
  unstoredShare,
  WatchSpan,
} from '../../../src/bus/read/watch-span.ts';
import { effort } from '../../effort.ts';

const digest = (text: string) => digestOf(Buffer.from(text), 0, Buffer.byteLength(text));

test('missing messages are those that were heard but not read, in whatever order the two happen', () => {
  const event = fc.record({
    message: fc.integer({ min: 0, max: 30 }),
    isLost: fc.boolean(),
    delay: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.uniqueArray(event, { selector: ({ message }) => message, maxLength: 30 }), (events) => {
      const span = new WatchSpan();
      const heard = events.map(({ message }, i) => ({
        at: 2 * i,
        run: () => span.hear(digest(`m${message}`)),
      }));
      const read = events
        .filter(({ isLost }) => !isLost)
        .map(({ message, delay }, i) => ({
          at: 2 * i + delay - 10,
          run: () => {
            if (!span.takeMissing(digest(`m${message}`))) span.keepSurplus(digest(`m${message}`));
          },
        }));
      for (const { run } of [...heard, ...read].sort((a, b) => a.at - b.at)) run();
      expect(span.missing).toBe(events.filter(({ isLost }) => isLost).length);
      expect(span.heard).toBe(events.length);
    }),
    { numRuns: effort(500) },
  );
});

test('equal messages are counted', () => {
  const span = new WatchSpan();
  for (let i = 0; i < 5; i++) span.hear(digest('same'));
  for (let i = 0; i < 3; i++) expect(span.takeMissing(digest('same'))).toBe(true);
  expect(span.missing).toBe(2);
});

test('a digest depends only on the bytes of the message', () => {
  const chunk = Buffer.from('[{"a":1}]');
  expect(digestOf(chunk, 1, 8)).toBe(digest('{"a":1}'));
  expect(digest('a')).not.toBe(digest('b'));
  expect(Number.isSafeInteger(digestOf(Buffer.alloc(3 * 2 ** 20, 255), 0, 3 * 2 ** 20))).toBe(true);
});

test('the share and its error', () => {
  const totals = newWatchTotals();
  expect(unstoredShare(totals)).toBeUndefined();
  addSpan(totals, 300, 0);
  expect(unstoredShare(totals)).toEqual({ share: 0, error: 0.01 });
  addSpan(totals, 300, 60);
  const { share, error } = unstoredShare(totals)!;
  expect(share).toBeCloseTo(0.1, 12);
  // By hand: residuals -30 and 30; sqrt(2 / 1 x 1,800) / 600 = 0.1; times 1.96 + 2.372 + 2.823, for two spans.
  expect(error).toBeCloseTo(0.7155, 4);
});

test('a few spans that agree by chance: the error is at least that of as many messages', () => {
  const totals = newWatchTotals();
  for (let i = 0; i < 5; i++) addSpan(totals, 60, 30);
  const { share, error } = unstoredShare(totals)!;
  expect(share).toBe(0.5);
  expect(error).toBeCloseTo(1.96 * Math.sqrt(0.25 / 300), 12);
});

test('with many spans, the true share is within the error about 95 times in 100', () => {
  let seed = 1;
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  let within = 0;
  const rounds = 400;
  for (let round = 0; round < rounds; round++) {
    const totals = newWatchTotals();
    // One span in five has a burst of which 40 % is lost: 20 % of the messages are in such bursts.
    for (let i = 0; i < 100; i++) addSpan(totals, 1000, random() < 0.2 ? 400 : 0);
    const { share, error } = unstoredShare(totals)!;
    if (Math.abs(share - 0.08) <= error) within += 1;
  }
  expect(within / rounds).toBeGreaterThan(0.9);
});

test('what is read at the end of a span and heard in the next one is no message that was not heard', () => {
  const [one, next] = [new WatchSpan(), new WatchSpan()];
  one.keepSurplus(1);
  one.keepSurplus(2);
  expect(one.read).toBe(2);
  expect([one.takeSurplus(1), one.takeSurplus(1)]).toEqual([true, false]);
  expect([one.read, one.heard, next.missing]).toEqual([1, 0, 0]);
});
