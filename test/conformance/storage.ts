/** What must be in the store after a write: exactly the points, once, whoever writes them and however often. */

import { describe, expect, it } from 'vitest';
import { FIELDS, METRIC_TYPES, type Point } from '../../src/aggregate/point.ts';
import type { RejectReason, StoredPoint } from '../../src/sink/contract.ts';
import { EVERYTHING, HOSTILE_TEXTS, LOOKALIKES, makePoint, manyPoints, START, WINDOW_MS } from './points.ts';
import { type Bench, type Subject, sinkError } from './subject.ts';

/** Values at which encodings break; none is negative zero, which many stores cannot tell from zero. */
const NUMBERS = [
  0,
  1,
  -1,
  0.1 + 0.2,
  1 / 3,
  -1e-7,
  1e21,
  123_456_789.123_456_79,
  Number.MAX_SAFE_INTEGER,
  -Number.MAX_SAFE_INTEGER,
  2 ** 53,
  2 ** 63,
  -(2 ** 64),
  5e-324,
  2.225_073_858_507_201_4e-308,
  Number.MAX_VALUE,
  -Number.MAX_VALUE,
];
const COUNTS = [1, 2, 127, 65_536, 2 ** 31, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
const KB = 1024;

/** As `sketch-text.ts` writes them; one about as long as any may be. */
const SKETCH = '{"scale":6,"zero":2,"positive":[[-637,3],[639,0.1]],"negative":[[37,1]]}';
const LONG_SKETCH = `{"scale":6,"positive":[${Array.from({ length: 2048 }, (_, i) => `[${20_000 + i},${2 ** 53 - 1}]`).join()}]}`;

export function describeStorage(bench: Bench): void {
  const { refuses, keepsFirst, forgetsNothing } = bench.harness.differs ?? {};
  const refusal = (point: Point): RejectReason | undefined =>
    FIELDS[point.series.type].some((field) => !Number.isFinite(point[field]))
      ? 'invalid_value'
      : refuses?.(point);

  async function opened(namespace?: string): Promise<Subject> {
    const subject = await bench.subject(namespace === undefined ? {} : { namespace });
    await subject.open();
    return subject;
  }

  async function expectStored(subject: Subject, points: readonly Point[]): Promise<void> {
    expect(subject.differences(await subject.read(EVERYTHING), points)).toEqual([]);
  }

  /** Writes all points. Those that this store refuses must be rejected, each with its reason, and the others stored. */
  async function expectTaken(points: readonly Point[]): Promise<void> {
    const subject = await opened();
    const rejected = await subject.deliver(points);
    const got = rejected.map(({ point, rejection }) => [points.indexOf(point), rejection.reason]);
    const expected = points.flatMap((point, index) => {
      const reason = refusal(point);
      return reason === undefined ? [] : [[index, reason]];
    });
    expect(got.sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual(expected);
    for (const { rejection } of rejected) expect(rejection.message).toMatch(/^.{1,500}$/);
    await expectStored(
      subject,
      points.filter((point) => refusal(point) === undefined),
    );
  }

  describe('storage', () => {
    it('holds every field of every type, and null for fields that the type does not have', async () => {
      await expectTaken(METRIC_TYPES.map((type) => makePoint({ type })));
    });

    it('holds every number exactly, or rejects it', async () => {
      const fields = ['sum', 'min', 'max', 'last', 'p50', 'p90', 'p95', 'p99'] as const;
      const floats = METRIC_TYPES.flatMap((type) =>
        NUMBERS.map((value, index) =>
          makePoint({
            type,
            dimensions: [['n', String(index)]],
            values: Object.fromEntries(fields.map((field) => [field, value])),
          }),
        ),
      );
      const counts = COUNTS.map((count, index) =>
        makePoint({ name: 'counts', dimensions: [['n', String(index)]], values: { count } }),
      );
      await expectTaken([...floats, ...counts]);
    });

    it('holds the sketches of timers if SKETCH is true, also in a table that had none', async (context) => {
      if (!bench.hasSetting('sketch')) return context.skip();
      const namespace = bench.namespace();
      const timer = (host: string, sketch?: string | null): Point => ({
        ...makePoint({ type: 'timer', dimensions: [['host', host]] }),
        ...(sketch !== undefined && { sketch }),
      });
      const before = await opened(namespace);
      await before.deliver([timer('before', SKETCH)]);
      const subject = await bench.subject({ namespace, change: (given) => ({ ...given, SKETCH: 'true' }) });
      await subject.open();
      const points = [
        timer('some', SKETCH),
        timer('many', LONG_SKETCH),
        timer('none'),
        { ...makePoint(), sketch: null },
      ];
      expect(await subject.deliver(points)).toEqual([]);
      const held = async () => {
        const rows = await subject.read(EVERYTHING);
        return new Map(rows.map(({ series, sketch }) => [series.dimensionsJson, sketch]));
      };
      const expected = [
        ['{"host":"before"}', null],
        ['{"host":"some"}', SKETCH],
        ['{"host":"many"}', LONG_SKETCH],
        ['{"host":"none"}', null],
        ['{"app":"api"}', null],
      ] as const;
      expect(await held()).toEqual(new Map<string, string | null>(expected));
      // As any field, it is what was written last, whichever way it was written.
      const again = [timer('some', LONG_SKETCH), timer('none', SKETCH)];
      expect(await subject.deliver(again)).toEqual([]);
      expect(await held()).toEqual(
        new Map<string, string | null>([
          ...expected,
          ['{"host":"some"}', LONG_SKETCH],
          ['{"host":"none"}', SKETCH],
        ]),
      );
      // Who does not know of it leaves it alone.
      const after = await opened(namespace);
      await after.deliver([makePoint({ dimensions: [['host', 'after']] })]);
      expect((await after.read(EVERYTHING)).map((row) => row.sketch)).toEqual(Array(6).fill(undefined));
    });

    it('finds points by their keys, if it can look them up', async () => {
      const subject = await opened();
      if (subject.sink.lookUp === undefined) return;
      const points = manyPoints(230);
      await subject.deliver(points);
      const wanted = [...points.slice(0, 120), makePoint({ name: 'not there' }), ...points.slice(200)];
      const found: StoredPoint[] = [];
      await subject.visible();
      for await (const point of subject.sink.lookUp(wanted, new AbortController().signal)) found.push(point);
      expect(subject.differences(found, [...points.slice(0, 120), ...points.slice(200)])).toEqual([]);
    });

    it('reads negative zero as a zero', async () => {
      const subject = await opened();
      await subject.deliver([makePoint({ type: 'gauge', values: { sum: -0, min: -0 } })]);
      const [stored] = await subject.read(EVERYTHING);
      expect(stored?.sum === 0 && stored.min === 0).toBe(true);
    });

    it('rejects numbers that are not finite', async () => {
      const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      const bad = values.map((sum) => makePoint({ name: String(sum), values: { sum } }));
      await expectTaken([makePoint(), ...bad, makePoint({ name: 'neighbour' })]);
    });

    it('holds any text as a name', async () => {
      await expectTaken(HOSTILE_TEXTS.map((name) => makePoint({ name })));
    });

    it('holds any text as the key of a dimension', async () => {
      await expectTaken(HOSTILE_TEXTS.map((key) => makePoint({ dimensions: [[key, 'v']] })));
    });

    it('holds any text as the value of a dimension', async () => {
      const texts = [...HOSTILE_TEXTS, '\0', 'a\0b'];
      await expectTaken(texts.map((value) => makePoint({ dimensions: [['k', value]] })));
    });

    it('holds all of these texts in one series', async () => {
      const dimensions = HOSTILE_TEXTS.map((text) => [text, `${text}!`] as const);
      await expectTaken([makePoint({ dimensions }), makePoint()]);
    });

    it('keeps apart what looks alike', async () => {
      await expectTaken(LOOKALIKES.map((parts) => makePoint(parts)));
    });

    it('holds long names', async () => {
      const names = ['n'.repeat(255), 'n'.repeat(256), 'm'.repeat(512), 'ü'.repeat(256)];
      await expectTaken(names.map((name) => makePoint({ name })));
    });

    it('holds long dimensions, or rejects only those', async () => {
      const values = [KB, 16 * KB, 64 * KB, 64 * KB + 1].map((length) => `${length}`.padEnd(length, 'x'));
      await expectTaken([
        makePoint({ name: 'before' }),
        ...values.map((value) => makePoint({ dimensions: [['k', value]] })),
        ...[20 * KB, 30 * KB, 64 * KB].map((length) =>
          makePoint({ dimensions: [['k', '€'.repeat(length)]] }),
        ),
        makePoint({ name: 'after' }),
      ]);
    });

    it('rejects points by their index in the batch, in one write', async () => {
      const subject = await opened();
      const points = manyPoints(7);
      points[2] = makePoint({ name: 'bad', values: { sum: Number.NaN } });
      points[6] = makePoint({ name: 'bad too', values: { sum: Number.POSITIVE_INFINITY } });
      const outcome = await subject.write(points);
      expect(outcome).toMatchObject({
        kind: 'partial',
        retry: [],
        rejected: [
          { index: 2, reason: 'invalid_value' },
          { index: 6, reason: 'invalid_value' },
        ],
      });
      await expectStored(
        subject,
        points.filter((_, index) => index !== 2 && index !== 6),
      );
    });

    it('rejects a whole batch', async () => {
      const subject = await opened();
      const outcome = await subject.write([makePoint({ values: { sum: Number.NaN } })]);
      expect(outcome).toMatchObject({ kind: 'partial', retry: [], rejected: [{ index: 0 }] });
      await expectStored(subject, []);
    });
  });

  describe('keys', () => {
    it('holds a batch written twice as if written once', async () => {
      const subject = await opened();
      const points = manyPoints(100);
      await subject.deliver(points);
      await subject.deliver(points);
      await expectStored(subject, points);
    });

    it.skipIf(keepsFirst)('holds the values that were written last', async () => {
      const subject = await opened();
      await subject.deliver(manyPoints(100));
      const later = manyPoints(60, 1000);
      await subject.deliver(later);
      await expectStored(subject, [...later, ...manyPoints(100).slice(60)]);
    });

    it('keeps windows and instances of one series apart', async () => {
      const points = [0, 1, WINDOW_MS, 2 * WINDOW_MS].flatMap((offset) =>
        ['', 'boot-1', 'boot-2', 'x,y=z "\\'].map((instance, index) =>
          makePoint({ windowStart: START + offset, instance, values: { count: index + 1 } }),
        ),
      );
      await expectTaken(points);
    });

    it.skipIf(keepsFirst)('leaves alone the windows and instances between those that it writes', async () => {
      const subject = await opened();
      const row = (number: number, instance: string, count: number) =>
        makePoint({ windowStart: START + number * WINDOW_MS, instance, values: { count } });
      const before = [0, 1, 2].flatMap((number) =>
        ['', 'a', 'b'].map((instance) => row(number, instance, 1)),
      );
      await subject.deliver(before);
      const later = [row(0, '', 2), row(0, 'b', 2), row(2, 'a', 2)];
      await subject.deliver(later);
      await expectStored(subject, [...later, ...[1, 3, 4, 5, 6, 8].map((index) => before[index]!)]);
    });

    it.skipIf(forgetsNothing)('removes points by key, and again without effect', async () => {
      const subject = await opened();
      const points = [...manyPoints(10), makePoint({ instance: 'boot-1' }), makePoint()];
      await subject.deliver(points);
      await subject.remove([...points.slice(0, 5), points.at(-1)!, makePoint({ name: 'absent' })]);
      await expectStored(subject, points.slice(5, -1));
      await subject.remove(points.slice(0, 5));
      await expectStored(subject, points.slice(5, -1));
    });

    it('shows sinks of one namespace the same points, and sinks of another none of them', async () => {
      const namespace = bench.namespace();
      const [one, same, other] = [await opened(namespace), await opened(namespace), await opened()];
      await one.deliver(manyPoints(3));
      await expectStored(same, manyPoints(3));
      await expectStored(other, []);
      await other.deliver(manyPoints(2, 7));
      await expectStored(one, manyPoints(3));
      await expectStored(other, manyPoints(2, 7));
    });

    it.skipIf(keepsFirst)(
      'holds each row once and whole if two sinks write the same keys at once',
      async () => {
        const namespace = bench.namespace();
        const writers = [await opened(namespace), await opened(namespace)];
        const rounds = 12;
        const keys = 600;
        const shared = 400;
        /** Each window twice: first its rows are new to the store, then they exist. */
        const windowOf = (number: number) => START + (number >> 1) * WINDOW_MS;
        /** All fields hold the same number, which identifies the writer and the round. */
        const round = (writer: number, number: number) =>
          Array.from({ length: keys }, (_, index) => {
            const stamp = 1 + 1000 * writer + number;
            const fields = FIELDS.gauge.map((field) => [field, stamp]);
            const key = String(writer === 0 ? index : index + keys - shared);
            const values = Object.fromEntries(fields);
            return makePoint({
              type: 'gauge',
              dimensions: [['key', key]],
              windowStart: windowOf(number),
              values,
            });
          });
        for (let number = 0; number < rounds; number += 1) {
          const written = [round(0, number), round(1, number)] as const;
          await Promise.all(writers.map((subject, writer) => subject.deliver(written[writer]!)));
          // After every round: the next one would clear away the duplicates of this one.
          const from = windowOf(number);
          const stored = await writers[0]!.read({ from, to: from + WINDOW_MS });
          const byId = written.map((points) => new Map(points.map((point) => [point.series.id, point])));
          const winners = new Map(byId.flatMap((points) => [...points]));
          for (const { count, series } of stored) {
            const own = byId[count > 1000 ? 1 : 0]!.get(series.id);
            if (own !== undefined) winners.set(series.id, own);
          }
          expect(winners.size).toBe(2 * keys - shared);
          expect(writers[0]!.differences(stored, [...winners.values()])).toEqual([]);
        }
      },
    );
  });

  describe('read', () => {
    it('returns the windows of the half-open range', async () => {
      const subject = await opened();
      const points = [0, 1, 2, 3].map((number) => makePoint({ windowStart: START + number * WINDOW_MS }));
      await subject.deliver(points);
      const range = async (from: number, to: number) =>
        (await subject.read({ from: START + from, to: START + to }))
          .map(({ windowStart }) => (windowStart - START) / WINDOW_MS)
          .sort();
      expect(await range(WINDOW_MS, 3 * WINDOW_MS)).toEqual([1, 2]);
      expect(await range(WINDOW_MS, WINDOW_MS)).toEqual([]);
      expect(await range(WINDOW_MS + 1, 3 * WINDOW_MS + 1)).toEqual([2, 3]);
      expect(await range(WINDOW_MS - 1, 2 * WINDOW_MS)).toEqual([1]);
      expect(await range(10 * WINDOW_MS, 20 * WINDOW_MS)).toEqual([]);
    });

    it('returns 10,000 points, and may be left early, again and again, while the sink writes', async () => {
      const subject = await opened();
      const points = manyPoints(10_000);
      await subject.deliver(points);
      await expectStored(subject, points);
      for (let time = 0; time < 5; time += 1) {
        let seen = 0;
        for await (const _ of subject.sink.read(EVERYTHING, new AbortController().signal)) {
          seen += 1;
          if (seen === 1) await subject.deliver(points.slice(0, 10));
          if (seen === 3) break;
        }
        expect(seen).toBe(3);
      }
      await expectStored(subject, points);
    });

    it('fails, instead of ending early, if its signal is aborted', async () => {
      const subject = await opened();
      await subject.deliver(manyPoints(10_000));
      await subject.visible();
      const controller = new AbortController();
      const reading = async () => {
        for await (const _ of subject.sink.read(EVERYTHING, controller.signal)) controller.abort();
      };
      await expect(reading()).rejects.toThrow();
      await expect(subject.read(EVERYTHING, AbortSignal.abort())).rejects.toThrow();
      await expectStored(subject, manyPoints(10_000));
    });
  });

  describe('schema', () => {
    it('is found by the next sink, with its contents', async () => {
      const namespace = bench.namespace();
      const first = await opened(namespace);
      await first.deliver(manyPoints(3));
      await first.sink.close();
      await expectStored(await opened(namespace), manyPoints(3));
    });

    it.skipIf(!bench.harness.older)('gets what an older version lacks, and keeps its rows', async () => {
      const namespace = bench.namespace();
      const before = await bench.harness.older!(namespace);
      expect(before.length).toBeGreaterThan(0);
      const subject = await opened(namespace);
      await expectStored(subject, before);
      const points = METRIC_TYPES.map((type) => makePoint({ name: 'after the change', type }));
      await subject.deliver(points);
      await expectStored(subject, [...before, ...points]);
    });

    it.skipIf(!bench.harness.unusable)('is refused, with advice, if it cannot be used', async () => {
      const namespace = bench.namespace();
      await bench.harness.unusable!(namespace);
      const subject = await bench.subject({ namespace });
      const error = await sinkError(subject.open());
      expect(error.reason).toBe('schema_mismatch');
      expect(error.advice).toMatch(/^[A-Z].+\.$/s);
    });

    it('has one identity for everyone, whatever is in it, and another one if it has vanished', async (context) => {
      const namespace = bench.namespace();
      const many = await Promise.all(Array.from({ length: 8 }, () => opened(namespace)));
      const isKnown = many[0]!.sink.identity !== undefined && !bench.harness.differs?.hasNoIdentity;
      context.skip(!isKnown, 'the sink does not know its store again');
      const ask = () => Promise.all(many.map((subject) => subject.identity()));
      // Whoever has the first answer tells others, so it must stay.
      const identities = [...(await ask()), ...(await ask())];
      expect(identities[0]).toMatch(/^.{8,100}$/);
      expect(new Set(identities).size).toBe(1);
      const [subject] = many as [Subject];
      await subject.deliver(manyPoints(3));
      await subject.sink.close();
      await subject.open();
      expect(await subject.identity()).toBe(identities[0]);
      expect(await (await opened()).identity()).not.toBe(identities[0]);
      await expectStored(subject, manyPoints(3));
      if (bench.harness.drop === undefined) return;
      await bench.harness.drop(namespace);
      await Promise.allSettled([subject.write(manyPoints(3))]);
      await subject.open();
      expect(await subject.identity()).not.toBe(identities[0]);
      expect(await (await opened(namespace)).identity()).toBe(await subject.identity());
    });

    it('has a receipt for each writer, which only becomes later, and not if it should be later already', async (context) => {
      const namespace = bench.namespace();
      const many = await Promise.all([1, 2].map(() => opened(namespace)));
      const isKept = many[0]!.sink.giveReceipt !== undefined && !bench.harness.differs?.hasNoIdentity;
      context.skip(!isKept, 'the sink keeps no receipts');
      const [one, other] = many as [Subject, Subject];
      await one.identity();
      await one.deliver(manyPoints(3));
      expect(await one.receipt('p.a-b_c.0-1')).toBeUndefined();
      // Where it was not kept, nothing is given by those who know of one.
      expect(await one.giveReceipt('p.a-b_c.0-1', START, START - 1)).toEqual({ before: undefined });
      expect(await other.receipt('p.a-b_c.0-1')).toBeUndefined();
      expect(await one.giveReceipt('p.a-b_c.0-1', START, undefined)).toEqual({ before: undefined });
      expect(await other.receipt('p.a-b_c.0-1')).toBe(START);
      expect(await other.giveReceipt('p.a-b_c.0-1', START + WINDOW_MS, START)).toEqual({ before: START });
      expect(await one.giveReceipt('p.a-b_c.0-1', START, START)).toEqual({ before: START + WINDOW_MS });
      expect(await one.giveReceipt('p.a-b_c.0-1', START + 3 * WINDOW_MS, START + 2 * WINDOW_MS)).toEqual({
        before: START + WINDOW_MS,
      });
      expect(await one.giveReceipt('p.b.0-1', START - WINDOW_MS, undefined)).toEqual({ before: undefined });
      await one.sink.close();
      await one.open();
      expect(await one.receipt('p.a-b_c.0-1')).toBe(START + WINDOW_MS);
      expect(await other.receipt('p.b.0-1')).toBe(START - WINDOW_MS);
      expect(await (await opened()).receipt('p.b.0-1')).toBeUndefined();
      await expectStored(one, manyPoints(3));
    });

    it.skipIf(!bench.harness.drop)('is created again by open if it has vanished', async () => {
      const namespace = bench.namespace();
      const subject = await opened(namespace);
      await subject.deliver(manyPoints(3));
      await bench.harness.drop!(namespace);
      expect(await subject.write(manyPoints(3))).toMatchObject({ kind: 'refused', reason: 'not_found' });
      await subject.open();
      await subject.deliver(manyPoints(5));
      await expectStored(subject, manyPoints(5));
    });
  });
}
