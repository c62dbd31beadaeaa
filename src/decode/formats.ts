import type { SeriesTable } from '../aggregate/series-table.ts';
import { type Epoch, type InputShape, inputsOf } from '../aggregate/tiling.ts';
import { AutoDecoder } from './auto.ts';
import type { Decoder } from './decoder.ts';
import { EpochDecoder } from './epoch-decoder.ts';
import { IncrementDecoder } from './increment.ts';
import { JsonDecoder } from './json.ts';
import { LineProtocolDecoder } from './line-protocol.ts';
import { NumberDecoder } from './number.ts';
import { OTLP_ATTRIBUTES, OtlpDecoder } from './otlp.ts';
import { Shaping, ShapingRules, type ShapingSettings, SubjectDecoder } from './shaping.ts';
import { areRules } from './shaping-rules.ts';
import { NAME_TAGS, type NameTags, StatsdDecoder } from './statsd.ts';
import { Steps } from './steps.ts';

/** The wire formats. `auto` detects that of each message from how it begins. */
export const FORMATS = ['auto', 'json', 'influx', 'statsd', 'number', 'otlp', 'counter'] as const;
export type Format = (typeof FORMATS)[number];

/** The settings on which the meaning of a message depends. All of them are part of the shape of windows. */
export interface InputSettings extends ShapingSettings {
  readonly metricsFormat: Format;
  /** Globs for the names of the series that are counters in line protocol, or bare numbers. */
  readonly metricsCounters: readonly string[] | undefined;
  /** How names in StatsD may hold tags. */
  readonly metricsStatsdTags?: readonly NameTags[] | undefined;
  /** Gauges in StatsD with a sign are values. */
  readonly metricsStatsdSignedGauges?: boolean;
  /** Globs for the attributes of OTLP's resources and scopes that become dimensions. */
  readonly metricsOtlpAttributes?: readonly string[] | undefined;
}

export interface DecoderSettings extends InputSettings {
  readonly maxMessageBytes: number;
}

/** What an `InputShape` may hold. Setting and default of each; absent from the shape if it has the default. */
const INPUTS = {
  format: { setting: 'metricsFormat', usual: undefined, isValid: isFormat },
  counters: { setting: 'metricsCounters', usual: undefined, isValid: isTexts },
  statsdTags: { setting: 'metricsStatsdTags', usual: undefined, isValid: isNameTags },
  statsdSignedGauges: { setting: 'metricsStatsdSignedGauges', usual: false, isValid: isBoolean },
  otlpAttributes: { setting: 'metricsOtlpAttributes', usual: OTLP_ATTRIBUTES, isValid: isTexts },
  names: { setting: 'metricsNames', usual: undefined, isValid: (value) => areRules('names', value) },
  dropDimensions: {
    setting: 'metricsDropDimensions',
    usual: undefined,
    isValid: (value) => areRules('dimensions', value),
  },
  keepDimensions: {
    setting: 'metricsKeepDimensions',
    usual: undefined,
    isValid: (value) => areRules('dimensions', value),
  },
  rename: { setting: 'metricsRename', usual: undefined, isValid: (value) => areRules('rename', value) },
  subjectDimensions: {
    setting: 'metricsSubjectDimensions',
    usual: undefined,
    isValid: (value) => areRules('subjects', value),
  },
  subjectWins: { setting: 'metricsSubjectWins', usual: false, isValid: isBoolean },
} as const satisfies Record<
  string,
  { setting: keyof InputSettings; usual: unknown; isValid: (value: unknown) => boolean }
>;
const NAMED_INPUTS = Object.entries(INPUTS);

export function inputOf(settings: InputSettings): InputShape {
  return Object.fromEntries(
    NAMED_INPUTS.flatMap(([name, { setting, usual }]) => {
      const value = settings[setting];
      const isUsual = value === undefined || JSON.stringify(value) === JSON.stringify(usual);
      return isUsual ? [] : [[name, value] as const];
    }),
  );
}

/** Whether this version knows all that the shape says. */
export function isKnownInput(input: InputShape): boolean {
  return Object.entries(input).every(
    ([name, value]) => Object.hasOwn(INPUTS, name) && INPUTS[name as keyof typeof INPUTS].isValid(value),
  );
}

/** The settings of a shape that `isKnownInput`. */
function settingsOf(input: InputShape): InputSettings {
  const entries = NAMED_INPUTS.map(([name, { setting, usual }]) => [setting, input[name] ?? usual] as const);
  return Object.fromEntries(entries) as unknown as InputSettings;
}

/** Returns the rules on names and dimensions in a shape that `isKnownInput`. */
export function rulesOf(input: InputShape): ShapingRules {
  return new ShapingRules(settingsOf(input));
}

function isFormat(value: unknown): boolean {
  return FORMATS.some((format) => format === value);
}

function isNameTags(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => NAME_TAGS.includes(item));
}

function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean';
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** Returns a decoder that reads each message as the epoch of its stream time wants it; else by the settings. */
export function makeDecoderFor(
  table: SeriesTable,
  settings: DecoderSettings,
  epochs: readonly Epoch[],
): Decoder {
  const inputs = inputsOf(epochs);
  const { maxMessageBytes } = settings;
  const steps = new Steps();
  const decoders = inputs.map((input, dialect) =>
    makeDecoder(table, { ...settingsOf(input), maxMessageBytes }, { steps, dialect }),
  );
  const [only] = decoders;
  if (only === undefined) return makeDecoder(table, settings);
  if (decoders.length === 1) return only;
  const keys = inputs.map((input) => JSON.stringify(input));
  return new EpochDecoder(
    epochs.map(({ from, input }) => ({
      from,
      decoder: decoders[Math.max(0, keys.indexOf(JSON.stringify(input)))]!,
    })),
  );
}

export function makeDecoder(
  table: SeriesTable,
  settings: DecoderSettings,
  shared: { readonly steps?: Steps; readonly dialect?: number } = {},
): Decoder {
  const { steps = new Steps(), dialect = 0 } = shared;
  const shaping = new Shaping(table, new ShapingRules(settings), steps);
  const decoder = makeFormat(table, settings, { steps, dialect, shaping });
  return shaping.needsSubject ? new SubjectDecoder(decoder, shaping) : decoder;
}

function makeFormat(
  table: SeriesTable,
  settings: DecoderSettings,
  shared: { readonly steps: Steps; readonly dialect: number; readonly shaping: Shaping },
): Decoder {
  const { metricsFormat, metricsCounters: counters = [], maxMessageBytes } = settings;
  const options = { maxMessageBytes, ...shared };
  const influx = new LineProtocolDecoder(table, { ...options, counters });
  const { metricsStatsdTags: nameTags = [], metricsStatsdSignedGauges: signedGauges = false } = settings;
  const statsd = new StatsdDecoder(table, { ...options, nameTags, signedGauges });
  const { metricsOtlpAttributes: attributes = OTLP_ATTRIBUTES } = settings;
  const otlp = new OtlpDecoder(table, { ...options, attributes });
  const json = new JsonDecoder(table, { ...options, ...(metricsFormat === 'auto' && { otlp }) });
  switch (metricsFormat) {
    case 'auto':
      return new AutoDecoder({ json, influx, statsd, otlp }, nameTags.length > 0);
    case 'json':
      return json;
    case 'influx':
      return influx;
    case 'statsd':
      return statsd;
    case 'otlp':
      return otlp;
    case 'number':
      return new NumberDecoder(table, { ...options, counters });
    case 'counter':
      return new IncrementDecoder(table, options);
  }
}
