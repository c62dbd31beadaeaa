import { type Command, InvalidArgumentError, Option } from 'commander';
import { METRIC_TYPES, type MetricType } from '../aggregate/point.ts';
import { BUS, describe, STREAM, settingRows, suggest, WRONG_SETTINGS } from './terminal/help-page.ts';
import { loaded } from './terminal/loaded.ts';
import { duration, integer, number } from './terminal/option-values.ts';

const MAX_LOAD_SERIES = 10_000_000;

const MAX_SKEW = 10;

const DEFAULT_TYPES = 'counter:8,gauge:1,timer:1';

const PAGE = {
  summary: 'publish realistic metrics at a given rate, for a test or a demonstration',
  text: `
At its end it says how many of its messages the stream has not stored, or that this is unknown, because the stream may
not be asked or others publish on the subject. With --truth it reads them back; otherwise the server counts them.

With --acks it publishes as a producer should that must not lose anything: the stream acknowledges each message, at most
256 wait for that at a time, and what is not acknowledged is published again, with the same Nats-Msg-Id.

The same seed sends the same names, dimensions, types, values and timestamps relative to the clock. Without --count or
--duration it runs until Ctrl-C. A second Ctrl-C ends it at once, even while it reads back.

With --truth FILE it reads back from the stream what it sent, and writes what every store must hold for it: JSON lines,
one row per window and series, sorted by window start, then series id:

  {"window_start":<ms since 1970>,"window_ms":<ms>,"series_id":"<32 hex digits>","name":"...","type":"...",
   "dimensions":{...},"count":<samples>,"sum":<added in stream order>,"min":...,"max":...,"last":...}

Only gauges and timers have min and max, and only gauges have last; otherwise they are null. If the service has run as
this PIPELINE, the windows are those of the service; if not, they follow WINDOW, LATENESS and MAX_AHEAD as set here.
Nothing else may publish to the subject meanwhile. In core mode (METRICS_SOURCE=core) no message has a stream time, so
the windows cannot be known. Then there is one row per series with its totals, and window_start and window_ms are null.`,
  examples: [
    ['metrics-fanout load --rate 100', 'a hundred messages a second, until Ctrl-C'],
    ['metrics-fanout load --count 1000000 --rate 0 --series 5000', 'a million, as fast as possible'],
    [
      'metrics-fanout load --duration 30s --late 0.05 --truth truth.jsonl',
      'also writes what every store must hold',
    ],
  ],
  exit: [
    ['0', 'nothing was lost: the stream stored all, or it cannot be asked and the connection stayed up'],
    ['1', 'something is or may be lost, or no stream captures the subject; the report says what'],
    WRONG_SETTINGS,
    ['130', 'ended by Ctrl-C before --count or --duration; without them, Ctrl-C is the end'],
  ],
  environment: [...BUS, ...STREAM, ...settingRows('window', 'lateness', 'maxAhead')],
} as const;

export function loadCommand(): Command {
  return describe('load', PAGE)
    .option('--rate <n>', 'messages a second; 0: as fast as possible', number(0, 1e9), 1_000)
    .addOption(
      new Option('--count <n>', 'stop after this many messages')
        .argParser(integer(1, Number.MAX_SAFE_INTEGER))
        .default(Infinity, 'no limit'),
    )
    .addOption(
      new Option('--duration <time>', 'stop after this time, such as 30s')
        .argParser(duration)
        .default(Infinity, 'no limit'),
    )
    .option('--series <n>', 'number of series', integer(1, MAX_LOAD_SERIES), 1_000)
    .option('--skew <x>', "Zipf exponent of the series' popularity; 0: all the same", number(0, MAX_SKEW), 1)
    .addOption(
      new Option('--types <weights>', 'weights of the types among the samples')
        .argParser(weights)
        .default(weights(DEFAULT_TYPES), DEFAULT_TYPES),
    )
    .option('--late <share>', 'share of samples too late for their window, 0 to 1', number(0, 1), 0.01)
    .option('--ahead <share>', 'share of samples too far ahead of the bus, 0 to 1', number(0, 1), 0)
    .option('--seed <n>', 'determines everything except the clock', integer(0, Number.MAX_SAFE_INTEGER), 1)
    .option('--subject <subject>', 'where to publish', subject, 'metrics.load')
    .addOption(suggest(new Option('--truth <file>', 'write what every store must hold (see below)'), 'file'))
    .option('--acks', 'wait for the acknowledgement of each message (see below)')
    .option('--json', 'print JSON')
    .action(loaded(() => import('./work/load.ts')));
}

function subject(text: string): string {
  if (!/^[^\s.*>]+(\.[^\s.*>]+)*$/.test(text))
    throw new InvalidArgumentError('Expected a subject without wildcards.');
  return text;
}

/** `counter:8,gauge:1`; a type that is not named gets none. */
function weights(text: string): Record<MetricType, number> {
  const parsed = { counter: 0, gauge: 0, timer: 0 };
  for (const part of text.split(',')) {
    const [type, weight] = part.trim().split(':');
    const known = METRIC_TYPES.find((candidate) => candidate === type);
    if (known === undefined)
      throw new InvalidArgumentError('Expected weights such as counter:8,gauge:1,timer:1.');
    parsed[known] = number(0, 1e9)(weight ?? '');
  }
  if (METRIC_TYPES.every((type) => parsed[type] === 0))
    throw new InvalidArgumentError('Expected a weight above 0.');
  return parsed;
}
