import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { compareSinks, isEqual, readTruthFile } from '../compare/compare.ts';
import type { TruthRow } from '../compare/truth.ts';
import { loadConfig } from '../config.ts';
import type { Status } from '../observe/status.ts';
import { type Program, startProgram } from '../servers/program.ts';
import { type ServiceProgram, startServiceProgram } from '../servers/service.ts';
import { type Stack, startStack } from '../servers/stack.ts';
import { setting } from '../settings.ts';
import { type Cell, renderTable } from './table.ts';

interface DemoOptions {
  readonly duration?: string;
  readonly rate: string;
  readonly series: string;
  readonly late: string;
}

/** Short windows, so that there is something to see. */
const WINDOWS = { WINDOW: '2s', LATENESS: '1s' } as const;
const WINDOW_MS = 2000;
const REFRESH_MS = 1000;
/** Between lines where the output is no terminal. */
const LINE_INTERVAL_MS = 5000;
/** How long the stores may take for the last windows after the last message. */
const SETTLE_TIMEOUT_MS = 60_000;
const EXIT_INTERRUPTED = 130;

export function demoCommand(): Command {
  return new Command('demo')
    .description(
      'start a bus and four stores, send traffic through the service, and compare every store with the truth',
    )
    .option('--duration <time>', 'stop by itself after this, such as 30s; without it, at Ctrl-C')
    .option('--rate <n>', 'messages per second', '2000')
    .option('--series <n>', 'series', '200')
    .option('--late <share>', 'share of the messages that come late', '0.05')
    .action(async (options: DemoOptions) => {
      const demo = new Demo(options);
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        process.once(signal, () => void demo.interrupt());
      }
      try {
        process.exitCode = (await demo.run()) ? 0 : 1;
      } finally {
        await demo.close();
      }
    });
}

class Demo {
  readonly #options: DemoOptions;
  #stack: Stack | undefined;
  #service: ServiceProgram | undefined;
  #load: Program | undefined;
  #shownLines = 0;

  constructor(options: DemoOptions) {
    const { duration } = options;
    if (
      duration !== undefined &&
      setting.duration({ meaning: '', required: true }).parse(duration) === undefined
    ) {
      throw new Error(`--duration: expected a duration such as 30s; got ${JSON.stringify(duration)}`);
    }
    this.#options = options;
  }

  /** Whether every store holds exactly the truth. */
  async run(): Promise<boolean> {
    say('Starting a bus and four stores, fresh and empty:\n');
    this.#stack = await startStack((name, url, ms) => {
      say(`  ${name.padEnd(12)} ${(ms / 1000).toFixed(1).padStart(5)} s  ${url}`);
    });
    const { env, folder } = this.#stack;
    const settings = { ...env, ...WINDOWS, METRICS_START: 'earliest' };
    const service = await startServiceProgram(settings);
    this.#service = service;
    say(`  ${'service'.padEnd(12)} ${''.padStart(7)}  ${service.url}/api/status  ${service.url}/metrics\n`);

    const truthFile = join(folder, 'truth.jsonl');
    const { rate, series, late, duration } = this.#options;
    say(`Sending ${rate} messages/s over ${series} series, ${Number(late) * 100} % of them late.`);
    const traffic = ['--rate', rate, '--series', series, '--late', late, '--truth', truthFile];
    this.#load = startProgram(
      ['load', ...traffic, ...(duration === undefined ? [] : ['--duration', duration])],
      { NATS_URL: env.NATS_URL!, ...WINDOWS },
    );
    await this.#watch(service, this.#load.ended);
    const code = await this.#load.ended;
    if (code !== 0) throw new Error(`load ended with ${code}:\n${this.#load.output.stderr}`);
    const truth = await readTruthFile(truthFile);
    say('\nAll sent. Waiting until every store has confirmed the last window ...');
    await service.untilConfirmed(
      Math.max(...truth.map(({ windowStart }) => windowStart!)) + WINDOW_MS,
      SETTLE_TIMEOUT_MS,
    );
    return await this.#compare(truth, settings);
  }

  /** Ctrl-C: ends everything at once; nothing is compared, for the truth is not known before the end. */
  async interrupt(): Promise<void> {
    say('\nStopped before the end: nothing was compared.');
    await this.close();
    process.exit(EXIT_INTERRUPTED);
  }

  async close(): Promise<void> {
    await Promise.all([this.#load?.stop('SIGKILL'), this.#service?.stop('SIGTERM')]);
    await this.#stack?.stop();
  }

  async #watch(service: ServiceProgram, until: Promise<unknown>): Promise<void> {
    let over = false;
    void until.then(() => {
      over = true;
    });
    for (const started = Date.now(); !over; ) {
      await Promise.race([until, sleep(process.stdout.isTTY ? REFRESH_MS : LINE_INTERVAL_MS)]);
      this.#show(await service.status(), Date.now() - started);
    }
  }

  #show(status: Status, elapsedMs: number): void {
    const seconds = `${Math.round(elapsedMs / 1000)} s`;
    const { messages, samples, source } = status;
    const head = `${seconds}: ${messages.received} messages received, ${source.pendingMessages} pending, ${samples.late} late`;
    if (!process.stdout.isTTY) {
      say(`  ${head}; written: ${status.sinks.map(({ id, written }) => `${id} ${written}`).join(', ')}`);
      return;
    }
    const rows = status.sinks.map((sink): Cell[] => [
      sink.id,
      { text: sink.up ? 'up' : 'down', colour: sink.up ? 'green' : 'red' },
      String(sink.written),
      String(sink.backlogPoints),
      sink.lagSeconds.toFixed(1),
    ]);
    const table = renderTable(['sink', 'state', 'points written', 'backlog', 'lag s'], rows);
    const text = `\n${head}\n\n${table}\n`;
    if (this.#shownLines > 0) process.stdout.write(`\x1b[${this.#shownLines}A\x1b[J`);
    process.stdout.write(text);
    this.#shownLines = text.split('\n').length - 1;
  }

  async #compare(truth: readonly TruthRow[], settings: Readonly<Record<string, string>>): Promise<boolean> {
    for (const [name, value] of Object.entries(settings))
      if (name.startsWith('AWS_')) process.env[name] = value;
    const { sinks } = await loadConfig(settings);
    const sent = truth.reduce((sum, { count }) => sum + count, 0);
    const results = await compareSinks(sinks, truth, WINDOW_MS);
    const rows = [...results].map(([id, result]): Cell[] => [
      id,
      String(result.points),
      String(result.count),
      String(sent),
      isEqual(result) ? { text: 'equal', colour: 'green' } : { text: 'DIFFERENT', colour: 'red' },
    ]);
    say(`\n${renderTable(['sink', 'points', 'sum of counts', 'sent', 'row by row'], rows)}`);
    for (const [id, { examples }] of results) for (const example of examples) say(`  ${id}: ${example}`);
    const equal = [...results.values()].every(isEqual);
    say(
      equal
        ? `\nEvery store has exactly the ${truth.length} points of the truth, to the last bit.`
        : '\nNot every store has exactly the truth.',
    );
    return equal;
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
