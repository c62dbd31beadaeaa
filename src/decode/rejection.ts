import { MAX_DEPTH, MAX_DIMENSIONS } from './limits.ts';

/**
 * Why a message, or an element of it (of an array, a line, a field), is not a sample: what that means, and what to do.
 * A closed list: it labels a Prometheus counter.
 */
export const REJECTION_TEXTS = {
  empty: 'the message has no bytes, or only white space: publish a sample, or nothing',
  too_large: 'the message, unpacked, is larger than MAX_MESSAGE_BYTES: send smaller ones, or raise it',
  not_json: 'this is not JSON: correct what writes it, or METRICS_FORMAT if it is something else',
  not_an_object: 'the message, or an element of its array, is no object: send name, type and value in one',
  /** Reading stops there, so an array is rejected whole. */
  too_deep: `arrays and objects are inside each other at more than ${MAX_DEPTH} levels: send flatter ones`,
  duplicate_key: 'a key comes twice in an object, or a dimension twice: send each once',
  bad_unicode: 'the text is not UTF-8, or has half of a surrogate pair: encode it as UTF-8',
  missing_name: 'the sample has no name: send one',
  bad_name: 'the name is no text, is empty or has a NUL: send another one',
  bad_type:
    'the type, in OTLP also the temporality, is missing or unknown: send counter, gauge or timer, as the format spells it',
  bad_value: 'the value is missing, or is no finite number: send a number, not a text, NaN or infinity',
  bad_dimensions:
    'a dimension has no key, or no plain value: send texts, numbers or booleans, each by its key',
  too_many_dimensions: `the sample has more dimensions than it may, ${MAX_DIMENSIONS}: send fewer`,
  /** A name, a key, a value, or all of them together; or more unknown fields than an object may have. */
  too_long:
    'a name, a dimension or another part is longer than it may be: send less (docs/input-formats.md, Limits)',
  bad_timestamp:
    'the time cannot be read: send RFC 3339 in JSON, nanoseconds in line protocol, seconds in StatsD, or none',
  /** No line of the message is line protocol; or this line is not, but others are. */
  not_line_protocol:
    'this is not line protocol: correct what writes it, or METRICS_FORMAT if it is something else',
  /** The same for StatsD. */
  not_statsd: 'this is not StatsD: correct what writes it, or METRICS_FORMAT if it is something else',
  boolean_field: 'a field is true or false, which is no number: send 0 or 1, or leave it out',
  string_field: 'a field is a text, which is no number: send it as a tag, or leave it out',
  set: 'a set counts distinct values, which cannot be added up: send a counter or a gauge',
  delta_gauge:
    'the sign says to change an earlier value, which no message holds: send the value, or set METRICS_STATSD_SIGNED_GAUGES if it is that',
  /** Also so small that counts would not be exact. */
  bad_sample_rate: 'the sample rate is not above 0 and at most 1, or far too small: send one such as @0.1',
  not_a_metric: 'this is an event or a service check of DogStatsD: send it somewhere else',
  /** Neither OTLP's protobuf nor its JSON; or this data point is not, but others are. */
  not_otlp: 'this is not OTLP, as protobuf or JSON: send the body of an ExportMetricsServiceRequest as it is',
  summary: 'percentiles that the producer computed cannot be added up: send histograms',
  no_recorded_value: 'the data point itself says that it has no value: nothing is to be done',
  missing_increment: 'no header says by how much the counter grows (Nats-Incr): publish increments',
  unknown_encoding:
    'the header Content-Encoding names one that is not read: send gzip, zstd or no such header',
  bad_encoding:
    'the message is not in the encoding that its header names, or is cut off: correct what packs it',
  /** By the header Nats-Marker-Reason. */
  delete_marker: 'nats-server stores this in place of a message that it removed: nothing is to be done',
  /** By the header Nats-Schedule. */
  schedule:
    'this tells nats-server to publish a message later, which counts once it is there: nothing is to be done',
} as const;

export type InputRejection = keyof typeof REJECTION_TEXTS;

export const REJECTIONS = Object.keys(REJECTION_TEXTS) as readonly InputRejection[];
