/**
 * Why a message, or an element of it (of an array, a line, a field), is not a sample. A closed list: it labels a
 * Prometheus counter.
 */
export const REJECTIONS = [
  /** No bytes, or white space only. */
  'empty',
  'too_large',
  'not_json',
  /** Of an array's element too. */
  'not_an_object',
  /** Not followed further, so an array is rejected whole. */
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
  /** A name, a key, a value or all of them together. */
  'too_long',
  'bad_timestamp',
  /** None of a message's lines can be read as line protocol; or one of them, where others can. */
  'not_line_protocol',
  /** The same for StatsD. */
  'not_statsd',
  /** Line protocol: a field's value that is no number, and no sample. */
  'boolean_field',
  'string_field',
  /** StatsD: how many different values there were cannot be added up. */
  'set',
  /** StatsD: a gauge's value with a sign is a change of what it was before, which no message says. */
  'delta_gauge',
  /** StatsD: not above 0 and at most 1, or so small that counts would not be exact. */
  'bad_sample_rate',
  /** DogStatsD: an event or a service check. */
  'not_a_metric',
  /** The header `Content-Encoding` is none of those that are read. */
  'unknown_encoding',
  /** The message is not what its header says, or is cut off. */
  'bad_encoding',
] as const;

export type InputRejection = (typeof REJECTIONS)[number];
