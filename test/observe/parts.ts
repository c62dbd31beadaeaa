/** What the status is made of, before the service is attached to the bus. */
import { systemClock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { Meters } from '../../src/observe/meters.ts';
import type { SinkStatus, Status } from '../../src/observe/status.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { Folds } from '../../src/recent/folds.ts';
import { type Parts, snapshot } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';

export async function detachedParts(): Promise<Parts> {
  return {
    config: await loadConfig({}),
    instance: 'a',
    startedAt: 0,
    meters: new Meters([], 1000, 0),
    scan: new WindowScan(),
    probes: new Probes({ intervalMs: 0, clock: systemClock, questions: () => undefined, answered() {} }),
    recent: undefined,
    paused: new Set<string>(),
    rollbacks: new RollbackLog(),
    totals: new Totals(),
    folds: new Folds(),
    detached: false,
    control: () => ({ enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 }),
  };
}

export const NOW = '2026-11-30T12:00:00.000Z';

/** A sink that is well. */
export function sinkStatus(differences: Partial<SinkStatus> = {}): SinkStatus {
  const well = {
    ...{
      id: 'pg',
      kind: 'postgres',
      state: 'live',
      up: true,
      paused: false,
      catchingUp: false,
      catchUp: null,
    },
    ...{
      next: '2026-11-30T11:59:50.000Z',
      unchosenWindows: 0,
      windowMs: 10_000,
      lagSeconds: 10,
      lateSeconds: 0,
      safeUntil: '2026-12-01T09:00:00.000Z',
    },
    ...{
      backlogPoints: 0,
      backlogBytes: 0,
      backlogLimitBytes: 64e6,
      written: 0,
      writtenBytes: 0,
      rateSeconds: 30,
    },
    ...{ pointsPerSecond: 0, bytesPerSecond: 0, writeSeconds: null, failedWriteSeconds: null },
    ...{
      queries: { sums: null, windows: null, notAsked: null },
      querySeconds: null,
      bytesPerRow: null,
      storedBytes: null,
      storedBytesPerDay: null,
    },
    ...{
      version: null,
      names: null,
      address: null,
      cost: { usdPerMonth: null, assumption: '' },
      rejected: {},
      retries: {},
    },
    ...{ lastRejected: null, dropped: 0, folded: 0 },
    ...{ checkpointFailures: 0, overflows: 0, stalls: 0, refills: 0 },
    receipts: { state: 'kept', failures: 0, until: '2026-11-30T11:59:50.000Z', lastFailure: null },
    ...{ lastFailure: null, downSince: null, nextAttempt: null, strayWindows: { removed: 0, left: 0 } },
    verified: { equal: 0, different: 0, unknown: 0, confirmed: 0, lastDifference: null, lastAt: null },
  } as const satisfies SinkStatus;
  return { ...well, ...differences };
}

/** The status of a service with these sinks that reads. */
export async function statusOf(sinks: readonly SinkStatus[]): Promise<Status> {
  const status = snapshot(await detachedParts(), Date.parse(NOW));
  return { ...status, ready: true, bus: { ...status.bus, connected: true }, sinks };
}
