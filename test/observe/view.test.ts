/** What the dashboard and `compare` make of a status. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { NO_WATCH, type WatchStatus } from '../../src/bus/read/watch.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { comparisonOf } from '../../src/observe/comparison.ts';
import { Meters } from '../../src/observe/meters.ts';
import type { SinkStatus } from '../../src/observe/status.ts';
import { viewOf } from '../../src/observe/view.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { Folds } from '../../src/recent/folds.ts';
import { snapshot } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';
import { NOW, sinkStatus, statusOf } from './parts.ts';

test.each<[Partial<WatchStatus>, string]>([
  [{}, '–, nobody watches the bus'],
  [{ state: 'forbidden' }, '–, the bus does not permit to listen'],
  [{ state: 'watching' }, '–, nothing heard on the bus yet'],
  [{ state: 'watching', unknownSpans: 3, unknown: 'a reason' }, '–, unknown: a reason'],
  [{ state: 'watching', unknownSpans: 3, unknown: 'a reason', heard: 10 }, '0, of 10 heard'],
  [{ state: 'watching', heard: 2_000, unstored: 1_000 }, '1,000, of 2,000 heard'],
])('what the watch on the bus found: %o', async (found, text) => {
  const status = snapshot(
    {
      config: await loadConfig({}),
      instance: 'one',
      startedAt: 0,
      meters: new Meters(['sqlite'], 10_000, 0),
      scan: new WindowScan(),
      probes: new Probes({ intervalMs: 0, clock: systemClock, questions: () => undefined, answered() {} }),
      recent: undefined,
      paused: new Set(),
      rollbacks: new RollbackLog(),
      totals: new Totals(),
      folds: new Folds(),
      detached: false,
      control: () => ({ enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 }),
    },
    Date.now(),
  );
  const { source } = viewOf({ ...status, source: { ...status.source, watch: { ...NO_WATCH, ...found } } });
  const fact = source.find(({ what }) => what === 'unstored')!;
  expect(`${fact.text}, ${fact.note}`).toBe(text);
});

/** A row, a cell for each sink: what is shown, and what it is compared with. */
async function rowOf(what: string, ...sinks: readonly SinkStatus[]): Promise<string[]> {
  const { rows } = comparisonOf(await statusOf(sinks));
  const cells = rows.find((row) => row.what === what)?.cells ?? [];
  return cells.map(({ text, factor, best }) => `${text}${best ? ' best' : ''}${factor ? ` ${factor}` : ''}`);
}

const writing = (p50: number, names: readonly string[] | null) =>
  sinkStatus({
    names,
    storedBytes: 1e6 * p50,
    written: 1000,
    writeSeconds: { p50, p90: p50, p99: p50 },
    cost: { usdPerMonth: 10 * p50, assumption: '' },
    pointsPerSecond: p50,
  });

/** The second one's figures are not compared with the others', and this says why. */
async function expectApart(sinks: readonly SinkStatus[], why: string): Promise<void> {
  for (const what of ['write p50', 'storage', 'cost per month'])
    expect(
      (await rowOf(what, ...sinks)).map((text) => text.split(' ').slice(2).join(' ')),
      what,
    ).toEqual(['best', why, '2.0×']);
}

test('a sink with longer windows is not compared by what depends on them', async () => {
  const sinks = [writing(2, null), { ...writing(1, null), windowMs: 60_000 }, writing(4, null)];
  await expectApart(sinks, 'other windows');
  expect(await rowOf('window', ...sinks)).toEqual(['10 s', '60 s', '10 s']);
  expect(await rowOf('window', writing(2, null))).toEqual([]);
});

test('a sink that gets other names is not compared by what depends on them', async () => {
  const sinks = [writing(2, null), writing(1, ['b.*', 'a.*']), writing(4, null)];
  await expectApart(sinks, 'other names');
  expect(await rowOf('points', ...sinks)).toEqual(['2/s', '1/s other names', '4/s']);
  expect(await rowOf('names', ...sinks)).toEqual(['all', 'a.*, b.*', 'all']);
  expect(viewOf(await statusOf(sinks)).notes.join()).toContain('pg gets only names that a.*, b.* choose');
  // Each with its own: nobody is the best of them.
  expect(await rowOf('storage', writing(2, ['a']), writing(1, ['b']))).toEqual([
    '2 MB other names',
    '1 MB other names',
  ]);
  // The same ones for all are as good as all.
  expect(await rowOf('storage', writing(2, ['a', 'b']), writing(1, ['b', 'a']))).toEqual([
    '2 MB 2.0×',
    '1 MB best',
  ]);
  expect(await rowOf('names', writing(2, null), writing(1, null))).toEqual([]);
});

test.each<[Partial<SinkStatus>, string]>([
  [
    { up: false, downSince: NOW, lastFailure: { at: Date.parse(NOW), reason: 'timeout', message: '' } },
    'down',
  ],
  [{ up: false }, 'connecting'],
  [{ paused: true, state: 'paused' }, 'paused'],
  [{ catchUp: { windowsBehind: 3, windowsPerSecond: 1, secondsLeft: 3 } }, 'catching up'],
])(
  'a store with %o needs no less room and costs no less than others, because it lacks rows',
  async (trouble, state) => {
    const sinks = [writing(2, null), { ...writing(1, null), ...trouble }, writing(4, null)];
    expect(await rowOf('storage', ...sinks)).toEqual(['2 MB best', `1 MB ${state}`, '4 MB 2.0×']);
    expect(await rowOf('cost per month', ...sinks)).toEqual(['20.00 USD best', '–', '40.00 USD 2.0×']);
  },
);

test('storage is not compared before stores hold enough rows to have put them on the disk', async () => {
  const stored = (storedBytes: number, written: number) => ({ ...writing(1, null), storedBytes, written });
  const [few, many, more] = [stored(420, 999), stored(156_000, 1000), stored(312_000, 5000)];
  expect(await rowOf('storage', few, many)).toEqual(['420 B', '156 KB']);
  expect(await rowOf('storage', few, many, more)).toEqual(['420 B', '156 KB best', '312 KB 2.0×']);
});

test('sinks of several services are compared by the names of all, row by row', async () => {
  const [one, other] = [await statusOf([writing(2, null)]), await statusOf([writing(1, ['a'])])];
  const { rows } = comparisonOf(one, other);
  expect(rows.map(({ cells }) => cells.length)).toEqual(rows.map(() => 2));
  const cells = rows.find(({ what }) => what === 'storage')!.cells;
  expect(cells.map(({ factor, best }) => [factor, best])).toEqual([
    [undefined, undefined],
    ['other names', undefined],
  ]);
});

test('a store that is not asked has no time, and says why', async () => {
  const answer = { question: 'sum of a', at: NOW, seconds: 1, rows: 3, error: null };
  const queries = { sums: answer, windows: answer, notAsked: null };
  const notAsked = sinkStatus({
    id: 'part',
    names: ['b'],
    queries: { sums: null, windows: null, notAsked: 'it did not get a' },
  });
  const sinks = [sinkStatus({ queries }), notAsked];
  expect(await rowOf('query: sums', ...sinks)).toEqual(['1 s', 'not asked']);
  const { notes, cards } = viewOf(await statusOf(sinks));
  expect(notes).toContain('part is not asked: it did not get a');
  expect(cards[1]!.lines).toContainEqual({ what: 'names', text: 'only those that b choose', tone: 'plain' });
});
