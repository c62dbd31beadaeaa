import { type Command, Option } from 'commander';
import {
  BUS,
  describe,
  INTERRUPTED,
  SINK_KINDS,
  SINK_VARIABLES,
  STREAM,
  suggest,
  WRONG_SETTINGS,
} from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { collect, TIME_FORMS, time } from './terminal/option-values.ts';

const PAGE = {
  summary: 'recompute windows from the stream and compare every store with them, row by row',
  text: `
It recomputes windows from the stream and compares them, row by row and to the last bit, with what each store holds. It judges only windows that are complete, that the stream still holds in full, and that the sink has confirmed.
Without --from, it says how many earlier windows the stream no longer holds: these do not change the exit code.
A window is equal, different, not owed (rows are absent that the store need not have), or unknown (the stream lost some of its messages, or the store cannot be read).

It only reads, and the service may keep running. It need not run next to the instance that fills the store: PIPELINE
and the id of the sink determine whose checkpoint counts. For every 200,000 points, it queries each store once for the rows of those windows; DynamoDB scans its whole table for that.`,
  examples: [
    ['metrics-fanout verify', 'everything that the sinks have confirmed and the stream still holds'],
    ['metrics-fanout verify --sink redshift --from 2026-11-23T01:00:00Z', 'one sink, from a given time'],
  ],
  exit: [
    ['0', 'windows of every sink were judged, and all of them are equal'],
    ['1', 'some differ or could not be judged, no series matches --name, or the bus cannot be reached'],
    WRONG_SETTINGS,
    INTERRUPTED,
  ],
  environment: [...BUS, ...STREAM, ...SINK_VARIABLES],
} as const;

export function verifyCommand(): Command {
  const sink = new Option('--sink <id>', 'only this sink; may be repeated (default: all enabled sinks)');
  return describe('verify', PAGE)
    .addOption(suggest(sink, SINK_KINDS).argParser(collect).default([]))
    .option(
      '--from <time>',
      `${TIME_FORMS}; the window of this time is the first (default: where the sink began)`,
      time,
    )
    .option('--to <time>', 'the window of this time is excluded (default: all confirmed windows)', time)
    .option('--name <glob>', 'only series whose name matches the glob, such as http.*')
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/verify.ts')));
}
