/** A process that is the honest producer: it publishes what `load` would, and knows what it has sent. */
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { connect } from '../../src/bus/connect.ts';
import { loadConfig } from '../../src/config/config.ts';
import { newProgress, type Progress, publishTraffic } from '../../src/load/sender.ts';
import { type SentSeries, Traffic, type TrafficTotals } from '../../src/load/traffic.ts';

export interface Order {
  readonly subject: string;
  /** Messages a second. */
  readonly rate: number;
  readonly ms: number;
  readonly series: number;
  readonly seed: number;
}

export interface Sent {
  readonly progress: Progress;
  readonly sent: readonly SentSeries[];
  readonly totals: TrafficTotals;
}

const SHAPE = { skew: 1, types: { counter: 8, gauge: 1, timer: 1 }, late: 0.01, ahead: 0 } as const;

const { core } = await loadConfig(process.env);
const bus = await connect(core, createLog('warn'), { name: 'honest producer' });
const windows = { windowMs: core.window, latenessMs: core.lateness, maxAheadMs: core.maxAhead };

async function send({ subject, rate, ms, series, seed }: Order): Promise<Sent> {
  const traffic = new Traffic({ ...SHAPE, series, seed, windows });
  const plan = { subject, rate, maxMs: ms, maxMessages: Number.POSITIVE_INFINITY };
  const progress = newProgress();
  await publishTraffic(traffic, plan, bus, systemClock, progress, new AbortController().signal);
  return { progress, sent: [...traffic.sent()], totals: traffic.totals() };
}

process.on('message', (order: Order) => void send(order).then((sent) => process.send!(sent)));
process.on('disconnect', () => process.exit());
process.send!('ready');
