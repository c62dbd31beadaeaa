import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { newSourceStats, type Reader, type Source } from '../../src/bus/read/source.ts';
import { wholeMessage } from '../../src/decode/raw-message.ts';
import { findDifferences, readBack } from '../../src/load/stream-check.ts';
import { MAX_TRAFFIC_MESSAGE_BYTES, Traffic } from '../../src/load/traffic.ts';
import { Truth } from '../../src/verify/truth.ts';

const NOW = Date.UTC(2026, 10, 23, 1, 30);
const windows = { windowMs: 10_000, latenessMs: 2_000, maxAheadMs: 1_000 };

function generate(count: number) {
  const types = { counter: 8, gauge: 1, timer: 1 };
  const traffic = new Traffic({ seed: 1, series: 50, skew: 1, types, late: 0.1, ahead: 0.1, windows });
  const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
  const payloads = Array.from({ length: count }, () =>
    Buffer.from(target.subarray(0, traffic.write(target, 0, NOW))),
  );
  return { traffic, payloads };
}

function truthOf(payloads: readonly Uint8Array[]): Truth {
  const truth = new Truth(windows);
  for (const payload of payloads) truth.add(payload, NOW);
  return truth;
}

/** Delivers batches of messages, and says how many are pending after each. */
class FakeSource implements Source {
  readonly stats = { ...newSourceStats(), reading: true };
  readonly #batches: readonly (readonly Uint8Array[])[];

  constructor(batches: readonly (readonly Uint8Array[])[]) {
    this.#batches = batches;
  }

  async run(reader: Reader, signal: AbortSignal): Promise<void> {
    for (const [i, batch] of this.#batches.entries()) {
      for (const payload of batch) reader.message(wholeMessage(payload, NOW));
      this.stats.pending = this.#batches.slice(i + 1).flat().length;
      await reader.progress(NOW);
      if (signal.aborted) return;
    }
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
  }
}

describe('readBack', () => {
  it('ends when all messages have arrived', async () => {
    const { payloads } = generate(100);
    const truth = new Truth(windows);
    await readBack(new FakeSource([payloads.slice(0, 60), payloads.slice(60)]), truth, 100, systemClock);
    expect(truth.messages).toBe(100);
  });

  it('keeps reading while messages are pending: more than were sent is a difference too', async () => {
    const { payloads } = generate(100);
    const truth = new Truth(windows);
    await readBack(new FakeSource([payloads.slice(0, 60), payloads.slice(60)]), truth, 50, systemClock);
    expect(truth.messages).toBe(100);
  });

  it('ends when no more messages arrive', async () => {
    const { payloads } = generate(10);
    const truth = new Truth(windows);
    let ms = 0;
    const clock = {
      ...systemClock,
      now: () => ms,
      async sleep(wait: number) {
        ms += wait;
        await new Promise(setImmediate);
      },
    };
    await readBack(new FakeSource([payloads]), truth, 11, clock);
    expect(truth.messages).toBe(10);
    expect(ms).toBeGreaterThanOrEqual(5_000);
  });
});

describe('findDifferences', () => {
  it('finds none if the stream holds what was sent', () => {
    const { traffic, payloads } = generate(5_000);
    expect(findDifferences(traffic.sent(), truthOf(payloads).totals())).toEqual([]);
  });

  it('finds what is missing, doubled or foreign', () => {
    const { traffic, payloads } = generate(5_000);
    const { name, value } = JSON.parse(payloads[0]!.toString());
    const [missing] = findDifferences(traffic.sent(), truthOf(payloads.slice(1)).totals());
    expect(missing).toMatchObject({ name });
    expect(missing!.sent.count - missing!.held.count).toBe(1);
    expect(missing!.sent.sum - missing!.held.sum).toBeCloseTo(value, 3);

    const [doubled] = findDifferences(traffic.sent(), truthOf([payloads[0]!, ...payloads]).totals());
    expect(doubled!.held.count - doubled!.sent.count).toBe(1);

    const foreign = Buffer.from('{"name":"foreign","type":"counter","value":7}');
    expect(findDifferences(traffic.sent(), truthOf([...payloads, foreign]).totals())).toEqual([
      { name: 'foreign', dimensionsJson: '{}', sent: { count: 0, sum: 0 }, held: { count: 1, sum: 7 } },
    ]);
  });
});
