/**
 * `npm run bench [-- --only hot-loop,shaping,encoding,receiving,stalls,memory,ask,telegraf] [--rounds N] [--messages N]
 * [--rate N] [--keep]`: every figure is a ratio of two things measured in turns, or CPU time per message; the median of
 * the rounds. Not run by default: `--only steady [--minutes N]`, which takes an hour, `--only sinks`: every store, as a
 * ratio to SQLite, `--only partitions`: a cluster of three nats-servers with 1, 2 and 4 partitions, and `--only peers`:
 * beside a program in Go and Telegraf, six minutes a round; the last two take three rounds if `--rounds` says nothing
 * else. `--keep` stores the figures in results/. The exit code is 0 only if every bar is met.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { renderTable } from '../../src/commands/terminal/table.ts';
import { measureAsk } from './ask.ts';
import { startChild } from './children.ts';
import { measureEncoding } from './encoding.ts';
import type { HotLoopResult } from './hot-loop.ts';
import { type Figure, figure, meetsBar } from './measure.ts';
import { measurePartitions } from './partitions.ts';
import { measurePeers } from './peers.ts';
import { measureReceiving } from './receiving.ts';
import { measureSinks } from './sinks.ts';
import { measureMemory, measureStalls } from './stalls.ts';
import { measureSteady } from './steady.ts';
import { isTelegrafHere, measureTelegraf } from './telegraf.ts';

const EXIT_USAGE = 64;
const TELEGRAF = { messages: 100_000, rate: 20_000 } as const;
const SERIES = 1000;
const PEERS_ROUNDS = 3;
/** (e): series, and what a message may cost. */
const HOT_LOOPS = [
  { series: 1000, bar: 200 },
  { series: 100_000, bar: 350 },
  { series: 1_000_000, bar: 600 },
] as const;

/** (e): what the rules on names and dimensions may add. */
const SHAPING_BAR = 60;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'hot-loop,shaping,encoding,receiving,stalls,memory,ask,telegraf' },
    /** 5, and 3 of the peers. */
    rounds: { type: 'string' },
    /** Of one measurement of receiving. */
    messages: { type: 'string', default: '800000' },
    rate: { type: 'string', default: '120000' },
    minutes: { type: 'string', default: '60' },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds ?? 5);
const tell = (line: string) => void process.stderr.write(`${line}\n`);

async function measureHotLoop(): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const mix of ['counters', 'all types'] as const) {
    for (const { series, bar } of HOT_LOOPS) {
      // A million timers have a million sketches, which is something else to measure.
      if (mix === 'all types' && series > SERIES) continue;
      const child = await startChild('./hot-loop.ts', [String(series), mix]);
      const results: HotLoopResult[] = [];
      for (let round = 0; round < rounds; round++) results.push((await child.ask({})) as HotLoopResult);
      await child.stop();
      const bytes = Math.round(results[0]!.bytesPerMessage);
      const what = `decode + aggregate, ${series} series, ${mix}, ${bytes} bytes`;
      const costs = results.map(({ nanosPerMessage }) => nanosPerMessage);
      tell(`${what}: ${costs.map((cost) => cost.toFixed(0)).join(' ')} ns`);
      figures.push(figure('e', what, 'ns/message', costs, mix === 'counters' ? { bar } : {}));
    }
  }
  return figures;
}

/** (e): what every rule on names and dimensions adds to a message, by two processes in turns. */
async function measureShaping(): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const { series } of HOT_LOOPS.slice(0, 2)) {
    const plain = await startChild('./hot-loop.ts', [String(series), 'counters']);
    const shaped = await startChild('./hot-loop.ts', [String(series), 'counters', 'every rule']);
    const costs: number[] = [];
    const ratios: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const without = ((await plain.ask({})) as HotLoopResult).nanosPerMessage;
      const having = ((await shaped.ask({})) as HotLoopResult).nanosPerMessage;
      costs.push(having - without);
      ratios.push(having / without);
    }
    await plain.stop();
    await shaped.stop();
    const what = `every rule on names and dimensions, ${series} series`;
    tell(`${what}: ${costs.map((cost) => cost.toFixed(0)).join(' ')} ns more`);
    figures.push(figure('e', `${what}: more than without`, 'ns/message', costs, { bar: SHAPING_BAR }));
    figures.push(figure('e', `${what}: to without`, 'times', ratios, {}));
  }
  return figures;
}

async function measureTelegrafIfHere(): Promise<Figure[]> {
  if (isTelegrafHere()) return measureTelegraf(rounds, TELEGRAF.messages, TELEGRAF.rate);
  tell('no telegraf on the PATH: (h) is left out');
  return [];
}

const SUITES: Readonly<Record<string, () => Figure[] | Promise<Figure[]>>> = {
  'hot-loop': measureHotLoop,
  shaping: measureShaping,
  encoding: () => measureEncoding(rounds),
  receiving: () =>
    measureReceiving({
      rounds,
      messages: Number(values.messages),
      rate: Number(values.rate),
      series: SERIES,
      tell,
    }),
  stalls: () => measureStalls(tell),
  memory: measureMemory,
  ask: () => measureAsk(rounds, tell),
  steady: () => measureSteady({ minutes: Number(values.minutes), rate: Number(values.rate), tell }),
  sinks: () => measureSinks(rounds, tell),
  telegraf: measureTelegrafIfHere,
  partitions: () =>
    measurePartitions({ rounds: Number(values.rounds ?? PEERS_ROUNDS), series: SERIES, tell }),
  peers: () => measurePeers({ rounds: Number(values.rounds ?? PEERS_ROUNDS), series: SERIES, tell }),
};

function toRow(each: Figure): string[] {
  const { id, what, value, runs, unit, bar, atLeast } = each;
  const digits = unit === 'times' ? 2 : unit === 's' || unit === 'ms/s' ? 1 : 0;
  const spread =
    runs.length > 1 ? `${Math.min(...runs).toFixed(digits)}-${Math.max(...runs).toFixed(digits)}` : '';
  const isMet = meetsBar(each);
  const verdict = isMet === undefined ? '' : isMet ? 'met' : 'MISSED';
  const limit = bar === undefined ? '' : `${atLeast ? '>=' : '<='} ${bar}`;
  return [id, what, value.toFixed(digits), unit, spread, limit, verdict];
}

function keep(figures: readonly Figure[]): void {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const date = new Date().toISOString();
  const commit = git('rev-parse', '--short', 'HEAD');
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const machine = { node: process.version, processor: cpus()[0]?.model, processors: cpus().length };
  const text = JSON.stringify({ date, commit, rounds, ...machine, figures }, null, 2);
  writeFileSync(new URL(`${date.slice(0, 10)}-${commit}.json`, folder), `${text}\n`);
}

const names = values.only.split(',');
const unknown = names.filter((name) => !(name in SUITES));
if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  tell(`--only: any of ${Object.keys(SUITES).join(', ')}; --rounds: a whole number`);
  process.exit(EXIT_USAGE);
}
const figures: Figure[] = [];
for (const name of names) {
  tell(`${name} ...`);
  figures.push(...(await SUITES[name]!()));
}
if (values.keep) keep(figures);
process.stdout.write(
  values.json
    ? `${JSON.stringify(figures, null, 2)}\n`
    : `${renderTable(['', 'what', 'median', 'unit', 'from-to', 'bar', ''], figures.map(toRow), { width: Number.POSITIVE_INFINITY })}\n`,
);
process.exitCode = figures.every((each) => meetsBar(each) !== false) ? 0 : 1;
