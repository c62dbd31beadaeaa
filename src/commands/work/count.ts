import type { Command } from 'commander';
import { SeriesTable } from '../../aggregate/series-table.ts';
import { createLog } from '../../base/log.ts';
import { counted, NO_VALUE } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { connect } from '../../bus/connect.ts';
import { learnSubjects } from '../../bus/kv/checkpoints.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import type { WindowHandler } from '../../deliver/pipeline.ts';
import { lostInWords, notHeldInWords, replays, wholeWindows } from '../../deliver/replay/recompute-range.ts';
import { rejectedInWords, rejectionsExplained } from '../../observe/input-remarks.ts';
import type { WindowRange } from '../../sink/contract.ts';
import { type Filters, hasFilters } from '../../tap/filters.ts';
import { type Group, Tally } from '../../tap/tally.ts';
import { print } from '../terminal/output.ts';
import { showProgress } from '../terminal/progress-bar.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { cutLines, renderTable } from '../terminal/table.ts';

interface CountOptions extends Filters {
  readonly from?: number;
  readonly to?: number;
  readonly by: readonly string[];
  readonly json?: true;
}

const PERCENTILES = ['p50', 'p90', 'p95', 'p99'] as const;
/** Of a percentile, as more cannot be seen at a glance. */
const SHOWN_DIGITS = 4;
/** The least width of the table, in columns. */
const MIN_WIDTH = 60;

export default async function runCount(options: CountOptions, command: Command): Promise<void> {
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  if (config.core.metricsSource === 'core')
    command.error('error: plain NATS (METRICS_SOURCE=core) keeps no messages to count');
  const result = await count(options, config);
  await print(
    options.json ? toJson(result) : toText(result),
    exitCodeOf(result.isComplete && result.matched ? 0 : 1),
  );
  process.exit();
}

interface Result {
  readonly by: readonly string[];
  readonly range: WindowRange;
  readonly messages: number;
  readonly samples: number;
  readonly groups: readonly Group[];
  /** False if there are filters, and nothing matches. */
  readonly matched: boolean;
  readonly remarks: readonly string[];
  readonly isComplete: boolean;
}

async function count(options: CountOptions, config: Config): Promise<Result> {
  const stop = stopSignal();
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout count' });
  const tiling = await pipelineTiling(bus, config);
  await learnSubjects(bus, config.core);
  const range = await wholeWindows(options, config, bus, tiling);
  const tally = new Tally(options.by, options);
  const remarks = new Set(range.lost > 0 ? [lostInWords(range)] : []);
  const state = { boundary: range.from, messages: 0, rejected: undefined as string | undefined };
  const done = new AbortController();
  const open = replays({ ...config, mergesSketches: true }, bus, tiling, SeriesTable.of(tiling), {
    onGap: () => remarks.add('the stream lost messages during the count (retention): some are missing here'),
    onReopened: () => remarks.add("the bus's clock was set back: late samples are missing here"),
    onProgress: (messages, { rejectedMessages, rejectedSamples }) => {
      state.messages = messages;
      const counts = [rejectedMessages, rejectedSamples].map((each) => Object.fromEntries(each));
      const rejected = rejectedInWords(counts[0]!, counts[1]!, 'in this range');
      const explained = rejectionsExplained(counts[0]!, counts[1]!);
      state.rejected = rejected && [rejected, ...explained].join('. ');
    },
  });
  const onWindows: WindowHandler = (windows, boundary) => {
    for (const window of windows) if (window.start < range.to) tally.add(window);
    state.boundary = Math.min(boundary, range.to);
    if (boundary >= range.to) done.abort();
  };
  const endDisplay = showProgress(
    () => (state.boundary - range.from) / (range.to - range.from),
    () => counted(tally.count, 'sample'),
  );
  const { source, reader } = open(range.from, undefined, onWindows);
  await source.run(reader, AbortSignal.any([stop, done.signal])).finally(endDisplay);
  const { leftOut } = source.stats;
  if (leftOut > 0)
    remarks.add(
      `${counted(leftOut, 'message')} in or next to the range ${leftOut === 1 ? 'was' : 'were'} left out: nobody saw the stream store ${leftOut === 1 ? 'its subject' : 'their subjects'}`,
    );
  await bus.close();
  if (state.boundary < range.to)
    remarks.add(`stopped at ${new Date(state.boundary).toISOString()}, before the end`);
  const isComplete = remarks.size === 0;
  if (state.rejected !== undefined) remarks.add(state.rejected);
  if (range.isTruncated) remarks.add(`${notHeldInWords(range.from)}: they are not counted`);
  for (const key of tally.absentKeys()) remarks.add(`no series counted here has the dimension ${key}`);
  if (tally.isFolded) remarks.add('there were too many groups: the rest is counted by name and type');
  if (tally.isCoarse) remarks.add('there were too many timers: percentiles are less exact');
  if (tally.lacksPercentiles)
    remarks.add('percentiles are left out where an earlier version computed the windows');
  return {
    by: options.by,
    range: { from: range.from, to: state.boundary },
    messages: state.messages,
    samples: tally.count,
    groups: tally.groups(),
    matched: tally.count > 0 || !hasFilters(options),
    remarks: [...remarks],
    isComplete,
  };
}

function toJson({ by, range, messages, samples, groups, matched, remarks, isComplete }: Result): string {
  const rows = groups.map(({ name, type, values, count, sum, percentiles }) => ({
    name,
    type,
    dimensions: Object.fromEntries(by.map((key, i) => [key, values[i]])),
    count,
    sum,
    ...Object.fromEntries(PERCENTILES.map((key, i) => [key, percentiles?.[i] ?? null])),
  }));
  const { from, to } = iso(range);
  const sums = { messages, count: samples, matched, groups: rows };
  const answer = { from, to, complete: isComplete, ...sums, remarks };
  return `${printableJson(answer, 2)}\n`;
}

function toText({ by, range, messages, samples, groups, matched, remarks }: Result): string {
  const { from, to } = iso(range);
  const shown = groups.some(({ percentiles }) => percentiles !== undefined) ? PERCENTILES : [];
  const rows = groups.map(({ name, type, values, count, sum, percentiles }) => [
    printable(name),
    type,
    ...values.map((value) => printable(value ?? '(others)')),
    String(count),
    String(sum),
    ...shown.map((_, i) => percentileText(percentiles?.[i])),
  ]);
  const header = ['name', 'type', ...by.map(printable), 'count', 'sum', ...shown];
  const width = cutLines(process.stdout, MIN_WIDTH);
  // Name, type and dimensions.
  const keys = [0, 1, ...by.map((_, i) => 2 + i)];
  const lines = [
    `${from} to ${to}: ${counted(samples, 'sample')} from ${counted(messages, 'message')}`,
    ...(matched ? [] : ['nothing matches']),
    ...(rows.length === 0 ? [] : ['', renderTable(header, rows, { width, keys, cutsKeys: true })]),
    ...remarks.map(printable),
  ];
  return `${lines.join('\n')}\n`;
}

const percentileText = (value: number | undefined) =>
  value === undefined ? NO_VALUE : String(Number(value.toPrecision(SHOWN_DIGITS)));

function iso({ from, to }: WindowRange) {
  return { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
}
