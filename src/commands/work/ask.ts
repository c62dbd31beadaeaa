import type { Command } from 'commander';
import { amount, counted, seconds as duration, NO_VALUE } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import type { Reply } from '../../control/client.ts';
import { type InstanceAnswer, type MergedAnswer, rangesInWords, together } from '../../recent/merge.ts';
import type { AnswerGroup, RecentAnswer, Sum } from '../../recent/question.ts';
import type { DimensionFilter } from '../../tap/filters.ts';
import { otherBuses, otherBusTexts } from '../ctl-report.ts';
import { print, warn } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { cutLines, renderTable } from '../terminal/table.ts';
import { type Addressed, askInstances } from './instances.ts';

interface AskOptions extends Addressed {
  readonly where: readonly DimensionFilter[];
  readonly by: readonly string[];
  readonly last?: number;
  readonly from?: number;
  readonly to?: number;
  readonly limit: number;
  readonly json?: true;
}

/** The least width of the table, in columns. */
const MIN_WIDTH = 60;
/** Behind by more than this, in seconds, is more than a window that is still open. */
const BEHIND_SECONDS = 120;

export default async function runAsk(
  name: string | undefined,
  options: AskOptions,
  command: Command,
): Promise<void> {
  if (options.last !== undefined && options.from !== undefined)
    command.error('error: give --last or --from, not both');
  stopSignal();
  const answer = await askAbout(name, options);
  if (answer === undefined) {
    process.exitCode = 1;
    process.exit();
  }
  const { replies, merged } = answer;
  const text = options.json ? toJson(merged, replies, options) : toText(merged, options);
  await print(text, exitCodeOf(merged.complete ? 0 : 1));
  process.exit();
}

interface Answered {
  readonly replies: readonly Reply[];
  readonly merged: MergedAnswer;
}

/** Asks everybody, then those whose windows count for these. Undefined if nobody has an answer. */
async function askAbout(name: string | undefined, options: AskOptions): Promise<Answered | undefined> {
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  const question = fieldsOf(name, options);
  const asking = { operation: 'query', unaddressed: 'all' } as const;
  const { way, replies } = await askInstances({ ...asking, request: question }, options, config);
  const first = answersOf(replies);
  const silent = refusalsOf(replies);
  warn([...silent, ...otherBusTexts(replies)]);
  if (first.length === 0) return undefined;
  const merged = await together(first, silent, async ({ instance, only }, range) => {
    const reply = replies.find((one) => one.instance === instance)!;
    const { last: _, ...rest } = question;
    const request = { ...rest, ...range, sketches: true, ...(only && { ranges: rangesInWords(only) }) };
    return answersOf(await way(reply).ask(instance, 'query', request))[0];
  });
  return { replies, merged: { ...merged, remarks: [...merged.remarks, ...absentKeys(merged, options)] } };
}

/** A misspelled dimension must not pass for one that is empty. */
function absentKeys({ groups }: MergedAnswer, { by }: AskOptions): string[] {
  if (groups.length === 0) return [];
  return by
    .filter((key) => groups.every(({ dimensions }) => (dimensions[key] ?? '') === ''))
    .map((key) => `no series of these groups has the dimension ${key}`);
}

function fieldsOf(name: string | undefined, { where, by, last, from, to }: AskOptions) {
  return {
    ...(name !== undefined && { name }),
    where: where.map(({ key, glob }) => `${key}=${glob}`),
    by,
    ...(last !== undefined && { last: `${last}ms` }),
    ...(from !== undefined && { from: new Date(from).toISOString() }),
    ...(to !== undefined && { to: new Date(to).toISOString() }),
  };
}

function answersOf(replies: readonly Reply[]): InstanceAnswer[] {
  return replies.flatMap(({ instance, body }) =>
    body?.ok ? [{ instance, answer: body.result as RecentAnswer }] : [],
  );
}

function refusalsOf(replies: readonly Reply[]): string[] {
  return replies.flatMap(({ instance, body }) => {
    if (body === undefined) return [`${instance} did not answer in time`];
    return body.ok ? [] : [printable(`${instance}: ${body.error.message}`)];
  });
}

function toJson(
  { groups, ...answer }: MergedAnswer,
  replies: readonly Reply[],
  { limit }: AskOptions,
): string {
  const hidden = Math.max(0, groups.length - limit);
  return `${printableJson({ ...answer, groups: groups.slice(0, limit), hidden, ...otherBuses(replies) }, 2)}\n`;
}

function toText(answer: MergedAnswer, { by, limit }: AskOptions): string {
  const { from, to, windows, seconds, groups, others, remarks, complete, behindSeconds, since } = answer;
  const hasLimits = groups.some(({ type }) => type !== 'counter');
  const hasPercentiles = groups.some(({ type }) => type === 'timer');
  const header = [
    'name',
    'type',
    ...by.map(printable),
    'count',
    'count/s',
    'sum',
    'sum/s',
    ...(hasLimits ? ['min', 'max'] : []),
    ...(hasPercentiles ? ['p50', 'p90', 'p95', 'p99'] : []),
  ];
  const rows = groups.slice(0, limit).map((group) => rowOf(group, by, hasLimits, hasPercentiles));
  const width = cutLines(process.stdout, MIN_WIDTH);
  // Name, type and dimensions.
  const keys = [0, 1, ...by.map((_, i) => 2 + i)];
  const hidden = groups.length - rows.length;
  const lines = [
    `${from} to ${to}: ${counted(windows, 'window')}, ${amount(seconds)} s, ${complete ? 'complete' : 'NOT COMPLETE'}`,
    ...(rows.length === 0
      ? ['nothing matches']
      : ['', renderTable(header, rows, { width, keys, cutsKeys: true }), '']),
    ...(hidden > 0
      ? [`${counted(hidden, 'smaller group is', 'smaller groups are')} not shown (--limit)`]
      : []),
    ...others.map(
      (other) =>
        `${counted(other.groups, `more ${other.type} group`)}: count ${other.count}, sum ${shortened(other.sum)}`,
    ),
    ...remarks.map(printable),
    ...(since === null ? [] : [`windows are kept since ${since}`]),
    ...(behindSeconds > BEHIND_SECONDS
      ? [`the newest closed window ended ${duration(behindSeconds)} ago`]
      : []),
  ];
  return `${lines.join('\n')}\n`;
}

function rowOf(
  group: AnswerGroup,
  by: readonly string[],
  hasLimits: boolean,
  hasPercentiles: boolean,
): string[] {
  const { name, type, dimensions, count, sum, countPerSecond, sumPerSecond } = group;
  const cell = (value: Sum | null) => (value === null ? NO_VALUE : shortened(value));
  return [
    printable(name),
    type,
    ...by.map((key) => printable(dimensions[key] ?? '')),
    String(count),
    shortened(countPerSecond),
    String(sum),
    type === 'counter' ? shortened(sumPerSecond) : NO_VALUE,
    ...(hasLimits ? [cell(group.min), cell(group.max)] : []),
    ...(hasPercentiles ? [cell(group.p50), cell(group.p90), cell(group.p95), cell(group.p99)] : []),
  ];
}

/** Four digits, as more cannot be seen at a glance. */
function shortened(value: Sum): string {
  return String(Number(Number(value).toPrecision(4)));
}
