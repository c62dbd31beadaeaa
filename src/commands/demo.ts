import type { Command } from 'commander';
import { describe } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { duration, integer, number } from './terminal/option-values.ts';

const PAGE = {
  summary:
    'start a bus and four stores, send traffic through the service, and compare every store with the truth',
  text: `
It runs only in a clone of the project, as npm run demo, because it starts servers that the package does not include.
Ctrl-C stops sending, and the stores are compared. A second Ctrl-C ends everything at once.`,
  examples: [
    ['npm run demo -- --duration 30s', 'half a minute of traffic'],
    ['npm run demo -- --rate 20000 --series 5000', 'more traffic, until Ctrl-C'],
  ],
  exit: [
    ['0', 'every store holds exactly the truth'],
    ['1', 'one does not, or a server could not be started'],
    ['130', 'stopped before anything was compared, or before --duration was over'],
  ],
} as const;

export function demoCommand(): Command {
  return describe('demo', PAGE)
    .option('--duration <time>', 'stop sending after this time, such as 30s (default: at Ctrl-C)', duration)
    .option('--rate <n>', 'messages a second', number(1, 1e6), 2000)
    .option('--series <n>', 'number of series', integer(3, 1e6), 200)
    .option('--late <share>', 'share of the messages that are late, 0 to 1', number(0, 1), 0.05)
    .action(loaded(() => import('./work/demo.ts')));
}
