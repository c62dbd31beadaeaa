import fc from 'fast-check';
import { expect, test } from 'vitest';
import { METRIC_TYPES } from '../../src/aggregate/point.ts';
import { type InstanceAnswer, together } from '../../src/recent/merge.ts';
import type { RecentQuestion } from '../../src/recent/question.ts';
import { effort } from '../effort.ts';
import {
  boundaryAfter,
  expectedGroups,
  Feed,
  keyOfGroup,
  recentWindows,
  type Sent,
  START,
  TILING,
  WINDOW_MS,
} from './feed.ts';

const time = (window: number) => new Date(START + window * WINDOW_MS).toISOString();

/** An instance that began with a window, has closed all before another, and is in doubt about some. */
interface Drawn {
  readonly slice: number;
  readonly from: number;
  readonly to: number;
  readonly gap: number | undefined;
}

async function instanceOf(
  { slice, from, to, gap }: Drawn,
  of: number,
  windows: readonly (readonly Sent[])[],
) {
  const made = recentWindows();
  const feed = new Feed({ index: slice, of });
  made.windows.began(START + from * WINDOW_MS, TILING);
  for (let window = from; window < to; window++)
    made.windows.closed(feed.window(window, windows[window]!), boundaryAfter(window));
  if (gap !== undefined)
    made.windows.gapped({ from: START + gap * WINDOW_MS, to: START + (gap + 1) * WINDOW_MS });
  await made.windows.settled();
  return made.questionsOf(`${slice}/${of}`);
}

test('slices add up, and no window counts twice, whatever instances there are and whatever each of them has', async () => {
  const sample = fc.record({
    name: fc.constantFrom('a', 'b'),
    type: fc.constantFrom(...METRIC_TYPES),
    dimensions: fc.constantFrom<Record<string, string>>({}, { app: 'x' }, { app: 'y' }),
    value: fc.double({ noNaN: true, min: 0, max: 1000 }).map((value) => Math.round(value * 10) / 10),
  });
  const instance = fc.record({
    slice: fc.nat(2),
    from: fc.nat(4),
    length: fc.integer({ min: 1, max: 8 }),
    gap: fc.option(fc.nat(7), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(sample, { maxLength: 6 }), { minLength: 8, maxLength: 8 }),
      fc.integer({ min: 1, max: 3 }),
      fc.array(instance, { minLength: 1, maxLength: 5 }),
      async (traffic, of, drawn) => {
        const windows = traffic.map((samples, window) => samples.map((each): Sent => ({ ...each, window })));
        const instances = drawn.map(
          ({ slice, from, length, gap }): Drawn => ({
            slice: slice % of,
            from,
            to: Math.min(8, from + length),
            gap,
          }),
        );
        const questions = await Promise.all(instances.map((each) => instanceOf(each, of, windows)));
        const question: RecentQuestion = { where: [], by: ['app'], last: 6 * WINDOW_MS };
        const answer = async (i: number, asked: RecentQuestion): Promise<InstanceAnswer> => ({
          instance: `${i}`,
          answer: await questions[i]!.answer(asked),
        });
        const first = await Promise.all(instances.map((_, i) => answer(i, question)));
        const merged = await together(first, [], ({ instance: id, only }, { from, to }) =>
          answer(Number(id), {
            ...question,
            from: Date.parse(from),
            to: Date.parse(to),
            only,
            sketches: true,
          }),
        );
        const [from, to] = [merged.from, merged.to].map((at) => (Date.parse(at) - START) / WINDOW_MS) as [
          number,
          number,
        ];
        const has = (window: number) =>
          instances.filter(
            (each) =>
              (START / WINDOW_MS + window) % of === each.slice && window >= each.from && window < each.to,
          );
        const whole = windows.flatMap((samples, window) =>
          window >= from && window < to && has(window).length > 0 ? samples : [],
        );
        const expected = expectedGroups(whole, question);
        const close = (value: number | null) => (value === null ? null : expect.closeTo(value, 6));
        expect(
          new Map(
            merged.groups.map(({ count, sum, min, max, p50, p90, p95, p99, ...group }) => [
              keyOfGroup(group, question.by),
              { count, sum, min, max, percentiles: [p50, p90, p95, p99] },
            ]),
          ),
        ).toEqual(new Map([...expected].map(([key, group]) => [key, { ...group, sum: close(group.sum) }])));
        const numbers = Array.from({ length: 8 + 6 }, (_, i) => i - 6).filter((n) => n >= from && n < to);
        const covered = numbers.filter((window) => has(window).length > 0);
        expect(merged.windows).toBe(covered.length);
        const sure = covered.filter((window) => has(window).some(({ gap }) => gap !== window));
        expect(merged.complete).toBe(sure.length === numbers.length);
        expect(merged.complete).toBe(merged.remarks.length === 0);
        // The newest that each slice has, and no newer.
        const ends = Array.from({ length: of }, (_, slice) =>
          Math.max(-1, ...instances.filter((each) => each.slice === slice).map((each) => each.to)),
        ).filter((end) => end >= 0);
        expect(merged.to).toBe(time(Math.min(...ends)));
      },
    ),
    { numRuns: effort(200) },
  );
});

test('core mode: the parts of several instances add up', async () => {
  const sent: Sent = { window: 0, name: 'a', type: 'counter', dimensions: {}, value: 2 };
  const answers = await Promise.all(
    ['one', 'other'].map(async (instance): Promise<InstanceAnswer> => {
      const { windows, questions } = recentWindows();
      windows.began(START, TILING);
      windows.closed(new Feed().window(0, [sent]), boundaryAfter(0));
      await windows.settled();
      const answer = await questions.answer({ where: [], by: [], from: START });
      return { instance, answer: { ...answer, parts: true } };
    }),
  );
  const merged = await together(answers, [], async ({ instance }) =>
    answers.find((one) => one.instance === instance),
  );
  expect(merged).toMatchObject({
    complete: true,
    windows: 1,
    groups: [{ count: 2, sum: 4, sumPerSecond: 4 }],
  });
  const lacking = await together(answers, ['third: it keeps nothing'], async ({ instance }) =>
    answers.find((one) => one.instance === instance),
  );
  const known = expect.stringMatching(/^plain NATS: the parts of 2 instances; /);
  expect(lacking).toMatchObject({ complete: false, remarks: ['third: it keeps nothing', known] });
});

test.each([
  [['g', 'g'], undefined],
  [[null], undefined],
  [[null, null], 2],
  [['g', 'g', 'h'], 2],
  [['g', null, null], 3],
] as const)(
  'core mode: instances of the groups %j read everything so many times: %j',
  async (groups, times) => {
    const { windows, questions } = recentWindows();
    windows.began(START, TILING);
    windows.closed(new Feed().window(0, []), boundaryAfter(0));
    await windows.settled();
    const answer = await questions.answer({ where: [], by: [], from: START });
    const answers = groups.map(
      (queueGroup, i): InstanceAnswer => ({
        instance: `${i}`,
        answer: { ...answer, parts: true, queueGroup },
      }),
    );
    const merged = await together(answers, [], async ({ instance }) => answers[Number(instance)]);
    const said = merged.remarks.find((remark) => remark.startsWith('all messages are read'));
    expect([merged.complete, said?.split(' ')[4]]).toEqual([
      times === undefined,
      times === undefined ? undefined : `${times}`,
    ]);
  },
);
