/** What `check` does with a sink. The stores here misbehave as no real one does on demand. */
import { expect, test } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import { type TrialOptions, trySink } from '../../src/commands/check-sink.ts';
import { SinkError, type StoredPoint, type WriteOutcome } from '../../src/sink/contract.ts';

const OPTIONS: TrialOptions = { reads: 'ranges', removes: true, windowMs: 1000, timeoutMs: 60_000 };

/** Shows what was written when it is read for the `shownAt`-th time. */
function store(shownAt: number) {
  let held: readonly Point[] = [];
  let reads = 0;
  return {
    removed: 0,
    async open() {},
    async writePoints(points: readonly Point[]): Promise<WriteOutcome> {
      held = points;
      return { kind: 'written' };
    },
    async *read(): AsyncGenerator<StoredPoint> {
      reads += 1;
      if (reads >= shownAt) yield* held;
    },
    async *lookUp(): AsyncGenerator<StoredPoint> {
      yield* this.read();
    },
    async remove() {
      this.removed += 1;
    },
  };
}

test('a store may take a while to show what it has', async () => {
  expect((await trySink(store(3), OPTIONS)).detail).toMatch(/^written, read back, removed, in \d+ ms$/);
});

test('what was acknowledged and is not there is a failure, and is cleaned up all the same', async () => {
  const forgetful = store(Number.POSITIVE_INFINITY);
  const failure = await trySink(forgetful, { ...OPTIONS, patienceMs: 50 }).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SinkError);
  expect(failure).toMatchObject({
    message: 'the store acknowledged the probe point, but does not have it',
    advice: expect.stringContaining('Look for what drops points'),
  });
  expect(forgetful.removed).toBe(1);
});

test('a store that dropped the probe without naming it is quoted', async () => {
  const unidentified = { count: 1, message: 'dropped 1 of 1' };
  const writePoints = async (): Promise<WriteOutcome> => ({
    kind: 'partial',
    retry: [],
    rejected: [],
    unidentified,
  });
  await expect(trySink({ ...store(1), writePoints }, OPTIONS)).rejects.toThrow('dropped 1 of 1');
});

test('a store that cannot be read is only written to', async () => {
  const { detail, advice } = await trySink(store(Number.POSITIVE_INFINITY), {
    ...OPTIONS,
    reads: 'none',
    removes: false,
  });
  expect(advice).toBe('');
  expect(detail).toMatch(/^written, cannot be read back, not removed, in \d+ ms$/);
});

test('a call that never ends is given up, and the failure says so', async () => {
  const still = { ...store(1), open: () => new Promise<void>(() => {}) };
  await expect(trySink(still, { ...OPTIONS, timeoutMs: 20 })).rejects.toThrow('no answer within 20 ms');
});

/** Adds what comes to what it holds, and shows it from the `shownAt`-th read on, the last write one read later. */
function adding(shownAt: number) {
  const held: Point[] = [];
  let reads = 0;
  return {
    ...store(1),
    async writePoints(points: readonly Point[]): Promise<WriteOutcome> {
      held.push(...points);
      return { kind: 'written' };
    },
    async *read(): AsyncGenerator<StoredPoint> {
      reads += 1;
      if (reads < shownAt) return;
      yield* shownAt > 1 && reads === shownAt ? held.slice(0, -1) : held;
    },
  };
}

test.each([1, 3])(
  'a store that keeps twice what is written twice works, with advice (look %i)',
  async (shownAt) => {
    const { detail, advice } = await trySink(adding(shownAt), {
      ...OPTIONS,
      removes: false,
      patienceMs: 1_500,
    });
    expect(detail).toMatch(/^written, read back 2 times, not removed, in \d+ ms$/);
    expect(advice).toContain('-dedup.minScrapeInterval=1ms');
  },
);

test('what cannot be read is written once: nobody would see what comes of it', async () => {
  let writes = 0;
  const counting = {
    ...store(1),
    async writePoints(): Promise<WriteOutcome> {
      writes += 1;
      return { kind: 'written' };
    },
  };
  await trySink(counting, { ...OPTIONS, reads: 'none' });
  expect(writes).toBe(1);
});

test('a store that does not take the point again fails, and is cleaned up', async () => {
  let writes = 0;
  const once = {
    ...store(1),
    async writePoints(): Promise<WriteOutcome> {
      writes += 1;
      return writes === 1
        ? { kind: 'written' }
        : { kind: 'refused', reason: 'bad_request', message: 'again?' };
    },
  };
  await expect(trySink(once, OPTIONS)).rejects.toThrow('again?');
  expect(once.removed).toBe(1);
});

test('a store with an identity that lets nobody keep receipts is written to, and said not to', async () => {
  const denied = {
    identity: async (): Promise<string | undefined> => 'the one',
    receipt: async (): Promise<undefined> => {
      throw new SinkError('unauthorized', 'permission denied for table points_receipts');
    },
  };
  const { detail, advice } = await trySink({ ...store(1), ...denied }, OPTIONS);
  expect(detail).toMatch(
    /removed, in \d+ ms; it keeps no receipts: permission denied for table points_receipts$/,
  );
  expect(advice).toContain('restored from a backup');
  const nameless = { ...store(1), ...denied, identity: async () => undefined };
  expect((await trySink(nameless, OPTIONS)).advice).toBe('');
});
