/** Why a message, or an element of an array, is not a sample. A closed list: it labels a Prometheus counter. */
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
] as const;

export type Rejection = (typeof REJECTIONS)[number];
