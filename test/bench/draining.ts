/** The service, in a process that also measures how long its draining thread stands still. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createLog } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startService } from '../../src/service/start.ts';

/** Delays of the event loop since the last look, in ms, and the memory of the process, in bytes. */
export interface Look {
  readonly longest: number;
  readonly p999: number;
  readonly rss: number;
}

const NANOS_PER_MS = 1e6;

const delays = monitorEventLoopDelay({ resolution: 1 });
const service = await startService(
  await loadConfig(process.env),
  createLog('error'),
  new AbortController().signal,
);
delays.enable();
process.on('message', (question: 'status' | 'look') => {
  if (question === 'status') {
    process.send!(service.status());
    return;
  }
  globalThis.gc?.();
  const look: Look = {
    longest: delays.max / NANOS_PER_MS,
    p999: delays.percentile(99.9) / NANOS_PER_MS,
    rss: process.memoryUsage.rss(),
  };
  delays.reset();
  process.send!(look);
});
process.on('disconnect', () => process.exit());
process.send!('ready');
