import { once } from 'node:events';
import type { Command } from 'commander';
import { createLog } from '../base/log.ts';
import { type Bus, connect } from '../bus/connect.ts';
import type { Envelope, Incoming } from '../bus/message.ts';
import { createJetStreamSource } from '../bus/read/jetstream.ts';
import type { Reader } from '../bus/read/source.ts';
import { listen } from '../bus/subscribe.ts';
import { type Config, loadConfig } from '../config/config.ts';
import type { Filters } from '../tap/filters.ts';
import { Pace } from '../tap/pace.ts';
import { linesOf, type Received } from '../tap/sample-lines.ts';
import { TapDecoder } from '../tap/tap-decoder.ts';
import { BUS, describe, STREAM, settingRows, WRONG_SETTINGS } from './terminal/help-page.ts';
import { dimensionFilter, integer, subjects, time } from './terminal/option-values.ts';
import { print } from './terminal/output.ts';
import { stopSignal } from './terminal/stop-signal.ts';

interface TailOptions extends Filters {
  readonly rate?: number;
  readonly limit?: number;
  readonly from?: number;
  readonly json?: true;
}

/** Above this many bytes that the reader of our output has not taken yet, lines are held back. */
const MAX_UNREAD_BYTES = 1024 * 1024;
const MAX_RATE = 1_000_000;
const REPORT_INTERVAL_MS = 1000;
const NO_ENVELOPE: Envelope = { subject: '' };

const PAGE = {
  summary: 'show samples as they are published',
  text: `
It only listens: everyone else still gets every message, and it stores nothing on the bus. Samples that the service
would reject are shown with the reason. Lines held back by --rate, or by a slow reader of the output, are counted on
stderr. With --from, messages come from the stream, in its order, and then live.`,
  examples: [
    ["metrics-fanout tail --name 'http.*' --where app=api", 'the matching samples of one app'],
    ["metrics-fanout tail 'metrics.web.>' --rate 5", 'other subjects, at most five lines a second'],
    [
      'metrics-fanout tail --from 2026-11-23T01:00:00Z --limit 100 --json',
      'a hundred lines from the stream, as JSON',
    ],
  ],
  exit: [
    ['0', 'stopped, or --limit reached'],
    ['1', 'the bus cannot be reached, or the options are invalid'],
    WRONG_SETTINGS,
  ],
  environment: [...BUS, ...STREAM, ...settingRows('metricsFormat', 'metricsCounters')],
} as const;

export function tailCommand(): Command {
  return describe('tail', PAGE)
    .argument('[subjects...]', 'NATS subjects (default: METRICS_SUBJECTS)', subjects)
    .option('--name <glob>', 'only series whose name matches the glob, such as http.*')
    .option('--where <key=glob>', 'only series with this dimension; may be repeated', dimensionFilter, [])
    .option('--rate <n>', 'at most this many lines a second', integer(1, MAX_RATE))
    .option('--limit <n>', 'end after this many lines', integer(1, Number.MAX_SAFE_INTEGER))
    .option('--from <time>', 'RFC 3339; start at this time in the stream', time)
    .option('--json', 'print JSON, one line per sample')
    .action(async (given: string[], options: TailOptions, command: Command) => {
      const config = await loadConfig(process.env);
      if (options.from !== undefined && config.core.metricsSource === 'core')
        command.error('error: --from needs a stream: plain NATS (METRICS_SOURCE=core) has no history');
      await tail(given.length > 0 ? given : config.core.metricsSubjects, options, config);
      process.exit(0);
    });
}

async function tail(wanted: readonly string[], options: TailOptions, config: Config): Promise<void> {
  const over = new AbortController();
  const stop = AbortSignal.any([stopSignal(), over.signal]);
  process.stdout.on('error', () => over.abort());
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout tail' });
  const output = new Output(options, new TapDecoder(config.core), () => over.abort());
  const timer = setInterval(() => output.reportHeld(), REPORT_INTERVAL_MS);
  if (options.from === undefined) {
    const take = ({ data: payload, subject, encoding }: Incoming) =>
      output.take({ payload, subject, time: Date.now(), sequence: undefined, encoding });
    await listen(bus, wanted, take, stop);
  } else {
    await readFrom(options.from, wanted, config, bus, output, stop);
  }
  clearInterval(timer);
  output.reportHeld();
  await bus.close();
  await print('');
}

async function readFrom(
  ms: number,
  metricsSubjects: readonly string[],
  { core }: Config,
  bus: Bus,
  output: Output,
  stop: AbortSignal,
): Promise<void> {
  const start = { kind: 'time', ms } as const;
  const source = createJetStreamSource(bus, { ...core, metricsSubjects }, { start, isPassive: true });
  const reader: Reader = {
    message: ({ bytes, start, end, streamTime: time, sequence }, { subject, encoding } = NO_ENVELOPE) =>
      output.take({ payload: bytes.subarray(start, end), subject, time, sequence, encoding }),
    // History waits for a slow reader of our output.
    progress: () => (process.stdout.writableNeedDrain ? drained(stop) : undefined),
  };
  await source.run(reader, stop);
}

async function drained(signal: AbortSignal): Promise<void> {
  await once(process.stdout, 'drain', { signal }).catch(() => {});
}

class Output {
  readonly #options: TailOptions;
  readonly #decoder: TapDecoder;
  readonly #pace: Pace;
  readonly #ended: () => void;
  #lines = 0;

  constructor(options: TailOptions, decoder: TapDecoder, ended: () => void) {
    this.#options = options;
    this.#decoder = decoder;
    this.#pace = new Pace(options.rate ?? Number.POSITIVE_INFINITY);
    this.#ended = ended;
  }

  take(message: Received): void {
    const { limit = Number.POSITIVE_INFINITY, from, json } = this.#options;
    const isLive = from === undefined;
    for (const line of linesOf(message, this.#decoder, this.#options, json === true)) {
      if (this.#lines >= limit) return;
      if (isLive && process.stdout.writableLength > MAX_UNREAD_BYTES) this.#pace.hold();
      else if (this.#pace.admit(performance.now())) {
        process.stdout.write(`${line}\n`);
        this.#lines += 1;
      }
    }
    if (this.#lines >= limit) this.#ended();
  }

  reportHeld(): void {
    const held = this.#pace.takeHeld();
    if (held > 0) process.stderr.write(`(${held} more lines were not shown)\n`);
  }
}
