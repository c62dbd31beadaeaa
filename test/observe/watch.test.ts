import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { Meters } from '../../src/observe/meters.ts';
import type { Status } from '../../src/observe/status.ts';
import { Watch } from '../../src/observe/watch.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { type Parts, snapshot } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Opens a page that leaves at once, as far as the watch can see. */
function open(watch: Watch): string {
  const written: string[] = [];
  const response = {
    writeHead() {},
    write: (text: string) => written.push(text),
    on: (_: string, left: () => void) => left(),
  };
  expect(watch.listen(response as unknown as ServerResponse)).toBe(true);
  return written.join('');
}

test('however many pages open, what they get is rendered once between two ticks', async () => {
  const meters = new Meters(['sqlite'], 10_000, 0);
  const scan = new WindowScan();
  const parts: Parts = {
    config: await loadConfig({}),
    instance: 'one',
    startedAt: 0,
    meters,
    scan,
    probes: new Probes({ intervalMs: 0, clock: systemClock, questions: () => scan.subject.questions(0) }),
    paused: new Set(),
    rollbacks: new RollbackLog(),
    totals: new Totals(),
    detached: false,
    control: () => ({ enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 }),
  };
  let made = 0;
  const status = (): Status => {
    made += 1;
    return snapshot(parts, Date.now());
  };
  const watch = new Watch(status, meters, systemClock, ['sqlite'], (error) =>
    expect.unreachable(String(error)),
  );
  const texts = new Set(Array.from({ length: 100 }, () => open(watch)));
  expect([texts.size, made]).toEqual([1, 1]);
  expect([...texts][0]).toContain('event: opening\n');
  vi.advanceTimersByTime(1000);
  const before = made;
  for (let i = 0; i < 100; i++) open(watch);
  expect(made - before).toBe(1);
  watch.stop();
});
