import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { amount, counted } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { comparisonOf, notesOf, type SinkComparison } from '../../observe/comparison.ts';
import { hear, type ServiceAnswer } from '../../observe/other-services.ts';
import { MAX_SAMPLES, Recording } from '../../observe/report.ts';
import { type Tone, troubleText } from '../../observe/sink-card.ts';
import { briefHeadline, viewOf } from '../../observe/view.ts';
import { localUrlOf } from '../terminal/option-values.ts';
import { print } from '../terminal/output.ts';
import { checkReportFile, writeReport } from '../terminal/report-file.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { type Cell, cutLines, renderTable } from '../terminal/table.ts';

interface CompareOptions {
  readonly url: readonly string[];
  readonly once?: true;
  readonly json?: true;
  /** Milliseconds. */
  readonly interval: number;
  readonly for?: number;
  readonly report?: string;
}

type GivenOptions = Omit<CompareOptions, 'url'> & Partial<Pick<CompareOptions, 'url'>>;

const BAR_CHARACTERS = 30;

const ALTERNATE_SCREEN = '\x1b[?1049h\x1b[?25l';

const NORMAL_SCREEN = '\x1b[?25h\x1b[?1049l';

export default async function runCompare(
  { url = [], ...options }: GivenOptions,
  command: Command,
): Promise<void> {
  if (options.report !== undefined && options.for === undefined)
    command.error('error: --report needs --for, such as --for 10m');
  if (options.report !== undefined && url.length > 1)
    command.error('error: a report covers one service: give one --url');
  checkReportFile(options.report, command);
  const asked = url.length > 0 ? url : [localUrlOf(process.env)];
  process.exit(exitCodeOf(await compare({ ...options, url: asked }, stopSignal())));
}

async function compare(options: CompareOptions, stop: AbortSignal): Promise<number> {
  if (options.for !== undefined) return await compareFor(options, options.for, stop);
  const isLive = !options.once && process.stdout.isTTY;
  if (isLive && !options.json) return await showLive(options, stop);
  for (;;) {
    const heard = await look(options, stop);
    await print(textOf(heard, options), exitCode(heard));
    if (!isLive || stop.aborted) return exitCode(heard);
    await pause(options.interval, stop);
  }
}

const look = ({ url }: CompareOptions, stop: AbortSignal): Promise<ServiceAnswer[]> =>
  Promise.all(url.map((each) => hear(each, stop)));

const exitCode = (heard: readonly ServiceAnswer[]): number =>
  heard.every(({ kind }) => kind === 'status') ? 0 : 1;

async function pause(ms: number, stop: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal: stop }).catch(() => {});
}

function textOf(heard: readonly ServiceAnswer[], { json }: CompareOptions): string {
  return `${json ? printableJson(asJson(heard)) : heardText(heard)}\n`;
}

/** Shows updates on the terminal's alternate screen, and prints the last one to the normal screen at the end. */
async function showLive(options: CompareOptions, stop: AbortSignal): Promise<number> {
  let heard: ServiceAnswer[] = [];
  process.stdout.write(ALTERNATE_SCREEN);
  try {
    while (!stop.aborted) {
      const now = await look(options, stop);
      if (stop.aborted) break;
      heard = now;
      const lines = heardText(heard)
        .split('\n')
        .slice(0, process.stdout.rows - 1);
      process.stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
      await pause(options.interval, stop);
    }
  } finally {
    process.stdout.write(NORMAL_SCREEN);
  }
  if (heard.length > 0) await print(textOf(heard, options), exitCode(heard));
  return exitCode(heard);
}

/** Watches for `forMs`. If it is cut short, it still writes the report, from what there is. */
async function compareFor(options: CompareOptions, forMs: number, stop: AbortSignal): Promise<number> {
  const stepMs = Math.max(options.interval, Math.ceil(forMs / (MAX_SAMPLES - 1)));
  const started = performance.now();
  let recording: Recording | undefined;
  let heard: ServiceAnswer[] = [];
  let missed = 0;
  for (;;) {
    const now = await look(options, stop);
    if (!stop.aborted || heard.length === 0) heard = now;
    const [first] = now;
    if (first?.kind === 'status') {
      if (recording === undefined) recording = new Recording(first.url, first.status);
      else recording.add(first.status);
    } else if (!stop.aborted) missed += 1;
    const leftMs = forMs - (performance.now() - started);
    if (leftMs <= 0 || stop.aborted) break;
    progress(1 - leftMs / forMs, leftMs, missed);
    await pause(Math.min(stepMs, leftMs), stop);
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const isWritten =
    options.report === undefined || recording === undefined || writeReport(options.report, recording.html());
  const code = isWritten ? exitCode(heard) : 1;
  await print(textOf(heard, options), code);
  if (missed > 0) process.stderr.write(`The service did not answer ${counted(missed, 'time')}.\n`);
  return code;
}

function progress(share: number, leftMs: number, missed: number): void {
  if (!process.stderr.isTTY) return;
  const bar = '#'.repeat(Math.round(share * BAR_CHARACTERS)).padEnd(BAR_CHARACTERS, '.');
  const trouble = missed > 0 ? `, ${missed} without an answer` : '';
  process.stderr.write(`\r[${bar}] ${Math.ceil(leftMs / 1000)} s left${trouble}\x1b[K`);
}

function asJson(heard: readonly ServiceAnswer[]): object {
  const services = heard.map((one) =>
    one.kind === 'silent'
      ? { url: one.url, error: one.reason }
      : { url: one.url, at: one.status.now, messages: one.status.messages, sinks: one.status.sinks },
  );
  return { services };
}

const COLOURS: Readonly<Record<Tone, 'green' | 'yellow' | 'red' | undefined>> = {
  good: 'green',
  warn: 'yellow',
  bad: 'red',
  plain: undefined,
};

function heardText(heard: readonly ServiceAnswer[]): string {
  const width = cutLines(process.stdout);
  const heads = heard.map((one) => {
    if (one.kind === 'silent') return `${one.url}: ${printable(one.reason)}. Is the service running there?`;
    const { perSecond } = one.status.messages;
    return `${one.url}: ${printable(briefHeadline(one.status))} ${amount(perSecond)} messages/s.`;
  });
  const troubles = heard.flatMap((one) =>
    one.kind === 'status' ? one.status.sinks.map((sink) => printable(troubleText(sink, one.status))) : [],
  );
  const tables = fit(sideBySide(heard), width);
  const notes = heard.flatMap((one) =>
    one.kind === 'status' ? [viewOf(one.status).proof.text, ...notesOf(one.status)].map(printable) : [],
  );
  const lines = (texts: readonly string[]) => texts.flatMap((text) => wrap(text, width)).join('\n');
  return [lines(heads), lines(troubles.filter((text) => text !== '')), ...tables, lines(notes)]
    .filter((text) => text !== '')
    .join('\n\n');
}

/** Wraps between words. A word that is longer than a line is left to the terminal. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(lines.length === 0 ? word : `  ${word}`);
  }
  return lines;
}

/** Combines the sinks of all services. With several services, the address of its service follows the id of a sink. */
function sideBySide(heard: readonly ServiceAnswer[]): SinkComparison {
  const some = heard.flatMap((one) => (one.kind === 'status' ? [one] : []));
  const { rows } = comparisonOf(...some.map(({ status }) => status));
  const sinks = some.flatMap(({ url, status }) =>
    status.sinks.map(({ id }) => (heard.length === 1 ? id : `${id}@${new URL(url).host}`)),
  );
  return { sinks, rows };
}

/** Renders as few tables as fit the width of the terminal. */
function fit({ sinks, rows }: SinkComparison, width: number): string[] {
  const tables: string[] = [];
  for (let from = 0; from < sinks.length; ) {
    let to = from + 1;
    let table = render(from, to);
    for (
      let wider = render(from, to + 1);
      to < sinks.length && widthOf(wider) <= width;
      wider = render(from, to + 1)
    ) {
      table = wider;
      to += 1;
    }
    tables.push(table);
    from = to;
  }
  return tables;

  function render(from: number, to: number): string {
    const body = rows.map(({ what, cells }): Cell[] => [
      what,
      ...cells.slice(from, to).map(({ text, tone, best, factor }) => {
        const colour = best ? 'green' : COLOURS[tone];
        const shown = printable(factor === undefined ? text : `${text} (${factor})`);
        return colour === undefined ? shown : { text: shown, colour };
      }),
    ]);
    return renderTable(['', ...sinks.slice(from, to).map(printable)], body, {
      width: Number.POSITIVE_INFINITY,
    });
  }
}

function widthOf(table: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
  return Math.max(...table.split('\n').map((line) => line.replace(/\x1b\[\d+m/g, '').length));
}
