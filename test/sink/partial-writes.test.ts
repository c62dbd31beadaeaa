/** The search for the points that a store cannot take, against stores that refuse in different ways. */
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import type { Rejection, WriteOutcome } from '../../src/sink/contract.ts';
import { RefusedSeries, type Verdict, writeInParts } from '../../src/sink/partial-writes.ts';

const MAX_REQUESTS = 20;

interface Row {
  readonly index: number;
  readonly id: string;
}

/**
 * `counts`: drops the bad rows, writes the others and says how many it dropped. `drops`: the same without a number.
 * `whole`: refuses a request with a bad row. `names`: drops the bad rows and names at most 100.
 */
type Kind = 'counts' | 'drops' | 'whole' | 'names';

class Store {
  readonly stored = new Set<string>();
  requests = 0;
  readonly sizes: number[] = [];
  readonly kind: Kind;
  readonly bad: Set<string>;

  constructor(kind: Kind, bad: Iterable<string>) {
    this.kind = kind;
    this.bad = new Set(bad);
  }

  readonly send = async (rows: readonly Row[]): Promise<Verdict> => {
    this.requests += 1;
    this.sizes.push(rows.length);
    const bad = rows.filter(({ id }) => this.bad.has(id));
    if (this.kind !== 'whole' || bad.length === 0) {
      for (const { id } of rows) if (!this.bad.has(id)) this.stored.add(id);
    }
    if (bad.length === 0) return { kind: 'written' };
    const verdict = { kind: 'unfit', reason: 'refused', message: `${this.kind}: ${bad.length}` } as const;
    switch (this.kind) {
      case 'whole':
        return verdict;
      case 'drops':
        return { ...verdict, othersWritten: true };
      case 'counts':
        return { ...verdict, othersWritten: true, unfit: bad.length };
      case 'names': {
        const named = bad
          .slice(0, 100)
          .map(({ index }) => ({ index, reason: 'refused', message: '' }) as const);
        return {
          ...verdict,
          othersWritten: true,
          named,
          ...(bad.length < 100 ? { unfit: named.length } : {}),
        };
      }
      default:
        return this.kind satisfies never;
    }
  };
}

const rowsOf = (ids: readonly string[]): Row[] => ids.map((id, index) => ({ index, id }));
const numbered = (count: number) => rowsOf(Array.from({ length: count }, (_, i) => `${i}`));

async function write(store: Store, rows: readonly Row[], refused?: RefusedSeries<Row>) {
  store.requests = 0;
  const rejected: Rejection[] = [];
  const outcome = await writeInParts(rows, rejected, store.send, undefined, refused);
  return { outcome, ...partsOf(outcome) };
}

function partsOf(outcome: WriteOutcome) {
  if (outcome.kind !== 'partial') return { retry: [], rejected: [], lost: 0 };
  const { retry, rejected, unidentified } = outcome;
  return { retry, rejected: rejected.map(({ index }) => index), lost: unidentified?.count ?? 0 };
}

describe('a store that writes all but the bad rows', () => {
  test('and says how many it dropped: the few are named, and none is sent again', async () => {
    for (const at of [0, 1, 2_499, 2_500, 4_999]) {
      const store = new Store('counts', [`${at}`]);
      const { outcome } = await write(store, numbered(5_000));
      expect(outcome).toEqual({
        kind: 'partial',
        retry: [],
        rejected: [{ index: at, reason: 'refused', message: 'counts: 1' }],
      });
      expect(store.requests).toBeLessThanOrEqual(MAX_REQUESTS);
    }
  });

  test('drops more than the search can name: the batch is done within the budget, and the rest are counted', async () => {
    const bad = Array.from({ length: 2_000 }, (_, i) => `${Math.floor(i * 1.1)}`);
    const store = new Store('counts', bad);
    const { retry, rejected, lost, outcome } = await write(store, numbered(2_200));
    expect(store.requests).toBe(MAX_REQUESTS);
    expect(retry).toEqual([]);
    expect(rejected.length + lost).toBe(2_000);
    expect(lost).toBeGreaterThan(0);
    expect(outcome.kind === 'partial' && outcome.unidentified?.message).toBe('counts: 2000');
    expect(store.stored.size).toBe(200);
  });

  test('and drops all: one request', async () => {
    const store = new Store(
      'counts',
      numbered(500).map(({ id }) => id),
    );
    const { rejected } = await write(store, numbered(500));
    expect([store.requests, rejected.length]).toEqual([1, 500]);
  });

  test('does not say how many it dropped: at least one is lost if the search ends early', async () => {
    const bad = Array.from({ length: 1_000 }, (_, i) => `${2 * i}`);
    const store = new Store('drops', bad);
    const { retry, rejected, lost } = await write(store, numbered(2_000));
    expect(store.requests).toBe(MAX_REQUESTS);
    expect([retry, lost]).toEqual([[], 1]);
    expect(rejected.every((index) => bad.includes(`${index}`))).toBe(true);
  });

  test('says more or fewer than can be: the number is not believed', async () => {
    const rows = numbered(64);
    for (const unfit of [0, -1, 65, Number.NaN]) {
      const store = new Store('drops', ['9']);
      const send = async (part: readonly Row[]) => {
        const verdict = await store.send(part);
        return verdict.kind === 'unfit' ? { ...verdict, unfit } : verdict;
      };
      const outcome = await writeInParts(rows, [], send);
      expect(partsOf(outcome)).toEqual({ retry: [], rejected: [9], lost: 0 });
    }
  });

  test('names what it dropped: no search', async () => {
    const store = new Store('names', ['3', '77']);
    const { rejected, retry } = await write(store, numbered(5_000));
    expect([rejected, retry, store.requests]).toEqual([[3, 77], [], 1]);
  });

  test('names only the first hundred: the others are sent until it names them too', async () => {
    const bad = Array.from({ length: 250 }, (_, i) => `${3 * i}`);
    const store = new Store('names', bad);
    const { rejected, retry, lost } = await write(store, numbered(1_000));
    expect([rejected.length, retry, lost, store.requests]).toEqual([250, [], 0, 3]);
  });

  test('names rows that were not sent: they are not rejected', async () => {
    const send = async (): Promise<Verdict> => ({
      kind: 'unfit',
      reason: 'refused',
      message: '',
      othersWritten: true,
      named: [{ index: 99, reason: 'refused', message: '' }],
    });
    expect(partsOf(await writeInParts(numbered(1), [], send)).rejected).toEqual([0]);
  });
});

describe('a store that refuses all for one row', () => {
  test('gets the good rows without it, within a few writes', async () => {
    for (const at of [0, 1, 2_499, 2_500, 4_999]) {
      const store = new Store('whole', [`${at}`]);
      const first = await write(store, numbered(5_000));
      expect(store.requests).toBeLessThanOrEqual(MAX_REQUESTS);
      const left = first.retry.map((index) => ({ index, id: `${index}` }));
      const second = await write(store, left);
      expect([...first.rejected, ...second.rejected]).toEqual([at]);
      expect(second.retry).toEqual([]);
      expect(store.stored.size).toBe(4_999);
    }
  });

  test('gets somewhere in every write, even if all are bad', async () => {
    const store = new Store(
      'whole',
      numbered(200).map(({ id }) => id),
    );
    let left = numbered(200);
    for (let attempt = 0; left.length > 0; attempt += 1) {
      expect(attempt).toBeLessThan(200);
      const { retry } = await write(store, left);
      expect(retry.length).toBeLessThan(left.length);
      left = left.filter(({ index }) => retry.includes(index));
    }
  });

  test('gets the series that it refused before apart, so that the next windows cost few requests', async () => {
    const store = new Store('whole', ['7', '1234', '4000']);
    const refused = new RefusedSeries<Row>(({ id }) => id);
    let left = numbered(5_000);
    while (left.length > 0) {
      const { retry } = await write(store, left, refused);
      left = left.filter(({ index }) => retry.includes(index));
    }
    store.stored.clear();
    store.sizes.length = 0;
    const { retry, rejected } = await write(store, numbered(5_000), refused);
    expect(store.sizes).toEqual([4_997, 3, 1, 1, 1]);
    expect([retry, rejected.length, store.stored.size]).toEqual([[], 3, 4_997]);
    // Once the store takes them, they are ordinary again.
    store.bad.clear();
    await write(store, numbered(5_000), refused);
    expect(store.requests).toBe(2);
    await write(store, numbered(5_000), refused);
    expect(store.requests).toBe(1);
    expect(store.stored.size).toBe(5_000);
  });

  test('is asked about a batch that is too large in ever smaller parts', async () => {
    const sizes: number[] = [];
    const send = async (rows: readonly Row[]): Promise<Verdict> => {
      sizes.push(rows.length);
      return rows.length > 300 ? { kind: 'unfit', reason: 'too_large', message: '' } : { kind: 'written' };
    };
    expect(await writeInParts(numbered(1_000), [], send)).toEqual({ kind: 'written' });
    expect(sizes).toEqual([1_000, 500, 250, 250, 500, 250, 250]);
  });
});

test('a slow store: the search ends before the write times out, once it has found something', async () => {
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
  try {
    for (const kind of ['counts', 'whole'] as const) {
      const store = new Store(kind, ['0', '700']);
      const send = async (rows: readonly Row[]): Promise<Verdict> => {
        now += 2_000;
        return await store.send(rows);
      };
      const { retry, rejected, lost } = partsOf(await writeInParts(numbered(1_000), [], send));
      if (kind === 'counts') expect([store.requests, retry, rejected, lost]).toEqual([3, [], [], 2]);
      // It first has to get down to a row.
      else expect([store.requests, retry.length, rejected]).toEqual([10, 999, [0]]);
    }
  } finally {
    clock.mockRestore();
  }
});

test('a failure in the middle of the search: what was not reached is sent again, written or not', async () => {
  for (const kind of ['counts', 'whole'] as const) {
    const store = new Store(kind, ['1', '6']);
    const send = async (rows: readonly Row[]): Promise<Verdict> =>
      store.requests === 3 ? { kind: 'retry', reason: 'throttled', message: '' } : await store.send(rows);
    const outcome = await writeInParts(numbered(8), [], send);
    expect(outcome).toMatchObject({ kind: 'partial', reason: 'throttled' });
    const { retry, rejected } = partsOf(outcome);
    expect([...retry, ...rejected]).toEqual(expect.arrayContaining([1, 6]));
  }
});

test('no row is ever lost in silence, whatever the store and the rows', async () => {
  const kinds = fc.constantFrom<Kind>('counts', 'drops', 'whole', 'names');
  const size = fc.integer({ min: 1, max: 300 });
  const badness = fc.double({ min: 0, max: 1, noNaN: true });
  const property = async (kind: Kind, count: number, share: number, seed: number) => {
    const isBad = (i: number) => ((i * 2_654_435_761 + seed) >>> 0) / 2 ** 32 < share;
    const rows = numbered(count);
    const bad = rows.filter(({ index }) => isBad(index)).map(({ id }) => id);
    const store = new Store(kind, bad);
    const refused = new RefusedSeries<Row>(({ id }) => id);
    let left = rows;
    let named = 0;
    let lost = 0;
    while (left.length > 0) {
      const result = await write(store, left, refused);
      expect(store.requests).toBeLessThanOrEqual(MAX_REQUESTS);
      expect(result.rejected.every((index) => store.bad.has(`${index}`))).toBe(true);
      expect(result.retry.length).toBeLessThan(left.length);
      named += result.rejected.length;
      lost += result.lost;
      left = left.filter(({ index }) => result.retry.includes(index));
    }
    expect(store.stored.size).toBe(count - bad.length);
    if (kind === 'drops') expect(named + lost > 0).toBe(bad.length > 0);
    else expect(named + lost).toBe(bad.length);
  };
  await fc.assert(fc.asyncProperty(kinds, size, badness, fc.integer(), property), { numRuns: 200 });
});
