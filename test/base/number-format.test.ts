import { expect, test } from 'vitest';
import { counted } from '../../src/base/number-format.ts';

test.each([
  [0, '0 windows'],
  [1, '1 window'],
  // As it is shown.
  [1.04, '1 window'],
  [1.5, '1.5 windows'],
  [2, '2 windows'],
  [12_345, '12,345 windows'],
])('%d as a number of things: %s', (count, text) => {
  expect(counted(count, 'window')).toBe(text);
});

test('another word for several things', () => {
  expect([1, 2].map((count) => counted(count, 'series differs', 'series differ'))).toEqual([
    '1 series differs',
    '2 series differ',
  ]);
});
