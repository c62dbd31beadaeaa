/** Series with names, keys and values that may break the quoting, the keys or the limits of some store. */
import { HOSTILE_TEXTS } from '../conformance/points.ts';

const TEXTS = [
  ...HOSTILE_TEXTS,
  "'; DROP TABLE fanout_points; --",
  '"; DROP SERIES FROM /.*/; --',
  '`id` $(reboot)',
  'requests value=1 1\nrequests value=2 2',
  '# HELP x y',
  'pk#0123456789abcdef0123456789abcdef#2026-01-01T00:00:00.000Z#',
  '\0',
  'nul\0byte',
  '\r',
  ' ',
  '\u001b[31m\u0007',
  '\ufeff\u200b\u202e',
  '\u{10ffff}\uffff',
  'U__a_2e_b',
  'le',
  'window_start',
];
/** At the limits of the decoder, in bytes of UTF-8. */
const LONG = { name: '\u{1f600}'.repeat(128), key: '\u00e9'.repeat(128), value: "'".repeat(4096) };

export interface OddSeries {
  readonly name: string;
  readonly dimensions: Readonly<Record<string, string>>;
}

/** Each text as a name, as a key and as a value. */
export function oddSeries(): OddSeries[] {
  const odd = 'odd';
  return [
    ...[...TEXTS, LONG.name].map((name) => ({ name, dimensions: { odd } })),
    // Not by assignment: assigning to `__proto__` would set the prototype.
    ...[...TEXTS, LONG.key].map((key) => ({ name: odd, dimensions: Object.fromEntries([[key, odd]]) })),
    ...[...TEXTS, LONG.value].map((value) => ({ name: odd, dimensions: { odd: value } })),
  ];
}
