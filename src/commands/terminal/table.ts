import { styleText } from 'node:util';

/** One cell; a colour shows only on a terminal. */
export type Cell =
  | string
  | { readonly text: string; readonly colour: 'green' | 'red' | 'yellow' | 'dim' | 'bold' };

export interface TableOptions {
  readonly stream?: NodeJS.WriteStream;
  /** Width of the terminal, in columns: text that does not fit is cut. Unlimited if absent. */
  readonly width?: number | undefined;
}

const GAP = '  ';
const CUT = '…';
/** A column of text is not made narrower than this. */
const MIN_COLUMN = 6;

/** Renders rows under a header, with aligned columns: numbers to the right, text to the left. */
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
  const widths = width === undefined ? natural : fit(natural, numeric, width);
  const line = (cells: readonly string[], paint: (text: string, column: number) => string) =>
    cells
      .map((text, column) => {
        const shown = cut(text, widths[column]!);
        const filler = ' '.repeat(Math.max(0, widths[column]! - columnsOf(shown)));
        return paint(numeric[column] ? filler + shown : shown + filler, column);
      })
      .join(GAP)
      .trimEnd();
  const colourOf = (row: number, column: number, text: string) => {
    const cell = rows[row]?.[column];
    return cell === undefined || typeof cell === 'string' ? text : styleText(cell.colour, text, { stream });
  };
  return [
    line(header, (text) => styleText('bold', text, { stream })),
    ...texts.map((cells, row) => line(cells, (text, column) => colourOf(row, column, text))),
  ].join('\n');
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

/** Narrows the widest columns of text until the table fits. Numbers are never cut. */
function fit(natural: readonly number[], numeric: readonly boolean[], width: number): number[] {
  const widths = [...natural];
  const total = () => widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1));
  for (let over = total() - width; over > 0; over--) {
    const widest = widths.reduce(
      (best, each, column) => (!numeric[column] && each > (widths[best] ?? MIN_COLUMN) ? column : best),
      -1,
    );
    if (widest < 0) break;
    widths[widest]! -= 1;
  }
  return widths;
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
