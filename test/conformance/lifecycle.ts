/** What every sink must do, whether or not it keeps anything. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { makePoint, manyPoints } from './points.ts';
import { type Bench, PROMPT_MS, type Subject } from './subject.ts';

/** Fails unless `settling` settles by itself. It may resolve or reject. */
export async function settlesPromptly(settling: Promise<unknown>): Promise<void> {
  const waited = new AbortController();
  const late = sleep(PROMPT_MS, 'late', waited);
  const outcome = await Promise.race([
    late,
    settling.then(
      () => 'settled',
      () => 'settled',
    ),
  ]);
  waited.abort();
  await late.catch(() => {});
  expect(outcome).toBe('settled');
}

async function expectToWork(subject: Subject): Promise<void> {
  await subject.open();
  expect(await subject.write([makePoint()])).toEqual({ kind: 'written' });
}

export function describeLifecycle(bench: Bench): void {
  describe('lifecycle', () => {
    it('opens, writes and closes', async () => {
      const subject = await bench.subject();
      await expectToWork(subject);
      await subject.sink.close();
    });

    it('closes twice, and without open', async () => {
      const subject = await bench.subject();
      await subject.sink.close();
      await subject.sink.close();
      const opened = await bench.subject();
      await opened.open();
      await Promise.all([opened.sink.close(), opened.sink.close()]);
      await opened.sink.close();
    });

    it('opens twice, one after the other or at once', async () => {
      const subject = await bench.subject();
      await subject.open();
      await subject.open();
      await Promise.all([subject.open(), subject.open()]);
      await expectToWork(subject);
    });

    it('lets many sinks open a fresh namespace at once', async () => {
      const namespace = bench.namespace();
      const subjects = await Promise.all([1, 2, 3, 4].map(() => bench.subject({ namespace })));
      await Promise.all(subjects.map((subject) => subject.open()));
      for (const subject of subjects) await expectToWork(subject);
    });

    it('opens again after close', async () => {
      const subject = await bench.subject();
      await expectToWork(subject);
      await subject.sink.close();
      await expectToWork(subject);
    });

    it('does not hang if it is used without open or after close', async () => {
      const subject = await bench.subject();
      await settlesPromptly(subject.write([makePoint()]));
      await expectToWork(subject);
      await subject.sink.close();
      await settlesPromptly(subject.write([makePoint()]));
    });

    it('accepts a batch without points', async () => {
      const subject = await bench.subject();
      await subject.open();
      expect(await subject.write([])).toEqual({ kind: 'written' });
      await subject.remove([]);
    });

    it('settles promptly if the signal is already aborted, and works afterwards', async () => {
      const subject = await bench.subject();
      const aborted = AbortSignal.abort();
      await settlesPromptly(subject.open(aborted));
      await subject.open();
      await settlesPromptly(subject.write([makePoint()], aborted));
      await settlesPromptly(subject.read({ from: 0, to: 1 }, aborted));
      await expectToWork(subject);
    });

    it('settles promptly if the signal is aborted while it writes, and works afterwards', async () => {
      const subject = await bench.subject();
      await subject.open();
      const points = manyPoints(subject.limits.maxPoints);
      for (const afterMs of [0, 1, 5, 20]) {
        const controller = new AbortController();
        const writing = subject.write(points, controller.signal);
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        controller.abort();
        await settlesPromptly(writing);
      }
      await expectToWork(subject);
    });
  });
}
