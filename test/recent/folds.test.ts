import { expect, test } from 'vitest';
import { Folds } from '../../src/recent/folds.ts';

const fold = (name: string, key: string | undefined, samples: number, values: number) =>
  ({ name, type: 'counter', samples, key, values, looked: 200 }) as const;

test('what is folded again adds up, and shows the window with the most values; the latest come first', () => {
  const folds = new Folds();
  folds.add([fold('a', 'user', 10, 150), fold('b', undefined, 1, 0)], 0);
  folds.add([fold('a', 'user', 5, 120)], 1000);
  expect(folds.list()).toEqual([
    {
      name: 'a',
      type: 'counter',
      key: 'user',
      samples: 15,
      values: 150,
      looked: 200,
      lastAt: new Date(1000).toISOString(),
    },
    {
      name: 'b',
      type: 'counter',
      key: null,
      samples: 1,
      values: 0,
      looked: 200,
      lastAt: new Date(0).toISOString(),
    },
  ]);
});

test('however many names are folded, the last twenty are kept', () => {
  const folds = new Folds();
  for (let i = 0; i < 100; i++) folds.add([fold(`n${i}`, 'x', 1, 1)], i);
  expect(folds.list().map(({ name }) => name)).toEqual(Array.from({ length: 20 }, (_, i) => `n${99 - i}`));
});
