import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { prefixLength, ReplySubject } from '../../src/bus/read/reply-subject.ts';
import { ServerClock } from '../../src/bus/read/server-clock.ts';
import { holdsMs, type StreamFacts } from '../../src/bus/stream.ts';
import { covers, uncovered } from '../../src/bus/subjects.ts';
import { effort } from '../effort.ts';

describe('reply subjects', () => {
  const forms = {
    short: '$JS.ACK.METRICS.m0jkCKiE.1.4711.42.1795442540203230153.7',
    'with a domain': '$JS.ACK.hub.aBc123.METRICS.m0jkCKiE.1.4711.42.1795442540203230153.7.r4nd0m',
    'with a domain, without the random token': '$JS.ACK._.aBc123.METRICS.c.1.4711.42.1795442540203230153.7',
  };
  test.each(Object.entries(forms))('%s', (_, reply) => {
    const parsed = new ReplySubject(prefixLength(reply)!);
    // In the middle of other bytes, which do not belong to it.
    const bytes = Buffer.from(`1.2${reply} 345`);
    const behind = parsed.read(bytes, 3, 3 + reply.length);
    expect(bytes.toString('latin1', behind)).toMatch(/^(\.r4nd0m)? 345$/);
    expect(parsed).toMatchObject({ streamSequence: 4711, consumerSequence: 42, timeMs: 1795442540203 });
    expect(parsed).toMatchObject({ subMsNanos: 230153, pending: 7 });
  });

  test.each(['', 'metrics', '$JS.ACK.a.b', '$JS.API.a.b.1.2.3.4.5', '$JS.ACK.a.b.1.2.3.4.5.6'])(
    'not a reply subject: %j',
    (reply) => {
      expect(prefixLength(reply)).toBeUndefined();
    },
  );

  test('whatever came before it, a subject is read as if it were the first one', () => {
    const prefix = '$JS.ACK.METRICS.c.';
    /** As digits: some are nearly nines, some not what a server would send. */
    const number = fc.oneof(fc.nat(300), fc.constantFrom(8, 98, 998, 9_998, 999_999_998));
    const odd = fc.constantFrom('', 'x', '1.2', '.');
    const run = fc.record({
      deliveries: fc.constantFrom('1', '1', '2', '12'),
      stream: fc.oneof({ weight: 9, arbitrary: number }, { weight: 1, arbitrary: odd }),
      consumer: fc.oneof({ weight: 9, arbitrary: number }, { weight: 1, arbitrary: odd }),
      times: fc.array(
        fc.oneof(
          { weight: 5, arbitrary: fc.bigInt(1_795_442_540_203_230_153n, 1_795_442_540_253_230_153n) },
          { weight: 1, arbitrary: fc.constantFrom('0', '1795442540203230153x', 'x795442540203230153', '') },
        ),
        { minLength: 1, maxLength: 12 },
      ),
      pending: fc.nat(1_000_000),
      cut: fc.option(fc.nat(60)),
    });
    const next = (from: number | string, i: number) => (typeof from === 'number' ? from + i : from);
    const subjects = fc.array(run, { maxLength: 8 }).map((runs) =>
      runs.flatMap(({ deliveries, stream, consumer, times, pending, cut }) =>
        times.map((time, i) => {
          const text = [deliveries, next(stream, i), next(consumer, i), time, pending].join('.');
          return cut !== null && i === times.length - 1 ? text.slice(0, cut) : text;
        }),
      ),
    );
    const read = (reader: ReplySubject, text: string) => {
      const bytes = Buffer.from(`MSG a 1 ${prefix}${text} 345\r\n`);
      const end = 8 + prefix.length + text.length;
      const behind = reader.read(bytes, 8, end);
      const { streamSequence, consumerSequence, timeMs, subMsNanos, pending } = reader;
      return { behind, streamSequence, consumerSequence, timeMs, subMsNanos, pending };
    };
    fc.assert(
      fc.property(subjects, (texts) => {
        const reader = new ReplySubject(prefix.length);
        for (const text of texts)
          expect(read(reader, text), text).toEqual(read(new ReplySubject(prefix.length), text));
      }),
      { numRuns: effort(2000) },
    );
  });

  test('reading a truncated one stops at its end, and gives no values', () => {
    const parsed = new ReplySubject(prefixLength(forms.short)!);
    for (let length = 0; length < forms.short.length; length++) {
      // The bytes after the end are not read.
      expect(parsed.read(Buffer.from(`${forms.short}99`), 0, length)).toBeLessThanOrEqual(length);
    }
    parsed.read(Buffer.from(''), 0, 0);
    expect(parsed).toMatchObject({ streamSequence: 0, consumerSequence: 0 });
  });
});

describe("the server's clock", () => {
  /** Round trips to a server: the pause before the request, and the time there and back. */
  const trips = fc.array(
    fc.record({
      pause: fc.nat(60_000),
      there: fc.double({ min: 0, max: 2_000, noNaN: true }),
      back: fc.double({ min: 0, max: 2_000, noNaN: true }),
      isMessage: fc.boolean(),
    }),
    { minLength: 1, maxLength: 30 },
  );

  test('is never ahead, whatever the delays, the skew and the drift of the clocks', () => {
    fc.assert(
      fc.property(
        trips,
        fc.integer({ min: -1e9, max: 1e9 }),
        fc.integer({ min: -90, max: 90 }),
        (all, skew, ppm) => {
          const clock = new ServerClock();
          const server = (local: number) => local * (1 + ppm / 1e6) + skew;
          let local = 1e9;
          for (const { pause, there, back, isMessage } of all) {
            local += pause;
            const stamped = Math.floor(server(local + there));
            const after = local + there + back;
            if (isMessage) clock.arrived(stamped, after);
            else clock.stamped(stamped, local, after);
            local = after;
            for (const later of [0, 1_000, 100_000]) {
              expect(clock.at(local + later)!).toBeLessThanOrEqual(server(local + later));
            }
          }
        },
      ),
    );
  });

  test('is close after one quick answer, and stays close after slow ones', () => {
    const clock = new ServerClock();
    expect(clock.at(0)).toBeUndefined();
    clock.stamped(5_000, 1_000, 1_001);
    clock.stamped(6_500, 2_000, 9_000);
    clock.arrived(5_000, 9_000);
    expect(clock.at(9_000)).toBeGreaterThanOrEqual(12_996);
    expect(clock.at(9_000)).toBeLessThanOrEqual(12_999);
  });

  test('follows a server that sets its clock back', () => {
    const clock = new ServerClock();
    clock.stamped(500_000, 1_000, 1_002);
    clock.stamped(2_100, 2_000, 2_002);
    expect(clock.at(2_002)).toBe(2_100);
  });
});

describe('how long a stream holds a message', () => {
  const HOUR_MS = 3_600_000;
  const now = 100 * HOUR_MS;
  const holds = (facts: Partial<StreamFacts>) =>
    holdsMs({ maxAgeMs: 24 * HOUR_MS, bytes: 0, messages: 0, ...facts } as StreamFacts, now);

  test('is its limit of age, unless it is full before', () => {
    expect(holds({})).toBe(24 * HOUR_MS);
    expect(holds({ maxAgeMs: undefined })).toBeUndefined();
    // Half full after 2 hours, so full after 4. A day would be more than 8 times what fits.
    expect(holds({ firstTime: now - 2 * HOUR_MS, bytes: 50, maxBytes: 100 })).toBe(4 * HOUR_MS);
    expect(holds({ firstTime: now - 2 * HOUR_MS, bytes: 1, maxBytes: 100 })).toBe(24 * HOUR_MS);
    expect(holds({ firstTime: now - 2 * HOUR_MS, messages: 10, maxMessages: 15, maxAgeMs: undefined })).toBe(
      3 * HOUR_MS,
    );
  });

  test('is what it holds now, if it is full and removes the oldest', () => {
    expect(holds({ firstTime: now - 5 * HOUR_MS, bytes: 100, maxBytes: 100 })).toBe(5 * HOUR_MS);
  });

  test('is not judged by a burst', () => {
    expect(holds({ firstTime: now - 1000, bytes: 50, maxBytes: 100 })).toBe(24 * HOUR_MS);
  });
});

describe('subjects', () => {
  test.each([
    ['metrics', 'metrics', true],
    ['metrics.>', 'metrics', false],
    ['metrics.>', 'metrics.a.b', true],
    ['metrics.>', 'metrics.>', true],
    ['metrics.>', 'metrics.*', true],
    ['metrics.*', 'metrics.>', false],
    ['metrics.*', 'metrics.a', true],
    ['metrics.*', 'metrics.a.b', false],
    ['metrics.a', 'metrics.*', false],
    ['*.a', 'metrics.a', true],
    ['>', 'anything.at.all', true],
    ['a.*.c', 'a.b.d', false],
  ])('%s covers %s: %s', (cover, pattern, expected) => {
    expect(covers(cover, pattern)).toBe(expected);
  });

  test('that nothing covers are named', () => {
    expect(uncovered(['metrics', 'metrics.>', 'other'], ['metrics.>', 'other'])).toEqual(['metrics']);
  });
});
