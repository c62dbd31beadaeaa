import type { Command } from 'commander';
import { BUS, describe, SINK_VARIABLES, STREAM, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';

const PAGE = {
  summary: 'read the bus and write every window to every enabled sink (the default command)',
  text: `
It runs until SIGTERM or Ctrl-C. Then it stops reading, gives the sinks up to STOP_TIMEOUT to write what is complete,
saves the checkpoints and exits. A second Ctrl-C ends it at once. Nothing is lost: the next start reads it again. It
logs to stderr, as text on a terminal and as JSON lines elsewhere, and serves a dashboard, health checks and Prometheus metrics on HTTP_PORT.`,
  examples: [
    ['metrics-fanout', 'reads the local bus and writes to ./fanout.db'],
    [
      'SINK_INFLUXDB_ENABLED=true SINK_INFLUXDB_URL=http://influxdb:8086 ... metrics-fanout run',
      'writes to InfluxDB; `metrics-fanout config` shows the resolved settings',
    ],
  ],
  exit: [
    ['0', 'stopped cleanly'],
    ['1', 'it could not continue; the last line says why'],
    WRONG_SETTINGS,
    ['130', 'ended at once by a second Ctrl-C (143: by a second SIGTERM)'],
  ],
  environment: [
    ...BUS,
    ...STREAM,
    ...settingRows(
      'metricsStart',
      'window',
      'lateness',
      'slice',
      'httpHost',
      'httpPort',
      'stopTimeout',
      'logLevel',
      'logFormat',
    ),
    ...SINK_VARIABLES,
    ['...', 'and all other variables that metrics-fanout config shows'],
  ],
} as const;

export function runCommand(): Command {
  return describe('run', PAGE).action(loaded(() => import('./work/run.ts')));
}
