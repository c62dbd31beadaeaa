/** What the dashboard and `compare` make of a status. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { NO_WATCH, type WatchStatus } from '../../src/bus/read/watch.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { Meters } from '../../src/observe/meters.ts';
import { viewOf } from '../../src/observe/view.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { Folds } from '../../src/recent/folds.ts';
import { snapshot } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';

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
