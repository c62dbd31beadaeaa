import type { Config } from './config.ts';

/** What the process takes beside the series, and what each sink adds, in bytes. From docs/sizing.md, as the chart's. */
const PROCESS_BYTES = 125e6;
const SINK_BYTES = 45e6;
/**
 * How many times MAX_SERIES_BYTES the process takes when everything is hostile: the windows of the live path and of
 * replays, those that the lanes hold, and what has not been freed yet. Measured, with two sinks that both catch up.
 */
const BUDGETS = 14;

/** Returns how much memory the service may need with these settings, in bytes. */
export function memoryNeeded({ core, sinks }: Pick<Config, 'core' | 'sinks'>): number {
  return PROCESS_BYTES + sinks.length * SINK_BYTES + BUDGETS * core.maxSeriesBytes + core.recentBytes;
}
