import type { SeriesTable } from '../aggregate/series-table.ts';
import { DecodedSample } from './decoded-sample.ts';
import type { Decoder, SampleHandler } from './decoder.ts';
import type { LineOptions } from './line-decoder.ts';
import type { MessageLabel, RawMessage } from './raw-message.ts';
import type { InputRejection } from './rejection.ts';
import { Shaping } from './shaping.ts';
import { BYTES_PER_STEP, REJECTED_STEPS, Steps } from './steps.ts';
import { SubjectSeries } from './subject-series.ts';

/** As the server takes them. It removes the spaces around one. */
const INCREMENT = /^[+-]?\d+$/;
const EVERY_SUBJECT = ['*'];

/**
 * The counters of NATS: the header says by how much, the subject which one. The body is not read: a producer sends
 * none, and what the server puts there is the running total.
 */
export class IncrementDecoder implements Decoder {
  readonly steps: Steps;
  readonly needsSubject = true;
  readonly isPaused = false;
  readonly #sample = new DecodedSample();
  readonly #series: SubjectSeries;

  constructor(table: SeriesTable, options: Pick<LineOptions, 'steps' | 'dialect' | 'shaping'>) {
    this.steps = options.steps ?? new Steps();
    const { dialect = 0, shaping = new Shaping(table) } = options;
    this.#series = new SubjectSeries(table, { steps: this.steps, dialect, counters: EVERY_SUBJECT, shaping });
  }

  take(message: RawMessage, handler: SampleHandler, label?: MessageLabel): void {
    const { bytes, start, end, streamTime, sequence } = message;
    const increment = label?.increment;
    this.steps.left -= 1 + (increment?.length ?? 0) / BYTES_PER_STEP;
    const sample = this.#sample;
    sample.clear();
    sample.streamTime = streamTime;
    sample.sequence = sequence;
    const rejection = this.#read(increment) ?? this.#series.find(sample, label?.subject ?? '');
    if (rejection !== undefined) {
      this.steps.left -= REJECTED_STEPS;
      handler.rejectedMessage(rejection, bytes.subarray(start, end));
      return;
    }
    handler.sample(sample);
  }

  #read(increment: string | undefined): InputRejection | undefined {
    if (increment === undefined) return 'missing_increment';
    const text = increment.trim();
    if (!INCREMENT.test(text)) return 'bad_value';
    // Never -0.
    this.#sample.value = Number(text) + 0;
    return Number.isFinite(this.#sample.value) ? undefined : 'bad_value';
  }

  resume(): void {}

  flush(): void {}
}
