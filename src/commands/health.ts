import type { Command } from 'commander';
import { ask } from '../base/http-client.ts';
import { describe, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { localUrlOf } from './terminal/option-values.ts';

const TIMEOUT_MS = 5_000;

const PAGE = {
  summary: 'ask the service of this machine whether it works, or is ready',
  text: 'For health checks where there is no HTTP client, such as in a container. It asks /healthz, or /readyz with --ready.',
  examples: [['metrics-fanout health', 'says nothing where all is well']],
  exit: [['0', 'the service works, or is ready'], ['1', 'it does not, or is not'], WRONG_SETTINGS],
  environment: settingRows('httpHost', 'httpPort'),
} as const;

export function healthCommand(): Command {
  return describe('health', PAGE)
    .option('--ready', 'whether it is attached to the bus as well')
    .action(async (options: { ready?: true }) => {
      // A check comes often: of all settings it reads these alone, and loads no sink.
      const url = `${localUrlOf(process.env)}/${options.ready ? 'readyz' : 'healthz'}`;
      const failure = await failureOf(url);
      if (failure !== undefined) process.stderr.write(`metrics-fanout: ${url}: ${failure}\n`);
      process.exit(failure === undefined ? 0 : 1);
    });
}

async function failureOf(url: string): Promise<string | undefined> {
  try {
    const { status } = await ask(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return status === 200 ? undefined : `status ${status}`;
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    // Where a name has several addresses, the error of all of them has no message.
    return message || code;
  }
}
