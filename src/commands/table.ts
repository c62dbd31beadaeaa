import { styleText } from 'node:util';

/** One cell; a colour shows only on a terminal. */
export type Cell = string | { readonly text: string; readonly colour: 'green' | 'red' | 'yellow' | 'dim' };

const GAP = '  ';

/** Rows under a header, columns aligned: numbers to the right, text to the left. Fits no width: callers keep it narrow. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  stream = process.stdout,
): string {
  const texts = rows.map((row) => row.map((cell) => (typeof cell === 'string' ? cell : cell.text)));
  const widths = header.map((title, column) =>
    Math.max(title.length, ...texts.map((row) => row[column]?.length ?? 0)),
  );
  const numeric = header.map((_, column) => texts.every((row) => /^[\d.,%-]*$/.test(row[column] ?? '')));
  const line = (cells: readonly string[], paint: (text: string, column: number) => string) =>
    cells
      .map((text, column) => {
        const padded = numeric[column] ? text.padStart(widths[column]!) : text.padEnd(widths[column]!);
        return paint(padded, column);
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
