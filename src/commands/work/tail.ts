import { once } from 'node:events';
import type { Command } from 'commander';
import { createLog } from '../../base/log.ts';
import { counted } from '../../base/number-format.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { learnSubjects } from '../../bus/kv/checkpoints.ts';
import type { Envelope, Incoming } from '../../bus/message.ts';
import { createJetStreamSource } from '../../bus/read/jetstream.ts';
import type { Reader } from '../../bus/read/source.ts';
import { listen } from '../../bus/subscribe.ts';
import { type Config, loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import { type Filters, hasFilters } from '../../tap/filters.ts';
import { Pace } from '../../tap/pace.ts';
import { linesOf, type Received } from '../../tap/sample-lines.ts';
import { TapDecoder } from '../../tap/tap-decoder.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';

interface TailOptions extends Filters {
  readonly rate?: number;
  readonly limit?: number;
  readonly from?: number;
  readonly json?: true;
  readonly rejected?: true;
}

/** Above this many bytes that the reader of our output has not taken yet, lines are held back. */
const MAX_UNREAD_BYTES = 1024 * 1024;

const REPORT_INTERVAL_MS = 1000;
/** After so long without a line, it says that it listens. */
const SILENCE_MS = 3000;

const NO_ENVELOPE: Envelope = { subject: '' };

export default async function runTail(
  given: string[],
  options: TailOptions,
  command: Command,
): Promise<void> {
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  if (options.from !== undefined && config.core.metricsSource === 'core')
    command.error('error: --from needs a stream: plain NATS (METRICS_SOURCE=core) has no history');
  if (options.from !== undefined && options.from > Date.now()) {
    const [from, now] = [options.from, Date.now()].map((ms) => new Date(ms).toISOString());
    command.error(
      `error: --from ${from} is in the future: choose a time up to now (${now}), or leave it out`,
    );
  }
  if (options.rejected && hasFilters(options))
    command.error('error: --rejected goes without --name and --where: what is rejected has no series');
  await tail(given.length > 0 ? given : config.core.metricsSubjects, options, config);
  process.exit(exitCodeOf(0));
}

async function tail(wanted: readonly string[], options: TailOptions, config: Config): Promise<void> {
  const over = new AbortController();
  const stop = AbortSignal.any([stopSignal(), over.signal]);
  process.stdout.on('error', () => over.abort());
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout tail' });
  const output = new Output(options, new TapDecoder(config.core), () => over.abort());
  const timer = setInterval(() => output.reportHeld(), REPORT_INTERVAL_MS);
  const silence = setTimeout(() => output.reportSilence(wanted), SILENCE_MS);
  if (options.from === undefined) {
    const take = ({ data: payload, subject, encoding, contentType, increment }: Incoming) =>
      output.take({
        payload,
        subject,
        time: Date.now(),
        sequence: undefined,
        encoding,
        contentType,
        increment,
      });
    await listen(bus, wanted, take, stop);
  } else {
    await readFrom(options.from, wanted, config, bus, output, stop);
  }
  clearInterval(timer);
  clearTimeout(silence);
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
  await learnSubjects(bus, core);
  const start = { kind: 'time', ms } as const;
  const source = createJetStreamSource(bus, { ...core, metricsSubjects }, { start, isPassive: true });
  const reader: Reader = {
    message: (
      { bytes, start, end, streamTime: time, sequence },
      { subject, encoding, contentType, increment } = NO_ENVELOPE,
    ) =>
      output.take({
        payload: bytes.subarray(start, end),
        subject,
        time,
        sequence,
        encoding,
        contentType,
        increment,
      }),
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
  #messages = 0;

  constructor(options: TailOptions, decoder: TapDecoder, ended: () => void) {
    this.#options = options;
    this.#decoder = decoder;
    this.#pace = new Pace(options.rate ?? Number.POSITIVE_INFINITY);
    this.#ended = ended;
  }

  take(message: Received): void {
    this.#messages += 1;
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

  reportSilence(subjects: readonly string[]): void {
    if (this.#lines > 0) return;
    const none = this.#options.rejected ? 'none would be rejected' : 'none matches';
    const heard = this.#messages === 0 ? 'no message yet' : `${counted(this.#messages, 'message')}, ${none}`;
    process.stderr.write(`(listening on ${subjects.join(', ')}: ${heard})\n`);
  }

  reportHeld(): void {
    const held = this.#pace.takeHeld();
    if (held > 0) process.stderr.write(`(${counted(held, 'more line was', 'more lines were')} not shown)\n`);
  }
}
