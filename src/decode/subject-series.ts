import { matchesGlob } from '../aggregate/glob.ts';
import { COUNTER, GAUGE, TYPE_BITS, UNKNOWN_SERIES } from '../aggregate/sample.ts';
import { identify } from '../aggregate/series.ts';
import type { SeriesTable } from '../aggregate/series-table.ts';
import type { DecodedSample } from './decoded-sample.ts';
import { MAX_NAME_BYTES } from './limits.ts';
import type { InputRejection } from './rejection.ts';
import type { Shaping } from './shaping.ts';
import { NEW_SPELLING_STEPS, type Steps } from './steps.ts';

/** Stands in for the dimensions in the spelling: none of the other formats has these alone. */
const MARK = 0x3d;

export interface SubjectSeriesOptions {
  readonly steps: Steps;
  /** See `LineOptions`. */
  readonly dialect: number;
  readonly shaping: Shaping;
  /** Globs for the subjects that are counters. */
  readonly counters: readonly string[];
}

/** Series that are named by the subject of their messages, and have no dimensions. */
export class SubjectSeries {
  readonly #table: SeriesTable;
  readonly #options: SubjectSeriesOptions;
  readonly #name = Buffer.alloc(MAX_NAME_BYTES + 1);
  readonly #view = new DataView(this.#name.buffer, this.#name.byteOffset, this.#name.length);

  constructor(table: SeriesTable, options: SubjectSeriesOptions) {
    this.#table = table;
    this.#options = options;
  }

  /** Finds the series of the sample. Returns why there is none. */
  find(sample: DecodedSample, subject: string): InputRejection | undefined {
    if (subject === '') return 'missing_name';
    if (Buffer.byteLength(subject) > MAX_NAME_BYTES) return 'too_long';
    const length = this.#name.write(subject);
    this.#name[length] = MARK;
    sample.view = this.#view;
    sample.comesFrom(this.#options.shaping.origin);
    sample.nameStart = 0;
    sample.nameLength = length;
    sample.dimensionsStart = length;
    sample.dimensionsLength = 1;
    const { counters } = this.#options;
    const isKnown = this.#look(sample, GAUGE) || (counters.length > 0 && this.#look(sample, COUNTER));
    return isKnown ? undefined : this.#learn(sample, subject);
  }

  #look(sample: DecodedSample, type: number): boolean {
    sample.type = type | (this.#options.dialect << TYPE_BITS);
    sample.series = this.#table.find(sample);
    sample.type = type;
    return sample.series !== UNKNOWN_SERIES;
  }

  #learn(sample: DecodedSample, subject: string): InputRejection | undefined {
    const { counters, dialect, shaping, steps } = this.#options;
    steps.left -= NEW_SPELLING_STEPS + sample.nameLength;
    const identity = identify(subject, []);
    const type = counters.some((glob) => matchesGlob(glob, subject)) ? COUNTER : GAUGE;
    sample.type = type | (dialect << TYPE_BITS);
    const rejection = shaping.add(sample, identity);
    sample.type = type;
    return rejection;
  }
}
