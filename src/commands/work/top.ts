import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '../../base/log.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { connect } from '../../bus/connect.ts';
import type { Incoming } from '../../bus/message.ts';
import { listen } from '../../bus/subscribe.ts';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import { dimensionOf } from '../../tap/filters.ts';
import { type RateRow, Rates, type Snapshot } from '../../tap/rates.ts';
import { TapDecoder } from '../../tap/tap-decoder.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { brokenInto, renderTable } from '../terminal/table.ts';

interface TopOptions {
  readonly by: string;
  readonly interval: number;
  readonly times?: number;
  readonly json?: true;
}

/** Rows of a table if stdout is not a terminal, and of JSON. */
const PLAIN_ROWS = 40;

const JSON_ROWS = 1000;

/** Lines of the screen that are not rows. */
const FRAME_LINES = 4;

const DEFAULT_COLUMNS = 100;

const REJECTED = '(rejected)';

const ABSENT = '(none)';

export default async function runTop(given: string[], options: TopOptions): Promise<void> {
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  await top(given.length > 0 ? given : config.core.metricsSubjects, options, config);
  process.exit(exitCodeOf(0));
}

async function top(wanted: readonly string[], options: TopOptions, config: Config): Promise<void> {
  const over = new AbortController();
  const stop = AbortSignal.any([stopSignal(), over.signal]);
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout top' });
  const rates = new Rates(performance.now());
  const listening = listen(bus, wanted, counter(options.by, rates, config), stop).finally(() => over.abort());
  // Awaited at the end; until then, a failure must not count as unhandled.
  listening.catch(() => {});
  const display = options.json ? displayJson : process.stdout.isTTY ? new Screen() : displayPlain;
  try {
    for (let look = 0; look < (options.times ?? Infinity); look++) {
      await sleep(options.interval, undefined, { signal: stop }).catch(() => {});
      if (stop.aborted) break;
      const snapshot = rates.take(performance.now());
      const at = new Date().toISOString();
      if (display instanceof Screen) display.show(snapshot, options.by, at);
      else display(snapshot, options.by, at);
    }
  } finally {
    if (display instanceof Screen) display.leave();
  }
  over.abort();
  await listening;
  await bus.close();
  await print('');
}

/** Returns a function that counts a message under its keys. A message's bytes are divided among its samples. */
function counter(by: string, rates: Rates, { core }: Config): (message: Incoming) => void {
  if (by === 'subject') return ({ subject, data }) => rates.add(subject, data.length);
  const decoder = new TapDecoder(core);
  const key = by.replace(/^dimension:/, '');
  return (message) => {
    const { data, encoding } = message;
    const { samples, rejections } = decoder.decode(data, encoding, message);
    const rejected = [...rejections.values()].reduce((sum, count) => sum + count, 0);
    const bytes = data.length / (samples.length + rejected || 1);
    for (const { series, type } of samples) {
      if (by === 'name') rates.add(series.name, bytes);
      else if (by === 'type') rates.add(type, bytes);
      else rates.add(dimensionOf(series, key) || ABSENT, bytes);
    }
    if (rejected > 0) rates.add(REJECTED, bytes, rejected);
  };
}

function displayJson({ seconds, rows, all }: Snapshot, by: string, at: string): void {
  const plain = ({ perSecond, bytesPerSecond, total, totalBytes }: Omit<RateRow, 'key'>) => ({
    per_second: perSecond,
    bytes_per_second: bytesPerSecond,
    total,
    total_bytes: totalBytes,
  });
  const listed = rows.slice(0, JSON_ROWS).map((row) => ({ key: row.key, ...plain(row) }));
  const answer = { at, seconds, by, keys: rows.length, all: plain(all), rows: listed };
  process.stdout.write(`${printableJson(answer)}\n`);
}

function displayPlain(snapshot: Snapshot, by: string, at: string): void {
  process.stdout.write(`${tableOf(snapshot, by, at, PLAIN_ROWS, undefined).join('\n')}\n\n`);
}

function tableOf(
  { rows, all }: Snapshot,
  by: string,
  at: string,
  shown: number,
  width: number | undefined,
): string[] {
  const what = by === 'subject' ? 'messages' : 'samples';
  const head = `${at.slice(11, 19)}Z  ${perSecond(all.perSecond)} ${what}/s  ${perSecond(all.bytesPerSecond)} bytes/s  ${all.total} ${what} in total`;
  const cells = rows
    .slice(0, shown)
    .map((row) => [
      printable(row.key),
      perSecond(row.perSecond),
      perSecond(row.bytesPerSecond),
      String(row.total),
    ]);
  const header = [printable(by), `${what}/s`, 'bytes/s', 'total'];
  const more = rows.length > shown ? [`(${rows.length - shown} more)`] : [];
  return [
    ...(width === undefined ? [head] : brokenInto(head, width)),
    '',
    ...renderTable(header, cells, { width, cutsKeys: true }).split('\n'),
    ...more,
  ];
}

function perSecond(rate: number): string {
  return rate < 10 ? rate.toFixed(1) : Math.round(rate).toString();
}

/** The terminal's alternate screen: redrawn at any size, and closed at the end. Only the last table stays visible. */
class Screen {
  #last: readonly string[] | undefined;

  constructor() {
    process.stdout.write('\x1b[?1049h\x1b[?25l');
  }

  show(snapshot: Snapshot, by: string, at: string): void {
    const { columns = DEFAULT_COLUMNS, rows = PLAIN_ROWS } = process.stdout;
    this.#last = tableOf(snapshot, by, at, Math.max(1, rows - FRAME_LINES), columns);
    // On a narrow screen, the lines may be more.
    const fitting = this.#last.slice(0, rows);
    process.stdout.write(`\x1b[H${fitting.map((line) => `${line}\x1b[K`).join('\n')}\x1b[J`);
  }

  leave(): void {
    process.stdout.write('\x1b[?25h\x1b[?1049l');
    if (this.#last !== undefined) process.stdout.write(`${this.#last.join('\n')}\n`);
  }
}
