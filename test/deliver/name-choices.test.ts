/** Which names a sink gets, from which window on, and that its lane holds to it at every entrance. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type NameChoice, parseCheckpoint } from '../../src/bus/kv/checkpoints.ts';
import { RULE_KINDS } from '../../src/decode/shaping-rules.ts';
import { sizeWindow, WindowQueue } from '../../src/deliver/lane/queue.ts';
import {
  choicesOf,
  isLatestChoice,
  MAX_CHOICES,
  MAX_CHOICES_BYTES,
  mergeChoices,
  NameChoices,
  namesOf,
} from '../../src/deliver/name-choices.ts';
import { resumeFrom } from '../../src/deliver/start-points.ts';
import { effort } from '../effort.ts';
import { counterWindow, keyOf, laneOf, ScriptedSink, sizedWindow, WINDOW_MS } from './fixtures.ts';
import { VirtualClock } from './virtual-clock.ts';

const LIMITS = { maxPoints: 2, maxBytes: 1_000_000, inFlight: 2 };
const at = (start: number) => ({ start, windowMs: WINDOW_MS });
const POSITION = { next: 50_000, began: 8_000, sequence: 9 };
const HERE = { from: 50_000, whole: 5_000 };

describe('what holds for a window', () => {
  const choices = new NameChoices([
    { from: 3_000, names: ['a*', '!ab'] },
    { from: 6_000, names: [] },
    { from: 7_000, names: ['!b'] },
  ]);
  const given = (start: number) =>
    ['a', 'ab', 'b'].filter((name) => choices.gives(name, at(start))).join(' ');

  test('is the latest choice that begins no later', () => {
    expect([3_000, 5_000, 6_000, 7_000, 99_000].map(given)).toEqual(['a', 'a', 'a ab b', 'a ab', 'a ab']);
  });

  test('before the first choice, is that one, and that is known to be a guess', () => {
    expect(given(2_000)).toBe('a');
    expect(choices.knownFrom).toBe(3_000);
    expect(new NameChoices([]).knownFrom).toBe(Number.NEGATIVE_INFINITY);
  });

  test('a name is given in a range if each of its windows gets it', () => {
    const choice = fc.record({
      from: fc.integer({ min: 0, max: 20 }),
      names: fc.constantFrom([], ['a'], ['b'], ['!a']),
      slice: fc.constantFrom(undefined, undefined, '0/2', '1/2'),
    });
    const cases = [fc.array(choice, { maxLength: 4 }), fc.nat(20), fc.integer({ min: 1, max: 9 })] as const;
    const property = fc.property(...cases, (list, first, length) => {
      const ascending = list
        .sort((one, other) => one.from - other.from)
        .map(({ slice, from, ...rest }) => ({ ...rest, from: from * WINDOW_MS, ...(slice && { slice }) }));
      const choices = new NameChoices(ascending);
      const range = { from: first * WINDOW_MS, to: (first + length) * WINDOW_MS };
      const windows = Array.from({ length }, (_, i) => at((first + i) * WINDOW_MS));
      const isGiven = windows.every((window) => choices.gives('a', window));
      if (choices.givenIn(range)('a')) expect(isGiven).toBe(true);
      // Slices that take turns are not told apart: a window of each is assumed to be in the range.
      else if (ascending.every(({ slice }) => slice === undefined)) expect(isGiven).toBe(false);
    });
    fc.assert(property, { numRuns: effort(500) });
  });

  test('the points of a window are picked by it', () => {
    const window = counterWindow(4, 5);
    const pick = (names: string[]) => new NameChoices([{ from: 0, names }]).pick(window);
    expect(pick([])).toBeUndefined();
    expect(pick(['s1', 's?', '!s3'])).toEqual(Uint32Array.of(0, 1, 2, 4));
    expect(pick(['x'])).toEqual(Uint32Array.of());
    // What is sent to another thread takes its whole buffer along.
    expect(pick(['s1'])!.buffer.byteLength).toBe(4);
  });
});

describe('what a sink gets when it begins or resumes', () => {
  const from = (position: Parameters<typeof choicesOf>[0], names: string[], whole = 5_000) =>
    choicesOf(position, { names, from: 50_000, whole });

  test('with all names from the start, there is nothing to remember', () => {
    expect(from(undefined, [])).toEqual([]);
    expect(from(POSITION, [])).toEqual([]);
    expect(namesOf([['s', []]]).size).toBe(0);
  });

  test('without a checkpoint, the setting holds from its first window on', () => {
    expect(from(undefined, ['b', 'a', 'b'])).toEqual([{ from: 50_000, names: ['a', 'b'] }]);
  });

  test('another setting holds from the first window on that is not confirmed', () => {
    const first = from(POSITION, ['a']);
    expect(first).toEqual([
      { from: 8_000, names: [] },
      { from: 50_000, names: ['a'] },
    ]);
    const later = { ...POSITION, next: 60_000, choices: first };
    expect(from(later, ['a'])).toEqual(first);
    expect(from(later, ['a', 'b'])).toEqual([...first, { from: 60_000, names: ['a', 'b'] }]);
    expect(from(later, [])).toEqual([...first, { from: 60_000, names: [] }]);
    const { began: _, ...old } = POSITION;
    expect(from(old, ['a'])[0]).toEqual({ from: 0, names: [] });
  });

  test('the order of globs is no other setting', () => {
    const choices = from(undefined, ['a', '!b']);
    expect(from({ ...POSITION, next: 60_000, choices }, ['!b', 'a'])).toEqual(choices);
  });

  test('of a setting that never confirmed a window, nothing is left', () => {
    const choices = [{ from: 50_000, names: ['a'] }];
    expect(from({ ...POSITION, choices }, ['b'])).toEqual([{ from: 50_000, names: ['b'] }]);
  });

  test('what was chosen for windows that the stream no longer holds is forgotten', () => {
    const choices = [10_000, 20_000, 30_000].map((since, i) => ({ from: since, names: [`n${i}`] }));
    const after = (whole: number) => from({ ...POSITION, choices }, ['n2'], whole).map((one) => one.from);
    expect([after(19_000), after(20_000), after(45_000)]).toEqual([
      [10_000, 20_000, 30_000],
      [20_000, 30_000],
      [30_000],
    ]);
    const all = [...choices, { from: 40_000, names: [] }];
    expect(from({ ...POSITION, choices: all }, [], 45_000)).toEqual([]);
  });

  test('only so many are remembered, and it is known from when on', () => {
    let choices: readonly NameChoice[] = [];
    for (let i = 0; i < MAX_CHOICES + 5; i++)
      choices = from({ ...POSITION, next: 50_000 + 1_000 * i, choices }, [`n${i}`]);
    expect(choices).toHaveLength(MAX_CHOICES);
    expect(new NameChoices(choices).knownFrom).toBe(55_000);
    expect([54_999, 55_000].map((start) => new NameChoices(choices).knows(at(start)))).toEqual([false, true]);
  });

  test.each(['x', '漢', '\u0001'])(
    'only so many bytes are remembered, and one setting always (%j)',
    (char) => {
      const setting = (i: number) => Array.from({ length: 100 }, (_, at) => `${i}n${at}*`.padEnd(39, char));
      let choices: readonly NameChoice[] = [];
      for (let i = 0; i < MAX_CHOICES; i++)
        choices = from({ ...POSITION, next: 50_000 + 1_000 * i, choices }, setting(i));
      const bytes = Buffer.byteLength(JSON.stringify(choices));
      expect(choices.at(-1)?.names).toEqual(setting(MAX_CHOICES - 1).sort());
      expect(choices.length === 1 || bytes <= MAX_CHOICES_BYTES).toBe(true);
      expect(new NameChoices(choices).knownFrom).toBe(choices[0]!.from);
    },
  );

  test('all names are remembered as a choice while nobody knows what was chosen before', () => {
    const unknown = [{ from: 30_000, names: ['a'] }];
    expect(from({ ...POSITION, next: 30_000, choices: unknown }, [])).toEqual([{ from: 30_000, names: [] }]);
    expect(from({ ...POSITION, next: 30_000, choices: unknown }, [], 30_000)).toEqual([]);
  });
});

describe('slices', () => {
  const of = (from: number, names: string[]) => ({ from, names });
  const slice = (next: number, choices: NameChoice[]) => ({ ...POSITION, next, choices });

  test('that agree have one list', () => {
    const choices = [of(8_000, ['a'])];
    expect(mergeChoices([slice(50_000, choices), slice(51_000, choices)])).toEqual(choices);
    expect(mergeChoices([POSITION, POSITION])).toEqual([]);
  });

  test('that do not: each window has what its own slice says', () => {
    const stored = [
      { slice: '1/2', checkpoint: slice(60_000, [of(8_000, ['a']), of(55_000, ['b'])]) },
      { slice: '0/2', checkpoint: { ...POSITION, next: 58_000 } },
    ];
    const position = resumeFrom(stored, undefined)!;
    const choices = new NameChoices(position.choices!);
    const names = (start: number) => choices.of(at(start)).join();
    expect([50_000, 51_000, 54_000, 55_000, 56_000, 57_000].map(names)).toEqual(['', 'a', '', 'b', '', 'b']);
    expect(choices.knownFrom).toBe(8_000);
    // A slicing that goes on from there has one choice from then on, and keeps what was.
    const next = new NameChoices(choicesOf(position, { names: ['c'], ...HERE }));
    expect([55_000, 56_000, 58_000, 59_000].map((start) => next.of(at(start)).join())).toEqual([
      'b',
      '',
      'c',
      'c',
    ]);
    const own = resumeFrom(stored, { index: 0, of: 2 })!;
    expect(choicesOf(own, { names: [], ...HERE })).toEqual([]);
  });

  const storedOf = (slices: number, choicesIn: (index: number) => readonly NameChoice[]) =>
    Array.from({ length: slices }, (_, index) => ({
      slice: `${index}/${slices}`,
      checkpoint: { ...POSITION, next: 300_000, began: 100_000 + index * 1_000, choices: choicesIn(index) },
    }));

  test('more than can be remembered, that began one after another, have one choice when they are fewer', () => {
    const stored = storedOf(24, (index) => [of(100_000 + index * 1_000, ['n'])]);
    const position = resumeFrom(stored, { index: 0, of: 1 })!;
    expect(position.choices!.at(-1)).toEqual(of(123_000, ['n']));
    const names = new NameChoices(choicesOf(position, { names: ['n'], from: 0, whole: 0 }));
    expect(names.list.length).toBeLessThanOrEqual(MAX_CHOICES);
    expect(names.knownFrom).toBe(position.began);
    for (let start = 200_000; start < 224_000; start += 1_000)
      expect(names.gives('x', at(start))).toBe(false);
  });

  test('more than can be remembered, that differ: what they were given before is unknown', () => {
    const stored = storedOf(24, (index) => [of(100_000 + index * 1_000, [`n${index}`])]);
    const position = resumeFrom(stored, { index: 0, of: 1 })!;
    const names = new NameChoices(choicesOf(position, { names: ['m'], from: 0, whole: 0 }));
    expect(names.knownFrom).toBe(300_000);
    expect(names.knows(at(299_000))).toBe(true);
    expect(names.knows(at(264_000))).toBe(false);
    expect(names.of(at(300_000))).toEqual(['m']);
  });

  test('twice as many, of lists that differed: all that is known stays known', () => {
    const before = [
      { ...of(100_000, ['n']), slice: '0/2' },
      { ...of(110_000, ['o']), slice: '1/2' },
    ];
    const stored = storedOf(4, (index) => {
      const next = 200_000 + index * 10_000;
      return choicesOf({ next, began: 110_000, choices: before }, { names: ['m'], from: 0, whole: 0 });
    });
    const { choices } = resumeFrom(stored, undefined)!;
    const names = new NameChoices(choices!);
    expect(names.knownFrom).toBe(110_000);
    expect(isLatestChoice(choices, ['m'])).toBe(true);
    const given = (start: number) => names.of(at(start)).join();
    expect([150, 151, 152, 153].map((number) => given(number * 1_000))).toEqual(['n', 'o', 'n', 'o']);
    expect([204, 205, 209, 213, 227, 230].map((number) => given(number * 1_000))).toEqual([
      'm',
      'o',
      'o',
      'm',
      'o',
      'm',
    ]);
  });
});

describe('in a checkpoint', () => {
  const text = (choices: unknown) =>
    JSON.stringify({
      ...POSITION,
      choices,
      savedAt: '',
      shape: { windowMs: 1, latenessMs: 0, maxAheadMs: 0, maxSeries: 1, slice: '0/1' },
    });
  const good = [
    { from: 1, names: [] },
    { from: 2, names: ['a.*', '!b'], slice: '1/2' },
  ];

  test('they are read back', () => {
    expect(parseCheckpoint('p.s.0-1', text(good)).choices).toEqual(good);
    expect(parseCheckpoint('p.s.0-1', text(undefined)).choices).toBeUndefined();
  });

  test('a setting of the greatest length is read back', () => {
    const rules = Array.from({ length: 100 }, (_, i) => `n${String(i).padStart(3, '0')}.${'x'.repeat(33)}*`);
    expect(RULE_KINDS.names(rules.join(','))).toEqual({ rules });
    const choices = choicesOf(undefined, { names: rules, ...HERE });
    expect(parseCheckpoint('p.s.0-1', text(choices)).choices).toEqual(choices);
  });

  test.each([
    ['no list', {}],
    ['no time', [{ names: [] }]],
    ['no names', [{ from: 1 }]],
    ['a name that is none', [{ from: 1, names: [3] }]],
    ['an empty glob', [{ from: 1, names: [''] }]],
    ['no slice', [{ from: 1, names: [], slice: 'one' }]],
    ['nothing', [null]],
  ])('with %s, it cannot be read', (_, choices) => {
    expect(() => parseCheckpoint('p.s.0-1', text(choices))).toThrow('is not valid');
  });
});

describe('a lane', () => {
  const names = new NameChoices([
    { from: 0, names: ['s1', 's3'] },
    { from: 3 * WINDOW_MS, names: ['s2'] },
    { from: 5 * WINDOW_MS, names: ['x'] },
  ]);

  test('makes batches of the points that are chosen', () => {
    const queue = new WindowQueue(LIMITS, 0, undefined, undefined, (window) => names.pick(window));
    queue.offer(sizedWindow(1, 9));
    queue.offer(sizedWindow(5, 9));
    queue.offer(sizedWindow(3, 9));
    expect([queue.points, queue.next, queue.offeredTo]).toEqual([2, 1_000, 6_000]);
    const job = queue.take()!;
    expect(job.batch.points.map(({ series }) => series.name)).toEqual(['s1', 's3']);
    expect(queue.take()).toBeUndefined();
    expect(queue.settle(job, 0)).toHaveLength(1);
    expect([queue.points, queue.bytes, queue.next]).toEqual([0, 0, 6_000]);
  });

  test('tells, once, that the latest windows have nothing for the sink, and how many; a rewrite is none of them', async () => {
    const clock = new VirtualClock(0);
    const { lane, told } = laneOf(clock, new ScriptedSink(), {
      names: new NameChoices([
        { from: 0, names: ['s1'] },
        { from: 2 * WINDOW_MS, names: ['htp.*'] },
        { from: 9 * WINDOW_MS, names: [] },
      ]),
    });
    void lane.run();
    const unchosen = (...numbers: number[]) =>
      numbers.map((number) => {
        lane.offer(sizedWindow(number, number === 3 ? 0 : 5));
        return lane.unchosenWindows;
      });
    // The one without points says nothing.
    expect(unchosen(1, 2, 3, 4)).toEqual([0, 0, 0, 0]);
    void lane.rewrite([sizedWindow(2, 5)], AbortSignal.abort());
    expect(told.nothingChosen).toEqual([]);
    expect(unchosen(5, 6, 7)).toEqual([3, 4, 5]);
    expect(unchosen(9)).toEqual([0]);
    expect(told.nothingChosen).toEqual([3]);
    await lane.stop(AbortSignal.abort());
  });

  test('measures batches by the sizes of these points', () => {
    const window = counterWindow(1, 6);
    const sized = { ...sizeWindow(window), sizes: Uint32Array.of(1, 10, 100, 1_000, 10_000, 100_000) };
    const pick = () => Uint32Array.of(1, 3, 4);
    const queue = new WindowQueue(
      { maxPoints: 9, maxBytes: 1_010, inFlight: 1 },
      0,
      undefined,
      undefined,
      pick,
    );
    queue.offer(sized);
    expect([queue.take(), queue.take()].map((job) => job!.batch.bytes)).toEqual([1_010, 10_000]);
  });

  test('holds to it live, in a replay and in a rewrite, and passes windows of which it gets nothing', async () => {
    const clock = new VirtualClock(0);
    const sink = new ScriptedSink();
    const { lane, told } = laneOf(clock, sink, { names });
    void lane.run();
    lane.offer(sizedWindow(1, 5));
    lane.advance(2 * WINDOW_MS, 10);
    await clock.pass(100);
    lane.startCatchUp();
    const windows = [2, 3, 4, 5, 6].map((number) => sizedWindow(number, 5));
    await lane.replay(windows, 7 * WINDOW_MS, 20, new AbortController().signal);
    await clock.pass(100);
    expect(lane.next).toBe(7 * WINDOW_MS);
    const expected = ['1:s1', '1:s3', '2:s1', '2:s3', '3:s2', '4:s2'];
    expect([...sink.rows.keys()]).toEqual(expected);
    // A window that was reopened has more now.
    const again = [2, 4, 6].map((number) => sizedWindow(number, 7, (i) => -i));
    const rewritten = lane.rewrite(again, new AbortController().signal);
    await clock.pass(100);
    await rewritten;
    expect([...sink.rows.keys()]).toEqual(expected);
    expect(['2:s1', '2:s3', '4:s2'].map((key) => sink.rows.get(key))).toEqual([-1, -3, -2]);
    expect(told.confirmed.map(([start]) => start / WINDOW_MS)).toEqual([1, 2, 3, 4, 2, 4]);
    expect(sink.batches.flatMap(({ points }) => points.map(keyOf))).toHaveLength(expected.length + 3);
    await lane.stop(AbortSignal.abort());
  });

  test.each([true, false])(
    'makes no room for a window of which it gets nothing (stream: %s)',
    (replayable) => {
      const choices = [
        { from: 0, names: ['s0'] },
        { from: 3 * WINDOW_MS, names: ['x'] },
      ];
      const backlogBytes = 2 * sizedWindow(1, 9).bytes;
      const options = { replayable, from: 0, backlogBytes, names: new NameChoices(choices) };
      const { lane } = laneOf(new VirtualClock(0), new ScriptedSink(), options);
      for (let number = 1; number < 9; number++) lane.offer(sizedWindow(number, 9));
      expect([lane.stats.dropped, lane.stats.overflows, lane.backlogPoints]).toEqual([0, 0, 2]);
      expect(lane.offeredTo).toBe(9 * WINDOW_MS);
    },
  );

  test('with nothing to write, it still writes again what was reopened', async () => {
    const clock = new VirtualClock(0);
    const { lane } = laneOf(clock, new ScriptedSink(), {
      names: new NameChoices([{ from: 0, names: ['x'] }]),
    });
    void lane.run();
    let isDone = false;
    const rewriting = lane.rewrite([sizedWindow(3, 5)], new AbortController().signal).then(() => {
      isDone = true;
    });
    await clock.pass(100);
    expect(isDone).toBe(false);
    lane.offer(sizedWindow(3, 5));
    lane.advance(4 * WINDOW_MS, 10);
    await rewriting;
    await lane.stop(AbortSignal.abort());
  });
});
