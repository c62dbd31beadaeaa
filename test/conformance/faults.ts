/** What a sink must do when its server or the network fails: say so promptly, and work again afterwards. */
import { describe, expect, it } from 'vitest';
import { RETRY_REASONS, type WriteOutcome } from '../../src/sink/contract.ts';
import type { Direction } from '../faults/proxy.ts';
import { settlesPromptly } from './lifecycle.ts';
import { EVERYTHING, manyPoints, START, WINDOW_MS } from './points.ts';
import { type Bench, PROMPT_MS, type Subject, sinkError } from './subject.ts';

const HANG_MS = 200;
/** Where writes are cut: before the first byte, in the head, in the middle, near the end. */
const CUTS: readonly (readonly [Direction, number])[] = [
  ['request', 0],
  ['request', 100],
  ['request', 2_000],
  ['request', 10_000],
  ['request', 20_000],
  ['response', 0],
  ['response', 1],
  ['response', 20],
];
/** Where a read of 200 points is cut: in the middle, also of a store whose answers are compressed. */
const READ_CUT = 10_000;
const COMPACT_CUT = 4_000;

export function describeFaults(bench: Bench): void {
  const { harness } = bench;
  const points = manyPoints(200);

  /** The same sink object must do everything again. */
  async function expectToRecover(subject: Subject): Promise<void> {
    await bench.proxy().pass();
    // In the same window if the store accepts other values for it; otherwise in the next one.
    const nextWindow = START + WINDOW_MS;
    const { keepsFirst } = harness.differs ?? {};
    const later = manyPoints(200, 5).map((point) =>
      keepsFirst ? { ...point, windowStart: nextWindow } : point,
    );
    await subject.deliver(later);
    const range = keepsFirst ? { ...EVERYTHING, from: nextWindow } : EVERYTHING;
    expect(subject.differences(await subject.read(range), later)).toEqual([]);
  }

  function expectRetry(outcome: WriteOutcome | Error): void {
    // A throw means "unknown": the batch is sent again too.
    if (outcome instanceof Error) return;
    expect(outcome).toMatchObject({ kind: 'retry', reason: expect.toBeOneOf([...RETRY_REASONS]) });
  }

  const orError = (writing: Promise<WriteOutcome>): Promise<WriteOutcome | Error> =>
    writing.catch((error: unknown) => error as Error);

  it.skipIf(!harness.wrongCredentials)('is refused as unauthorized with wrong credentials', async () => {
    const subject = await bench.subject({ change: harness.wrongCredentials! });
    const error = await sinkError(subject.open());
    expect(error.reason).toBe('unauthorized');
    expect(error.advice).not.toBe('');
  });

  it.skipIf(!harness.missing)('is refused as not found if the database is missing', async () => {
    const subject = await bench.subject({ change: harness.missing! });
    const error = await sinkError(subject.open());
    expect(error.reason).toBe('not_found');
    expect(error.advice).not.toBe('');
  });

  describe.skipIf(harness.differs?.embedded)('on the network', () => {
    async function opened(): Promise<Subject> {
      const subject = await bench.subject({ proxied: true });
      await subject.open();
      await subject.deliver(points.slice(0, 20));
      return subject;
    }

    it('says that the connection was refused, and recovers', async () => {
      const subject = await opened();
      await bench.proxy().refuse();
      for (let time = 0; time < 2; time += 1) {
        const writing = subject.write(points);
        await settlesPromptly(writing);
        expect(await writing).toMatchObject({ kind: 'retry', reason: 'connection' });
      }
      await expect(subject.read(EVERYTHING)).rejects.toThrow();
      await expectToRecover(subject);
    });

    it('opens once the server is there', async () => {
      await bench.proxy().refuse();
      const subject = await bench.subject({ proxied: true });
      expect((await sinkError(subject.open())).reason).toBe('connection');
      await bench.proxy().pass();
      await subject.open();
      await expectToRecover(subject);
    });

    it('gives up a write that hangs when its signal is aborted, and recovers', async () => {
      const subject = await opened();
      bench.proxy().hang();
      const writing = subject.write(points, AbortSignal.timeout(HANG_MS));
      await settlesPromptly(writing);
      expectRetry(await orError(writing));
      // What hangs in the network would otherwise arrive after the later values of the same keys.
      bench.proxy().reset();
      await expectToRecover(subject);
    });

    it('gives up an open that hangs when its signal is aborted, and recovers', async () => {
      bench.proxy().hang();
      const subject = await bench.subject({ proxied: true });
      const opening = subject.open(AbortSignal.timeout(HANG_MS));
      await settlesPromptly(opening);
      await expect(opening).rejects.toThrow();
      await bench.proxy().pass();
      await subject.open();
      await expectToRecover(subject);
    });

    it('gives up a read that hangs when its signal is aborted, and recovers', async () => {
      const subject = await opened();
      bench.proxy().hang();
      const reading = subject.read(EVERYTHING, AbortSignal.timeout(HANG_MS));
      await settlesPromptly(reading);
      await expect(reading).rejects.toThrow();
      await expectToRecover(subject);
    });

    it('closes while a write hangs', async () => {
      const subject = await opened();
      bench.proxy().hang();
      const left = new AbortController();
      const writing = orError(subject.write(points, left.signal));
      await settlesPromptly(subject.sink.close());
      left.abort();
      expectRetry(await writing);
    });

    for (const [direction, bytes] of CUTS) {
      it(`survives a cut of the ${direction} after ${bytes} bytes`, async () => {
        const subject = await opened();
        bench.proxy().cut(direction, bytes);
        const outcome = await orError(subject.write(points));
        // Some clients retry by themselves if there is no answer. What they report as written must be there.
        if (!(outcome instanceof Error) && outcome.kind === 'written') {
          await bench.proxy().pass();
          expect(subject.differences(await subject.read(EVERYTHING), points)).toEqual([]);
        } else {
          expectRetry(outcome);
        }
        await expectToRecover(subject);
      });
    }

    it('never ends a read early that is cut: it fails, or reads again', async () => {
      const subject = await opened();
      await subject.deliver(points);
      bench.proxy().cut('response', harness.differs?.compact ? COMPACT_CUT : READ_CUT);
      const rows = await subject.read(EVERYTHING).catch(() => undefined);
      if (rows !== undefined) expect(subject.differences(rows, points)).toEqual([]);
      await expectToRecover(subject);
    });

    it('recovers by itself from connections that died while it was idle', async () => {
      const subject = await opened();
      bench.proxy().reset();
      await new Promise((resolve) => setTimeout(resolve, HANG_MS));
      await expectToRecover(subject);
    });

    it('holds no connection once it is closed', async () => {
      const subject = await opened();
      for await (const _ of subject.sink.read(EVERYTHING, new AbortController().signal)) break;
      await Promise.all([subject.write(points), subject.write(points)]);
      expect(bench.proxy().clients).toBeGreaterThan(0);
      await subject.sink.close();
      await expect.poll(() => bench.proxy().clients, { timeout: PROMPT_MS }).toBe(0);
    });

    it('works over a slow network', async () => {
      bench.proxy().delay(5);
      const subject = await opened();
      await expectToRecover(subject);
    });
  });
}
