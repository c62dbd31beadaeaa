import { describe, expect, test } from 'vitest';
import { noWindow } from '../../src/deliver/replay/recompute-range.ts';

const NONE = { from: undefined, to: undefined };
const HELD = { truncated: false, whole: 100_000, complete: 200_000, readyAt: 115_000 };

describe('why there is no window, and what to do', () => {
  test('right after the start, the first window is still to come', () => {
    const { message, advice } = noWindow(NONE, { ...HELD, complete: 100_000 });
    expect(message).toBe(
      'there is no complete window yet: the first one is complete at 1970-01-01T00:01:55.000Z',
    );
    expect(advice).toBe('Try again then.');
  });

  test('a stream that removes its oldest messages too early may never hold one', () => {
    const { message, advice } = noWindow(NONE, { ...HELD, truncated: true, complete: 90_000 });
    expect(message).toMatch(
      /yet: the stream holds whole windows from .*:40.000Z on, and .* up to .*:30.000Z$/,
    );
    expect(advice).toContain('raise its max_age or max_bytes');
  });

  test.each([
    [{ from: undefined, to: 100_000 }, /the stream holds whole windows from .*01:40.000Z on$/, /later --to/],
    [{ from: 200_000, to: undefined }, /windows are complete up to .*03:20.000Z$/, /earlier --from/],
    [{ from: 150_000, to: 150_000 }, /--from and --to are in the same window$/, /one window later/],
  ])('%j', (range, message, advice) => {
    const error = noWindow(range, HELD);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^there is no complete window in that range: /);
    expect(error.advice).toMatch(advice);
  });
});
