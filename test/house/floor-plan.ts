/** Draws the floors of the house as an SVG picture, the highest on top. */

const WIDTH = 760;
const ROW = 30;
const MARGIN = 16;
const NAME_WIDTH = 120;
/** Each floor is narrower by this much on either side than the one below: an import can only go down. */
const STEP = 6;

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** `floors` from the ground up: name, and what is on it. */
export function floorPlan(floors: readonly (readonly [name: string, what: string])[]): string {
  const height = 2 * MARGIN + ROW * floors.length;
  const rows = floors.map(([name, what], index) => {
    const y = height - MARGIN - ROW * (index + 1);
    const inset = STEP * index;
    const width = WIDTH - 2 * MARGIN - 2 * inset;
    const base = y + 20;
    return [
      `  <rect class="floor" x="${MARGIN + inset}" y="${y + 2}" width="${width}" height="${ROW - 4}" rx="4"/>`,
      `  <text class="name" x="${MARGIN + STEP * floors.length}" y="${base}">${escaped(name)}</text>`,
      `  <text class="what" x="${MARGIN + STEP * floors.length + NAME_WIDTH}" y="${base}">${escaped(what)}</text>`,
    ].join('\n');
  });
  const list = floors.map(([name]) => name).join(', ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="The floors of the source, from the ground up: ${list}">
  <style>
    .floor { fill: #eef3fb; stroke: #8aa4cc; }
    .name { font: 600 14px ui-monospace, monospace; fill: #1d2b44; }
    .what { font: 13px system-ui, sans-serif; fill: #43526b; }
    @media (prefers-color-scheme: dark) {
      .floor { fill: #1c2637; stroke: #4d6690; }
      .name { fill: #e3ebf8; }
      .what { fill: #b3c0d6; }
    }
  </style>
${rows.reverse().join('\n')}
</svg>
`;
}
