/** The charts survive a restart. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { History } from '../../src/observe/history.ts';
import { historyText, momentsOf } from '../../src/observe/kept-history.ts';
import { effort } from '../effort.ts';

const START = 1_764_500_000;

/** A history with a moment every ten seconds, `count` of them up to `START`. */
function historyOf(count: number, sinks = ['a']): History {
  const history = new History(sinks);
  for (let i = count - 1; i >= 0; i--) {
    const time = START - 10 * i;
    history.add({
      time,
      values: { messages: i, ...Object.fromEntries(sinks.map((id) => [`late:${id}`, i % 7])) },
    });
  }
  return history;
}

test('what is restored is the highest of each minute of the last hour, then a hole', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 360 }), fc.integer({ min: 2, max: 5000 }), (count, awaySeconds) => {
      const { charts } = historyOf(count);
      const now = START + awaySeconds;
      const after = new History(['a']);
      after.add({ time: now, values: { messages: 1 } });
      after.prepend(momentsOf(historyText(charts)!, now));
      const { times, columns } = after.charts;
      expect(times).toEqual([...times].sort((a, b) => a - b));
      expect(times.at(-1)).toBe(now);
      const restored = times.slice(0, -2);
      const expected = charts.times.filter(
        (time, i) => Math.floor(time / 60) !== Math.floor(charts.times[i + 1]! / 60) && time >= now - 3600,
      );
      expect(restored).toEqual(expected);
      for (const [index, time] of restored.entries()) {
        const inMinute = charts.times.flatMap((each, i) =>
          Math.floor(each / 60) === Math.floor(time / 60) ? [i] : [],
        );
        expect(columns['late:a']![index]).toBe(
          Math.max(...inMinute.map((i) => charts.columns['late:a']![i]!)),
        );
      }
      if (restored.length > 0) expect(columns.messages!.at(-2)).toBeNull();
    }),
    { numRuns: effort(50) },
  );
});

test('it fits into a value of the bucket, however many sinks there are', () => {
  for (const sinks of [1, 20, 100, 200]) {
    const text = historyText(
      historyOf(
        360,
        Array.from({ length: sinks }, (_, i) => `sink-number-${i}`),
      ).charts,
    )!;
    expect(text.length).toBeLessThanOrEqual(60_000);
    expect(momentsOf(text, START + 2).length).toBeGreaterThan(1);
  }
  expect(historyText(new History(['a']).charts)).toBeUndefined();
  const names = Array.from({ length: 2000 }, (_, i) => `sink-number-${i}`);
  expect(historyText(historyOf(2, names).charts)).toBeUndefined();
});

test.each([
  '',
  'null',
  '[]',
  '{"times":[1,2]}',
  '{"times":[2,1],"columns":{}}',
  '{"times":["1"],"columns":{}}',
  '{"times":[1],"columns":{"a":["1"]}}',
  '{"times":[1],"columns":{"a":1}}',
  '{"times":[1],"columns":null}',
])('anything else is ignored: %s', (text) => {
  expect(momentsOf(text, 100)).toEqual([]);
});
