/** A line of the log as people read it. Pure. */
import { styleText } from 'node:util';
import { printable } from './printable.ts';

/** `auto`: text where stderr is a terminal, JSON elsewhere. */
export const LOG_FORMATS = ['auto', 'json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

const COLOURS: Readonly<Record<string, 'dim' | 'green' | 'yellow' | 'red'>> = {
  debug: 'dim',
  info: 'green',
  warn: 'yellow',
  error: 'red',
};
const LEVEL_COLUMNS = 5;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Returns `01:30:00.250 WARN  message  key=value`, and what to do about it on a line of its own. The day is left out: a
 * terminal shows what happens now.
 */
export function lineForPeople(fields: Fields, isColoured: boolean): string {
  const { level, time, msg, advice, ...others } = fields;
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    isColoured ? styleText(style, text, { validateStream: false }) : text;
  const name = String(level);
  const label = paint(COLOURS[name] ?? 'dim', name.toUpperCase().padEnd(LEVEL_COLUMNS));
  const at = paint('dim', String(time).slice('yyyy-mm-ddT'.length, -'Z'.length));
  const pairs = Object.entries(others).map(
    ([key, value]) => paint('dim', `${printable(key)}=`) + shown(value),
  );
  const line = [`${at} ${label} ${printable(String(msg))}`, ...pairs].join('  ');
  return advice === undefined ? line : `${line}\n${' '.repeat(LEVEL_COLUMNS)}${printable(String(advice))}`;
}

/** Words stand as they are; anything that could be taken for more than one value is JSON. */
function shown(value: unknown): string {
  const isPlain = typeof value === 'string' && /^[^\s"'=[\]{}]+$/.test(value);
  return printable(isPlain ? value : JSON.stringify(value));
}
