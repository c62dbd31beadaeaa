import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { edits, isOneEdit } from '../../src/base/edit-distance.ts';
import { effort } from '../effort.ts';

const text = fc.string({ unit: fc.constantFrom('A', 'B', '_'), maxLength: 5 });

test('whether texts are one edit apart is what counting the edits says', () => {
  fc.assert(
    fc.property(text, text, (a, b) => {
      expect(isOneEdit(a, b)).toBe(edits(a, b) <= 1);
    }),
    { numRuns: effort(10_000) },
  );
});
