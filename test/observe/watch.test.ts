import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Heartbeat } from '../../src/base/heartbeat.ts';
import { loadConfig } from '../../src/config/config.ts';
import { RollbackLog } from '../../src/deliver/rollback.ts';
import { Meters } from '../../src/observe/meters.ts';
import type { Status } from '../../src/observe/status.ts';
import { Watch } from '../../src/observe/watch.ts';
import { Probes } from '../../src/probe/probes.ts';
import { WindowScan } from '../../src/probe/window-scan.ts';
import { Folds } from '../../src/recent/folds.ts';
import { type Parts, readingOf, snapshot } from '../../src/service/snapshot.ts';
import { Totals } from '../../src/service/totals.ts';

const NS_PER_MS = 1_000_000n;

let made: number;
let isBroken: boolean;
let failures: unknown[];
let heartbeat: Heartbeat;
let now: bigint;
let watch: Watch;

beforeEach(async () => {
  vi.useFakeTimers();
  [made, isBroken, failures, now] = [0, false, [], 0n];
  const meters = new Meters(['sqlite'], 10_000, 0);
  const scan = new WindowScan();
  const parts: Parts = {
    config: await loadConfig({}),
    instance: 'one',
    startedAt: 0,
    meters,
    scan,
    probes: new Probes({
      intervalMs: 0,
      clock: systemClock,
      questions: () => scan.subject.questions(0),
      answered() {},
    }),
    recent: undefined,
    paused: new Set(),
    rollbacks: new RollbackLog(),
    totals: new Totals(),
    folds: new Folds(),
    detached: false,
    control: () => ({ enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 }),
  };
  const status = (): Status => {
    made += 1;
    if (isBroken) throw new Error('a sink of somebody else');
    return snapshot(parts, Date.now());
  };
  const reading = () => {
    if (isBroken) throw new Error('a sink of somebody else');
    return readingOf(parts, Date.now());
  };
  heartbeat = new Heartbeat(undefined, () => now);
  const failed = (error: unknown) => failures.push(error);
  const sinks = ['sqlite'];
  watch = new Watch({ status, reading, meters, clock: systemClock, sinks, heartbeat, failed });
});
afterEach(() => {
  watch.stop();
  vi.useRealTimers();
});

test('however many pages open, what they get is rendered once between two ticks', () => {
  const openings = Array.from({ length: 100 }, () => watch.opening());
  // The very same bytes: they are copied to the HTTP thread once.
  expect([new Set(openings).size, made]).toEqual([1, 1]);
  expect(String(openings[0])).toContain('event: opening\n');
  vi.advanceTimersByTime(1000);
  const before = made;
  for (let i = 0; i < 100; i++) watch.opening();
  expect(made - before).toBe(1);
  expect(failures).toEqual([]);
});

test('events are rendered only while somebody is subscribed, once for all', () => {
  vi.advanceTimersByTime(1000);
  const unheard = made;
  const heard: string[][] = [[], []];
  const leave = heard.map((events) => watch.subscribe((event) => events.push(event)));
  vi.advanceTimersByTime(1000);
  expect(made - unheard).toBe(unheard + 1);
  expect(heard[0]).toEqual([expect.stringMatching(/^event: view\ndata: \{.*\}\n\n$/)]);
  expect(heard[1]).toEqual(heard[0]);
  for (const end of leave) end();
  const before = made;
  vi.advanceTimersByTime(1000);
  expect([made - before, heard[0]!.length]).toEqual([unheard, 1]);
  expect(failures).toEqual([]);
});

test('while nobody looks, a status is made for each value of the charts and no more', () => {
  vi.advanceTimersByTime(60_000);
  expect([made, failures]).toEqual([6, []]);
});

test('the heart beats once a second, even if the status cannot be made', () => {
  heartbeat.beat();
  now += 5_000n * NS_PER_MS;
  expect(heartbeat.silentMs).toBe(5_000);
  vi.advanceTimersByTime(1000);
  expect(heartbeat.silentMs).toBe(0);
  isBroken = true;
  now += 5_000n * NS_PER_MS;
  vi.advanceTimersByTime(1000);
  expect([heartbeat.silentMs, failures.length]).toEqual([0, 1]);
});
