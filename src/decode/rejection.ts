/**
 * Why a message, or an element of it (of an array, a line, a field), is not a sample. A closed list: it labels a
 * Prometheus counter.
 */
export const REJECTIONS = [
  /** No bytes, or only white space. */
  'empty',
  'too_large',
  'not_json',
  /** A message, or an element of an array. */
  'not_an_object',
  /** Reading stops there, so an array is rejected whole. */
  'too_deep',
  'duplicate_key',
  /** Not UTF-8, or half of a surrogate pair. */
  'bad_unicode',
  'missing_name',
  'bad_name',
  'bad_type',
  'bad_value',
  'bad_dimensions',
  'too_many_dimensions',
  /** A name, a key, a value, or all of them together; or more unknown fields than an object may have. */
  'too_long',
  'bad_timestamp',
  /** No line of the message is line protocol; or this line is not, but others are. */
  'not_line_protocol',
  /** The same for StatsD. */
  'not_statsd',
  /** Line protocol: a field's value is not a number, and so not a sample. */
  'boolean_field',
  'string_field',
  /** StatsD: counts of distinct values cannot be added up. */
  'set',
  /** StatsD: a gauge's value with a sign changes the earlier value, which no message holds. */
  'delta_gauge',
  /** StatsD: the rate is not above 0 and at most 1, or is so small that counts would not be exact. */
  'bad_sample_rate',
  /** DogStatsD: an event or a service check. */
  'not_a_metric',
  /** Neither OTLP's protobuf nor its JSON; or this data point is not, but others are. */
  'not_otlp',
  /** OTLP: percentiles that the producer computed cannot be added up. */
  'summary',
  /** OTLP: a data point that says that there is no value. */
  'no_recorded_value',
  /** A counter of NATS: no header says by how much it grows (`Nats-Incr`). */
  'missing_increment',
  /** The header `Content-Encoding` names an encoding that we do not read. */
  'unknown_encoding',
  /** The message is not in the encoding that its header names, or is truncated. */
  'bad_encoding',
  /** What the server stores in place of the last message of a subject that it removed (`Nats-Marker-Reason`). */
  'delete_marker',
  /** What tells the server to publish a message later (`Nats-Schedule`): that message counts, once it is there. */
  'schedule',
] as const;

export type InputRejection = (typeof REJECTIONS)[number];
