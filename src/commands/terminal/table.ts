import { styleText } from 'node:util';

/** One cell; a colour shows only on a terminal. */
export type Cell =
  | string
  | { readonly text: string; readonly colour: 'green' | 'red' | 'yellow' | 'dim' | 'bold' };

export interface TableOptions {
  readonly stream?: NodeJS.WriteStream;
  /**
   * In columns: text that does not fit is cut. If absent, it is that of the terminal, or 80, and text that does not fit
   * goes on in the next line, so nothing is lost.
   */
  readonly width?: number | undefined;
}

const GAP = '  ';
const USUAL_WIDTH = 80;
const CUT = '…';
/** A column of text is not made narrower than this, nor than its longest word, such as an id, up to `LONGEST_WORD`. */
const MIN_COLUMN = 6;
const LONGEST_WORD = 24;

/**
 * Renders rows under a header, with aligned columns: numbers to the right, text to the left. If there are too many of
 * them for the width, it makes several tables, each of which begins with the first column.
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  { stream = process.stdout, width }: TableOptions = {},
): string {
  const texts = rows.map((row) => row.map((cell) => (typeof cell === 'string' ? cell : cell.text)));
  const numeric = header.map((_, column) =>
    texts.every((row) => /^[-+]?[\d.,]*(e[-+]\d+)?%?$/.test(row[column] ?? '')),
  );
  const natural = header.map((title, column) =>
    texts.reduce((most, row) => Math.max(most, columnsOf(row[column] ?? '')), columnsOf(title)),
  );
  const limit = width ?? (stream.isTTY ? stream.columns : USUAL_WIDTH);
  const narrowest = header.map((title, column) => {
    if (numeric[column]) return natural[column]!;
    if (width !== undefined) return MIN_COLUMN;
    const words = [title, ...texts.map((row) => row[column] ?? '')].flatMap((text) => text.split(' '));
    const longest = words.reduce((most, word) => Math.max(most, columnsOf(word)), MIN_COLUMN);
    return Math.min(longest, LONGEST_WORD);
  });
  const widths = fit(natural, narrowest, limit);
  const parts = partsOf(widths, limit);
  if (parts.length > 1) {
    const only = (cells: readonly Cell[], columns: readonly number[]) => columns.map((each) => cells[each]!);
    const tables = parts.map((columns) =>
      renderTable(
        only(header, columns) as string[],
        rows.map((row) => only(row, columns)),
        { stream, width },
      ),
    );
    return tables.join('\n\n');
  }
  const paintLine = (cells: readonly string[], paint: (text: string, column: number) => string) =>
    cells
      .map((text, column) => {
        const filler = ' '.repeat(Math.max(0, widths[column]! - columnsOf(text)));
        return paint(numeric[column] ? filler + text : text + filler, column);
      })
      .join(GAP)
      .trimEnd();
  const line = (cells: readonly string[], paint: (text: string, column: number) => string) => {
    if (width !== undefined)
      return paintLine(
        cells.map((text, column) => cut(text, widths[column]!)),
        paint,
      );
    const broken = cells.map((text, column) => brokenInto(text, widths[column]!));
    const lines = Math.max(...broken.map(({ length }) => length));
    return Array.from({ length: lines }, (_, i) =>
      paintLine(
        broken.map((pieces) => pieces[i] ?? ''),
        paint,
      ),
    ).join('\n');
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

/** Where programs read, every row is one line; on a terminal, the table has its columns. For `TableOptions.width`. */
export function wholeLines({ isTTY }: NodeJS.WriteStream): number | undefined {
  return isTTY ? undefined : Number.POSITIVE_INFINITY;
}

/** Likewise, but on a terminal texts are cut, down to `least` columns. */
export function cutLines({ isTTY, columns }: NodeJS.WriteStream, least = 0): number {
  return isTTY ? Math.max(least, columns) : Number.POSITIVE_INFINITY;
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
  const total = () => widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1));
  for (let over = total() - width; over > 0; over--) {
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

/** Returns the columns of each table: as many as fit, beside the first. */
function partsOf(widths: readonly number[], width: number): number[][] {
  const parts: number[][] = [];
  let room = 0;
  for (const [column, each] of widths.entries()) {
    if (column === 0) continue;
    room -= GAP.length + each;
    if (parts.length === 0 || room < 0) {
      parts.push([0]);
      room = width - widths[0]! - GAP.length - each;
    }
    parts.at(-1)!.push(column);
  }
  return parts.length === 0 ? [[0]] : parts;
}

/** Breaks a text into lines of this many columns, after a space where there is one. */
function brokenInto(text: string, columns: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (columnsOf(rest) > columns) {
    let end = 0;
    let space = 0;
    let used = 0;
    for (const { segment } of segmenter.segment(rest)) {
      used += columnsOf(segment);
      if (used > columns && end > 0) break;
      end += segment.length;
      if (segment === ' ') space = end;
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

/** Cuts the text to this many columns. */
export function cut(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let kept = '';
  let used = 0;
  for (const { segment } of segmenter.segment(text)) {
    used += columnsOf(segment);
    if (used > columns - 1) break;
    kept += segment;
  }
  return kept + CUT;
}
