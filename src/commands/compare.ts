import { type Command, InvalidArgumentError, Option } from 'commander';
import { describe, settingRows, suggest, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { duration, serviceUrl, timeout } from './terminal/option-values.ts';

const MAX_URLS = 20;

const PAGE = {
  summary: 'show the sinks of a running service side by side, live',
  text: `
It shows rates, the latency of writes and of two queries, storage, estimated cost, and what verification found. It asks
the service over HTTP, and needs no bus.`,
  examples: [
    ['metrics-fanout compare', 'the service on this machine, until Ctrl-C'],
    ['metrics-fanout compare --url http://a:9464 --url http://b:9464 --once', 'two services, once'],
    ['metrics-fanout compare --for 10m --report report.html', 'ten minutes, written to a file with charts'],
  ],
  exit: [
    ['0', 'every service answered'],
    ['1', 'one did not'],
    WRONG_SETTINGS,
    ['130', 'ended by Ctrl-C; with --for, the report covers the time until then'],
  ],
  environment: settingRows('httpHost', 'httpPort'),
} as const;

export function compareCommand(): Command {
  const interval = new Option('--interval <time>', 'time between updates, such as 5s');
  const report = new Option('--report <file>', 'with --for: write an HTML file with the charts of that time');
  return describe('compare', PAGE)
    .option(
      '--url <url>',
      'URL of the service; may be repeated (default: the service of this environment)',
      collectUrls,
    )
    .option('--once', 'print once (the default if the output is not a terminal)')
    .addOption(interval.argParser(timeout).default(1000, '1s'))
    .option('--json', 'print JSON, one line per update')
    .option('--for <time>', 'watch for this long, such as 10m, and then print once', duration)
    .addOption(suggest(report, 'file'))
    .action(loaded(() => import('./work/compare.ts')));
}

function collectUrls(text: string, before: readonly string[] = []): string[] {
  const url = serviceUrl(text);
  if (before.length === MAX_URLS) throw new InvalidArgumentError(`Expected at most ${MAX_URLS} URLs.`);
  return [...before, url];
}
