import type { SeriesTable } from '../aggregate/series-table.ts';
import { readDecimal } from './decimal.ts';
import { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';
import { CR, LF, type LineOptions, SPACE, TAB } from './line-decoder.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import { Scanner } from './scanner.ts';
import { Shaping } from './shaping.ts';
import { BYTES_PER_STEP, REJECTED_STEPS, Steps } from './steps.ts';
import { SubjectSeries } from './subject-series.ts';

export interface NumberOptions extends LineOptions {
  /** Globs for the subjects that are counters. */
  readonly counters: readonly string[];
}

/** Messages that are a number and nothing else: a sample of the series that has the name of the subject. */
export class NumberDecoder implements Decoder {
  readonly steps: Steps;
  readonly needsSubject = true;
  readonly isPaused = false;
  readonly #maxMessageBytes: number;
  readonly #scanner = new Scanner();
  readonly #sample = new DecodedSample();
  readonly #series: SubjectSeries;

  constructor(table: SeriesTable, options: NumberOptions) {
    this.steps = options.steps ?? new Steps();
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    const { counters, dialect = 0, shaping = new Shaping(table) } = options;
    this.#series = new SubjectSeries(table, { steps: this.steps, dialect, counters, shaping });
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    const { bytes, start, end, streamTime, sequence } = message;
    this.steps.left -= 1 + (end - start) / BYTES_PER_STEP;
    const sample = this.#sample;
    sample.clear();
    sample.streamTime = streamTime;
    sample.sequence = sequence;
    const rejection = this.#read(message) ?? this.#series.find(sample, label?.subject ?? '');
    if (rejection === undefined) handler.sample(sample);
    else {
      this.steps.left -= REJECTED_STEPS;
      handler.rejectedMessage(rejection, bytes.subarray(start, end));
    }
  }

  #read({ bytes, start, end }: RawMessage): InputRejection | undefined {
    if (end - start > this.#maxMessageBytes) return 'too_large';
    const scanner = this.#scanner;
    let from = scanner.load(bytes, start, end);
    let to = scanner.end;
    while (from < to && isSpace(scanner.bytes[from]!)) from++;
    while (to > from && isSpace(scanner.bytes[to - 1]!)) to--;
    if (from === to) return 'empty';
    this.#sample.value = readDecimal(scanner, from, to);
    return Number.isFinite(this.#sample.value) ? undefined : 'bad_value';
  }

  resume(): void {}

  flush(): void {}
}

function isSpace(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === LF || byte === CR;
}
