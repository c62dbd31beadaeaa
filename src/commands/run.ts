import { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { createLog } from '../observe/log.ts';
import { startService } from '../service.ts';

export function runCommand(): Command {
  return new Command('run')
    .description('read the bus, write every window to every sink that is on (the default command)')
    .argument('[nothing]')
    .action(async (unknown: string | undefined, _options: object, command: Command) => {
      // As the default command it gets whatever is no command.
      if (unknown !== undefined)
        command.error(`error: unknown command '${unknown}'; --help lists what there is`);
      const config = await loadConfig(process.env);
      const log = createLog(config.core.logLevel);
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
