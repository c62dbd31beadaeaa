import { expect, test } from 'vitest';
import { REJECTION_TEXTS, REJECTIONS } from '../../src/decode/rejection.ts';

test.each(REJECTIONS)('%s has a text: what it means, and what to do', (reason) => {
  // Part of a longer sentence wherever it is shown.
  expect(REJECTION_TEXTS[reason]).toMatch(/^[a-z][^:]{15,}: [a-zA-Z][^:]*[^.:]$/);
});

test('no two reasons have the same text', () => {
  expect(new Set(Object.values(REJECTION_TEXTS)).size).toBe(REJECTIONS.length);
});
