/** OTLP into a real Prometheus 3, if that is the one on the PATH: Debian has 2.42, which takes no deltas. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import otlp from '../../sinks/otlp/sink.ts';
import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { makePoint, WINDOW_MS } from '../conformance/points.ts';
import { endAfterEach, isOnPath, sinkSettings } from './stand-in.ts';

const NEVER = new AbortController().signal;
const WINDOWS = 30;
const SERIES = 50;
const isThere =
  isOnPath('prometheus') &&
  /version (?:[3-9]|\d\d)\./.test(execFileSync('prometheus', ['--version'], { encoding: 'utf8' }));
const title = isThere ? 'Prometheus 3' : 'Prometheus 3 (skipped: the one on the PATH is older)';

describe.skipIf(!isThere)(title, () => {
  const atEnd = endAfterEach();
  const newest = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS;

  async function opened(
    feature: string | undefined,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<{ sink: Sink; total: (query: string) => Promise<number> }> {
    const features = feature === undefined ? [] : [`--enable-feature=${feature}`];
    const server = await startPrometheusReceiver({ flags: ['--web.enable-otlp-receiver', ...features] });
    atEnd(() => server.stop());
    const config = sinkSettings(otlp, { URL: `${server.url}/api/v1/otlp`, ...settings });
    const sink = otlp.create(config, { id: 't', log: { info() {}, warn() {} } });
    atEnd(() => sink.close());
    await sink.open(NEVER);
    const total = async (query: string) => {
      const time = String((newest + WINDOW_MS) / 1000);
      const asked = await fetch(`${server.url}/api/v1/query?${new URLSearchParams({ query, time })}`);
      const { data } = (await asked.json()) as { data: { result: { value: [number, string] }[] } };
      return Number(data.result[0]?.value[1]);
    };
    return { sink, total };
  }

  const windowOf = (age: number) =>
    Array.from({ length: SERIES }, (_, n) =>
      makePoint({
        name: 'http.requests',
        dimensions: [['n', `${n}`]],
        windowStart: newest - age * WINDOW_MS,
        values: { count: 1 + n, sum: 2 },
      }),
    );
  /** Of one window. */
  const COUNT = (SERIES * (SERIES + 1)) / 2;

  async function deliver(sink: Sink): Promise<void> {
    for (let age = WINDOWS - 1; age >= 0; age--) {
      const points = windowOf(age);
      expect(await sink.write({ points }, NEVER)).toEqual({ kind: 'written' });
      // As when the acknowledgement was lost.
      if (age === 7) await sink.write({ points }, NEVER);
    }
  }

  it('takes no deltas by default, and the sink says what to do', async () => {
    const { sink } = await opened(undefined);
    expect(await sink.write({ points: windowOf(0) }, NEVER)).toMatchObject({
      kind: 'refused',
      message: expect.stringMatching(/invalid temporality .*set SUMS=gauge/),
    });
  });

  it('adds deltas up with otlp-deltatocumulative: a batch that comes twice counts once', async () => {
    const { sink, total } = await opened('otlp-deltatocumulative');
    await deliver(sink);
    await expect.poll(() => total('sum({__name__=~"http_requests_count.*"})')).toBe(WINDOWS * COUNT);
  });

  it('keeps deltas with otlp-native-delta-ingestion', async () => {
    const { sink, total } = await opened('otlp-native-delta-ingestion');
    await deliver(sink);
    const range = `[${WINDOWS * 10}s]`;
    const query = `sum(sum_over_time({__name__=~"http_requests_count.*"}${range}))`;
    await expect.poll(() => total(query)).toBe(WINDOWS * COUNT);
  });

  it('takes gauges by default, with SUMS=gauge', async () => {
    const { sink, total } = await opened(undefined, { SUMS: 'gauge' });
    await deliver(sink);
    const query = `sum(sum_over_time({__name__=~"http_requests_count.*"}[${WINDOWS * 10}s]))`;
    await expect.poll(() => total(query)).toBe(WINDOWS * COUNT);
  });
});
