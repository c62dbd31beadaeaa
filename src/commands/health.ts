import type { Command } from 'commander';
import { describe, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';

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
    .action(loaded(() => import('./work/health.ts')));
}
