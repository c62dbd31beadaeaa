import { expect, test } from 'vitest';
import type { Clock } from '../../../src/base/clock.ts';
import { Breaker } from '../../../src/deliver/lane/breaker.ts';
import { VirtualClock } from '../virtual-clock.ts';

const HOUR_MS = 3_600_000;

test('if the system clock is set back, nobody waits for that long', async () => {
  const time = new VirtualClock();
  let setBack = 0;
  const clock: Clock = {
    now: () => time.now() - setBack,
    steady: () => time.steady(),
    sleep: (ms, signal) => time.sleep(ms, signal),
    random: () => 1,
    nextTurn: () => time.nextTurn(),
  };
  const breaker = new Breaker(clock);
  const { signal } = new AbortController();
  for (let i = 0; i < 8; i++) {
    const entered = breaker.enter(signal);
    await time.pass(60_000);
    breaker.failure(await entered);
  }
  setBack = HOUR_MS;
  let tried = 0;
  const probe = async () => {
    for (; tried < 3; tried++) breaker.failure(await breaker.enter(signal));
    await breaker.enter(signal);
    breaker.success();
  };
  const over = probe();
  await time.pass(10_000);
  // There are still pauses between the attempts.
  expect(tried).toBeLessThan(3);
  await time.pass(120_000);
  expect(tried).toBe(3);
  await over;
  expect(breaker.closed).toBe(true);
});
