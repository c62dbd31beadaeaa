/** Charts as SVG without scripts: they are in the file, look the same when printed, and follow light and dark. Pure. */
import { escaped } from './html.ts';

/** In units of the picture: as wide as a narrow screen, so that the text stays legible there. */
const WIDTH = 420;
const LABEL_HEIGHT = 15;
const BAR_HEIGHT = 13;
/** In characters. */
const MAX_LABEL = 66;
const GAP = 9;
const PLOT_HEIGHT = 190;
const LEFT = 52;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 30;
/** Room at the end of the longest bar for its value. */
const VALUE_WIDTH = 70;

/** How many colours and marks there are; then they begin again. */
const STYLES = 6;
/** A mark of its own for each line, for those who do not see the colours. */
const MARKS = ['●', '■', '▲', '◆', '✚', '★'] as const;

export function styleOf(index: number): number {
  return index % STYLES;
}

export function markOf(index: number): string {
  return MARKS[styleOf(index)]!;
}

export interface ChartBar {
  /** The number of its store, for the colour. */
  readonly store: number;
  readonly name: string;
  /** Undefined: there is no value, and `text` says why. */
  readonly value: number | undefined;
  readonly text: string;
}

export interface BarGroup {
  readonly label: string;
  readonly bars: readonly ChartBar[];
}

function svg(height: number, label: string, content: string): string {
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(label)}">${content}</svg>`;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${round(x)}" y="${round(y)}"${attributes === '' ? '' : ` ${attributes}`}>${escaped(content)}</text>`;
}

function cut(label: string): string {
  return label.length <= MAX_LABEL ? label : `${label.slice(0, MAX_LABEL - 1)}…`;
}

const round = (value: number) => Math.round(10 * value) / 10;

/** Groups of bars, one below the other. `isLog`: lengths by powers of ten, for values that are far apart. */
export function barChart(label: string, groups: readonly BarGroup[], isLog: boolean): string {
  const values = groups.flatMap(({ bars }) => bars.flatMap(({ value }) => value ?? []));
  const lengthOf = scale(values, isLog);
  let y = 0;
  let content = '';
  for (const group of groups) {
    content += text(0, y + LABEL_HEIGHT - 3, cut(group.label));
    y += LABEL_HEIGHT + 2;
    for (const bar of group.bars) {
      const length = bar.value === undefined ? 0 : Math.max(2, lengthOf(bar.value) * (WIDTH - VALUE_WIDTH));
      if (bar.value !== undefined)
        content += `<rect class="fill-${styleOf(bar.store)}" y="${y}" width="${round(length)}" height="${BAR_HEIGHT - 2}" rx="2"/>`;
      const shown = `${markOf(bar.store)} ${bar.text}`;
      content += text(length + 5, y + BAR_HEIGHT - 3, shown, 'class="value"');
      y += BAR_HEIGHT;
    }
    y += GAP;
  }
  return svg(y, label, content);
}

/** Returns a function to lengths from 0 to 1. */
function scale(values: readonly number[], isLog: boolean): (value: number) => number {
  const most = Math.max(...values, Number.MIN_VALUE);
  if (!isLog) return (value) => value / most;
  const positive = values.filter((value) => value > 0);
  // The smallest bar still has a length.
  const least = Math.min(...positive, most) / 2;
  const span = Math.log(most / least);
  return (value) => (span > 0 && value > 0 ? Math.max(0, Math.log(value / least) / span) : 1);
}

export interface ChartLine {
  readonly store: number;
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export interface LineChartOptions {
  readonly label: string;
  /** What the x axis counts. */
  readonly unit: string;
  readonly isLog: boolean;
  readonly format: (value: number) => string;
}

/** Lines over a few numbers, which are equally far apart, whatever they are. */
export function lineChart(
  lines: readonly ChartLine[],
  { label, unit, isLog, format }: LineChartOptions,
): string {
  const xs = [...new Set(lines.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const ys = lines.flatMap(({ points }) => points.map(({ y }) => y));
  const ticks = ticksOf(ys, isLog);
  const [low, high] = [ticks[0] ?? 0, ticks.at(-1) ?? 1];
  const shareOf = (y: number) =>
    isLog ? Math.log(y / low) / Math.log(high / low || 1) : (y - low) / (high - low || 1);
  const bottom = PLOT_HEIGHT - BOTTOM;
  const atY = (y: number) => round(bottom - shareOf(y) * (bottom - TOP));
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, xs.length - 1);
  const atX = (x: number) => round(LEFT + (xs.length === 1 ? (WIDTH - LEFT) / 2 : xs.indexOf(x) * step));
  const grid = ticks.map(
    (tick) =>
      `<path class="grid" d="M${LEFT} ${atY(tick)}H${WIDTH - RIGHT}"/>` +
      text(LEFT - 6, atY(tick) + 4, format(tick), 'text-anchor="end" class="value"'),
  );
  const axis = xs.map((x) => text(atX(x), bottom + 15, String(x), 'text-anchor="middle" class="value"'));
  const unitText = text(WIDTH - RIGHT, PLOT_HEIGHT - 2, unit, 'text-anchor="end" class="value"');
  const drawn = lines.map(({ store, points }) => {
    const path = points.map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${atX(x)} ${atY(y)}`).join('');
    const marks = points.map(({ x, y }) =>
      text(atX(x), atY(y) + 4, markOf(store), `text-anchor="middle" class="fill-${styleOf(store)} mark"`),
    );
    return `<path class="line stroke-${styleOf(store)}" d="${path}"/>${marks.join('')}`;
  });
  return svg(PLOT_HEIGHT, label, [...grid, ...axis, unitText, ...drawn].join(''));
}

const TICKS = 4;

/** Returns round numbers from below the least to above the greatest value. */
function ticksOf(values: readonly number[], isLog: boolean): number[] {
  const positive = values.filter((value) => value > 0);
  const most = Math.max(...positive, 1e-3);
  if (isLog) {
    const first = Math.floor(Math.log10(Math.min(...positive, most)));
    const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
    return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
  }
  const rough = most / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step);
}
