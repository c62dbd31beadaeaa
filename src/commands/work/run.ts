import { createLog } from '../../base/log.ts';
import { endProcess } from '../../base/process-end.ts';
import { loadConfig } from '../../config/config.ts';
import { startService } from '../../service/start.ts';
import { AGAIN, stopSignal } from '../terminal/stop-signal.ts';

export default async function runService(): Promise<void> {
  const config = await loadConfig(process.env);
  const log = createLog(config.core.logLevel);
  for (const warning of config.warnings) log.warn({}, warning);
  const stop = stopSignal((signal) => {
    const again = signal === 'SIGINT' ? `; ${AGAIN}` : '';
    log.info({ signal, deadlineMs: config.core.stopTimeout }, `stopping${again}`);
  });
  const service = await startService(config, log, stop);
  await service.done;
  log.info({}, 'stopped');
  // A store's client may keep its sockets open. Everything is saved by now.
  endProcess(0);
}
