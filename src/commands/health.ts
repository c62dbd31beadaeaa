import type { Command } from 'commander';
import { ask } from '../base/http-client.ts';
import { describe, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { localUrlOf } from './terminal/option-values.ts';
import { print } from './terminal/output.ts';

const TIMEOUT_MS = 5_000;

const PAGE = {
  summary: 'ask the service on this machine whether it is healthy (with --ready: whether it is ready)',
  text: 'For health checks where there is no HTTP client, such as in a container. It asks /healthz, or /readyz with --ready.',
  examples: [['metrics-fanout health', 'prints one line: healthy, or what is wrong']],
  exit: [['0', 'the service is healthy, or ready with --ready'], ['1', 'it is not'], WRONG_SETTINGS],
  environment: settingRows('httpHost', 'httpPort'),
} as const;

export function healthCommand(): Command {
  return describe('health', PAGE)
    .option('--ready', 'ask whether it is ready, which means attached to the bus')
    .action(async (options: { ready?: true }) => {
      // Health checks are frequent: this one reads only the settings it needs, and loads no sink.
      const url = `${localUrlOf(process.env)}/${options.ready ? 'readyz' : 'healthz'}`;
      const failure = await failureOf(url);
      if (failure !== undefined) process.stderr.write(`metrics-fanout: ${url}: ${failure}\n`);
      else await print(`${url}: ${options.ready ? 'ready' : 'healthy'}\n`);
      process.exit(failure === undefined ? 0 : 1);
    });
}

async function failureOf(url: string): Promise<string | undefined> {
  try {
    const { status } = await ask(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return status === 200 ? undefined : `status ${status}`;
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    // If a name has several addresses, the error that combines theirs has no message.
    return message || code;
  }
}
