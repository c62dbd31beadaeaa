/** What the status is made of, before the service is attached to the bus. */
import { systemClock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { Meters } from '../../src/observe/meters.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import type { Parts } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';

export async function detachedParts(): Promise<Parts> {
  return {
    config: await loadConfig({}),
    instance: 'a',
    startedAt: 0,
    meters: new Meters([], 1000, 0),
    scan: new WindowScan(),
    probes: new Probes({ intervalMs: 0, clock: systemClock, questions: () => undefined }),
    recent: undefined,
    paused: new Set<string>(),
    rollbacks: new RollbackLog(),
    totals: new Totals(),
    detached: false,
    control: () => ({ enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 }),
  };
}
