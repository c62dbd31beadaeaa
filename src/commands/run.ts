import type { Command } from 'commander';
import { createLog } from '../base/log.ts';
import { loadConfig } from '../config/config.ts';
import { startService } from '../service/start.ts';
import { BUS, describe, SINK_VARIABLES, STREAM, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';

const PAGE = {
  summary: 'read the bus, write every window to every sink that is on (the default command)',
  text: `
It runs until SIGTERM or Ctrl-C: then it stops reading, gives the sinks STOP_TIMEOUT for what is complete, saves the
checkpoints and ends. A second signal ends it at once; nothing is lost by that, it is read again at the next start. It
logs JSON lines on stderr, and serves a dashboard, health and Prometheus metrics at HTTP_PORT.`,
  examples: [
    ['metrics-fanout', 'writes what is on the local bus to ./fanout.db'],
    [
      'SINK_INFLUXDB_ENABLED=true SINK_INFLUXDB_URL=http://influxdb:8086 ... metrics-fanout run',
      'writes to InfluxDB; `metrics-fanout config` shows what the settings come to',
    ],
  ],
  exit: [['0', 'stopped in good order'], ['1', 'it could not go on: the last line says why'], WRONG_SETTINGS],
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
    ),
    ...SINK_VARIABLES,
    ['...', 'and all others that metrics-fanout config shows'],
  ],
} as const;

export function runCommand(): Command {
  return describe('run', PAGE).action(async () => {
    const config = await loadConfig(process.env);
    const log = createLog(config.core.logLevel);
    for (const warning of config.warnings) log.warn({}, warning);
    const stopping = new AbortController();
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        // The second time is meant: no waiting for stores.
        if (stopping.signal.aborted) process.exit(1);
        log.info({ signal, deadlineMs: config.core.stopTimeout }, 'stopping');
        stopping.abort();
      });
    }
    const service = await startService(config, log, stopping.signal);
    await service.done;
    log.info({}, 'stopped');
    // A store's client may hold on to its sockets; everything is saved.
    process.exit(0);
  });
}
