import { expect, test } from 'vitest';
import { latestStrange, StrangeMessages } from '../../../src/bus/read/strange-messages.ts';

const all = () => true;

test('those that a look explains do not count, and none counts twice', () => {
  const strange = new StrangeMessages();
  for (const [i, subject] of ['a', 'b', 'a', 'a'].entries()) strange.add(subject, i + 1);
  expect(strange.settle((subject) => subject === 'a')).toBe(3);
  expect(strange.settle(all)).toBe(0);
  // They are read once more.
  for (let sequence = 1; sequence <= 5; sequence++) strange.add('a', sequence);
  expect(strange.settle(all)).toBe(1);
});

test('what waits outlives the process, as a checkpoint keeps it', () => {
  const strange = new StrangeMessages();
  strange.add('a', 3);
  const stored = JSON.parse(JSON.stringify(strange.stored()));
  expect(new StrangeMessages(stored).settle(all)).toBe(1);
  expect(new StrangeMessages().stored()).toBeUndefined();
});

test('what is read again is judged again', () => {
  const strange = new StrangeMessages();
  for (let sequence = 1; sequence <= 5; sequence++) strange.add('a', sequence);
  strange.forget(2);
  expect(strange.settle(all)).toBe(0);
  for (let sequence = 1; sequence <= 5; sequence++) strange.add('a', sequence);
  expect(strange.settle(all)).toBe(3);
});

test('however many subjects there are, what is kept is bounded, and every message counts', () => {
  const strange = new StrangeMessages();
  for (let sequence = 1; sequence <= 1000; sequence++) strange.add(`s.${sequence}`, sequence);
  strange.add('x'.repeat(5000), 1001);
  expect(JSON.stringify(strange.stored()).length).toBeLessThan(1000);
  // Those whose subjects are not kept cannot be explained.
  expect(strange.settle(() => false)).toBe(1001 - 32);
});

test('of several records, the latest counts, and of those the one of which less waits', () => {
  const [old, told, waiting] = [
    { last: 3, waiting: [] },
    { last: 5, waiting: [] },
    { last: 5, waiting: [['a', 2]] },
  ] as const;
  expect(latestStrange([old, waiting, undefined, told])).toBe(told);
  expect(latestStrange([undefined])).toBeUndefined();
});
