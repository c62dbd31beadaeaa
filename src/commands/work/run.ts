import { createLog, isForPeople, type Log } from '../../base/log.ts';
import { LOG_FORMATS, type LogFormat } from '../../base/log-line.ts';
import { endProcess } from '../../base/process-end.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import { beginService } from '../../service/beginning.ts';
import { failureOf } from '../terminal/failure.ts';
import { AGAIN, stopSignal } from '../terminal/stop-signal.ts';

export default async function runService(): Promise<void> {
  try {
    const config = await loadConfig(process.env);
    await run(config, createLog(config.core.logLevel, config.core.logFormat));
  } catch (error) {
    const format = formatOf(process.env);
    // For people, main prints it.
    if (isForPeople(format)) throw error;
    const { message, fields, code } = failureOf(error);
    createLog('error', format).error(fields, message);
    endProcess(code);
  }
  // A store's client may keep its sockets open. Everything is saved by now.
  endProcess(0);
}

async function run(config: Config, log: Log): Promise<void> {
  for (const warning of config.warnings) log.warn({}, warning);
  const stop = stopSignal((signal) => {
    const again = signal === 'SIGINT' ? `; ${AGAIN}` : '';
    log.info({ signal, deadlineMs: config.core.stopTimeout }, `stopping${again}`);
  });
  const begun = beginService(config);
  const { startService } = await import('../../service/start.ts');
  const service = await startService(config, log, stop, begun);
  await service.done;
  log.info({}, 'stopped');
}

/** Of the environment, which may be wrong. */
function formatOf({ LOG_FORMAT: given }: NodeJS.ProcessEnv): LogFormat {
  return LOG_FORMATS.find((format) => format === given) ?? 'auto';
}
