import { styleText } from 'node:util';
import { NO_VALUE } from '../../base/number-format.ts';

/** One cell; a colour shows only on a terminal. */
export type Cell =
  | string
  | { readonly text: string; readonly colour: 'green' | 'red' | 'yellow' | 'dim' | 'bold' };

export interface TableOptions {
  readonly stream?: NodeJS.WriteStream;
  /** In columns. If absent, that of the terminal; where programs read, every row is one line, however long. */
  readonly width?: number | undefined;
  /** The columns that identify a row: if there are several tables, each has them. By default, the first. */
  readonly keys?: readonly number[];
  /** Keys that do not fit are cut, but stay distinct. Any other text that does not fit goes on in the next line. */
  readonly cutsKeys?: boolean;
}

interface Column {
  readonly title: string;
  readonly texts: readonly string[];
  readonly isNumeric: boolean;
  readonly isKey: boolean;
  /** The width of its longest text. */
  readonly natural: number;
}

interface Layout {
  readonly widths: readonly number[];
  /** Whether keys are cut. */
  readonly isCut: boolean;
}

const GAP = '  ';
const CUT = '…';
/** A column of text is not made narrower than this, nor than its longest word, such as an id, up to `LONGEST_WORD`. */
const MIN_COLUMN = 6;
const LONGEST_WORD = 24;
/** A key is not cut to less than this, and all together not to less than this part of the width. */
const MIN_CUT_KEY = 10;
const KEYS_SHARE = 1 / 3;

const NUMBER = /^[-+]?[\d.,]*(e[-+]\d+)?%?$/;
/** Where a line may end: not between a number and its unit. */
const BREAK = /(?<!\d) | (?=\d)/;

/**
 * Renders rows under a header, with aligned columns: numbers to the right, text to the left. A number is never cut. If
 * there are too many columns for the width, it makes several tables, each with the keys.
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  options: TableOptions = {},
): string {
  const { stream = process.stdout, keys = [0], cutsKeys = false } = options;
  const limit = options.width ?? (stream.isTTY ? stream.columns : Number.POSITIVE_INFINITY);
  const texts = rows.map((row) => row.map((cell) => (typeof cell === 'string' ? cell : cell.text)));
  const columns = header.map((title, column) =>
    columnOf(
      title,
      texts.map((row) => row[column] ?? ''),
      keys.includes(column),
    ),
  );
  const { widths, isCut } = layoutOf(columns, limit, cutsKeys);
  const parts = partsOf(widths, keys, limit);
  if (parts.length > 1) {
    const only = <T>(cells: readonly T[], part: readonly number[]) => part.map((each) => cells[each]!);
    const tables = parts.map((part) =>
      renderTable(
        only(header, part),
        rows.map((row) => only(row, part)),
        { stream, width: limit, keys: keys.map((key) => part.indexOf(key)), cutsKeys },
      ),
    );
    return tables.join('\n\n');
  }
  const line = (cells: readonly string[], paint: (text: string, column: number) => string) => {
    const broken = cells.map((text, column) =>
      isCut && columns[column]!.isKey ? [cut(text, widths[column]!)] : brokenInto(text, widths[column]!),
    );
    const count = Math.max(...broken.map(({ length }) => length));
    const filled = (text: string, column: number) => {
      const filler = ' '.repeat(Math.max(0, widths[column]! - columnsOf(text)));
      return columns[column]!.isNumeric ? filler + text : text + filler;
    };
    const lines = Array.from({ length: count }, (_, i) =>
      broken.map((pieces, column) => paint(filled(pieces[i] ?? '', column), column)).join(GAP),
    );
    return lines.map((each) => each.trimEnd()).join('\n');
  };
  const colourOf = (row: number, column: number, text: string) => {
    const cell = rows[row]?.[column];
    return cell === undefined || typeof cell === 'string' ? text : styleText(cell.colour, text, { stream });
  };
  return [
    line(header, (text) => styleText('bold', text, { stream })),
    ...texts.map((cells, row) => line(cells, (text, column) => colourOf(row, column, text))),
  ].join('\n');
}

/** The width for a table whose rows stay one line each, and are cut on a terminal: down to `least` columns. */
export function cutLines({ isTTY, columns }: NodeJS.WriteStream, least = 0): number {
  return isTTY ? Math.max(least, columns) : Number.POSITIVE_INFINITY;
}

function columnOf(title: string, texts: readonly string[], isKey: boolean): Column {
  return {
    title,
    texts,
    isKey,
    isNumeric: texts.every((text) => text === NO_VALUE || NUMBER.test(text)),
    natural: texts.reduce((most, text) => Math.max(most, columnsOf(text)), columnsOf(title)),
  };
}

/** Narrows columns until they fit, if they can. */
function layoutOf(columns: readonly Column[], limit: number, cutsKeys: boolean): Layout {
  const natural = columns.map((column) => column.natural);
  if (totalOf(natural) <= limit) return { widths: natural, isCut: false };
  const least = columns.map((column) =>
    column.isKey && cutsKeys ? leastWhenCut(column) : leastWhenBroken(column),
  );
  const keys = columns.flatMap(({ isKey }, column) => (isKey ? [column] : []));
  const ofKeys = (widths: readonly number[]) => keys.map((column) => widths[column]!);
  const widestOther = least.reduce((most, each, i) => (columns[i]!.isKey ? most : Math.max(most, each)), 0);
  const room = limit - widestOther - GAP.length;
  let narrowest = fit(ofKeys(natural), ofKeys(least), limit * KEYS_SHARE);
  const isCut = cutsKeys && totalOf(narrowest) <= room;
  // With no room for one more column beside so many keys, these are broken into lines as short as need be.
  if (totalOf(narrowest) > room)
    narrowest = fit(
      ofKeys(natural),
      keys.map(() => MIN_COLUMN),
      room,
    );
  for (const [i, column] of keys.entries()) least[column] = narrowest[i]!;
  return { widths: fit(natural, least, limit), isCut };
}

function leastWhenBroken({ title, texts, isNumeric, natural }: Column): number {
  if (isNumeric) return natural;
  let least = MIN_COLUMN;
  for (const word of [title, ...texts].flatMap((text) => text.split(BREAK))) {
    const columns = columnsOf(word);
    least = Math.max(least, NUMBER.test(word) ? columns : Math.min(columns, LONGEST_WORD));
  }
  return least;
}

/** Returns the least width in which different texts still look different, and numbers are whole. */
function leastWhenCut({ title, texts, isNumeric, natural }: Column): number {
  if (isNumeric) return natural;
  const different = new Set(texts);
  const differentAt = (width: number) => new Set(Array.from(different, (text) => cut(text, width))).size;
  const numbers = [...different].filter((text) => NUMBER.test(text)).map(columnsOf);
  let least = Math.min(natural, Math.max(MIN_CUT_KEY, Math.min(columnsOf(title), LONGEST_WORD), ...numbers));
  // The wider, the more of each text is seen.
  for (let most = natural; least < most; ) {
    const width = Math.floor((least + most) / 2);
    if (differentAt(width) === different.size) most = width;
    else least = width + 1;
  }
  return least;
}

function totalOf(widths: readonly number[]): number {
  return widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1));
}

/** Renders one line of a table whose rows come one after another. `widths`: of every column but the last. */
export function renderLine(
  cells: readonly Cell[],
  widths: readonly number[],
  stream: NodeJS.WriteStream = process.stdout,
): string {
  const shown = cells.map((cell, column) => {
    const text = typeof cell === 'string' ? cell : cell.text;
    const filled = text + ' '.repeat(Math.max(0, (widths[column] ?? 0) - columnsOf(text)));
    return typeof cell === 'string' ? filled : styleText(cell.colour, filled, { stream });
  });
  return shown.join(GAP).trimEnd();
}

/** Narrows the widest columns of those that may be narrower until the table fits, if it can. */
function fit(natural: readonly number[], narrowest: readonly number[], width: number): number[] {
  const widths = [...natural];
  for (let over = totalOf(widths) - width; over > 0; over--) {
    const widest = widths.reduce(
      (best, each, column) =>
        each > narrowest[column]! && each > (widths[best] ?? MIN_COLUMN) ? column : best,
      -1,
    );
    if (widest < 0) break;
    widths[widest]! -= 1;
  }
  return widths;
}

/** Returns the columns of each table, in order: the keys, and as many others as fit beside them. */
function partsOf(widths: readonly number[], keys: readonly number[], width: number): number[][] {
  const ofKeys = keys.reduce((sum, key) => sum + widths[key]! + GAP.length, 0);
  const parts: number[][] = [];
  let room = 0;
  for (const [column, each] of widths.entries()) {
    if (keys.includes(column)) continue;
    if (parts.length === 0 || room < each) {
      parts.push([...keys]);
      room = width - ofKeys;
    }
    parts.at(-1)!.push(column);
    room -= each + GAP.length;
  }
  return parts.length === 0 ? [[...keys]] : parts.map((part) => part.sort((a, b) => a - b));
}

/** Breaks a text into lines of this many columns, after a space where there is one. */
export function brokenInto(text: string, columns: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (columnsOf(rest) > columns) {
    const breaks = new Set(Array.from(rest.matchAll(new RegExp(BREAK, 'g')), ({ index }) => index + 1));
    let end = 0;
    let space = 0;
    let used = 0;
    for (const { segment } of segmenter.segment(rest)) {
      used += columnsOf(segment);
      if (used > columns && end > 0) break;
      end += segment.length;
      if (breaks.has(end)) space = end;
    }
    const at = space > 0 && end < rest.length ? space : end;
    lines.push(rest.slice(0, at).trimEnd());
    rest = rest.slice(at);
  }
  return [...lines, rest];
}

const segmenter = new Intl.Segmenter();
/** Characters that terminals show two columns wide: East Asian scripts and emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u;

/** Returns how many columns of a terminal the text takes. The text must be printable. */
export function columnsOf(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) columns += WIDE.test(segment) ? 2 : 1;
  return columns;
}

/** Cuts the text to this many columns, in the middle: the names of a system often differ at their ends. */
export function cut(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  const segments = Array.from(segmenter.segment(text), ({ segment }) => segment);
  const take = (from: readonly string[], most: number) => {
    let used = 0;
    const past = from.findIndex((segment) => {
      used += columnsOf(segment);
      return used > most;
    });
    return from.slice(0, past);
  };
  const room = columns - columnsOf(CUT);
  const head = take(segments, Math.ceil(room / 2)).join('');
  const tail = take(segments.toReversed(), room - columnsOf(head)).reverse();
  return `${head}${CUT}${tail.join('')}`;
}
