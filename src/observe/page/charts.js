/** The charts of the last hour, drawn by uPlot. Each also has its figures as text. */
import { byId, fillChildren, make, setAttribute, setText } from './dom.js';

/** @typedef {import('../history.ts').Charts} Charts */
/** @typedef {import('../history.ts').Moment} Moment */
/** @typedef {{ key: string, label: string, upper?: string }} Line `upper`: another value of it, drawn thinner. */
/**
 * @typedef {{
 *   title: string,
 *   lines: (sinks: readonly string[]) => Line[],
 *   show: (value: number) => string,
 *   isHighest?: true,
 * }} ChartKind `isHighest`: each value is the highest of its interval, which may be over by now.
 */

const KEPT_SECONDS = 3600;
const CHART_HEIGHT = 170;
/** Values come every ten seconds. After a longer silence the line has a hole. */
const HOLE_SECONDS = 25;
/** How the lines of one chart differ, apart from their colour. */
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
const COLOURS = 6;

const plainNumber = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, notation: 'compact' });
/** If the chart covers less than this, its ticks need seconds to be told apart. */
const SHORT_SECONDS = 600;
/** As in the log, in the status and in the stores: so that times can be compared. */
const clock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZone: 'UTC',
});

/** @param {number} value */
const inSeconds = (value) =>
  value < 1
    ? `${plainNumber.format(1000 * value)} ms`
    : value < 120
      ? `${plainNumber.format(value)} s`
      : `${plainNumber.format(value / 60)} min`;
/** @param {number} value */
const inNumbers = (value) => plainNumber.format(value);

/** @param {string} name */
const perSink = (name) => (/** @type {readonly string[]} */ sinks) =>
  sinks.map((id) => ({ key: `${name}:${id}`, label: id }));

/** @type {readonly ChartKind[]} */
const CHART_KINDS = [
  { title: 'Messages per second', lines: () => [{ key: 'messages', label: 'messages' }], show: inNumbers },
  {
    title: 'Samples per second, by type',
    lines: () => ['counter', 'gauge', 'timer'].map((type) => ({ key: type, label: type })),
    show: inNumbers,
  },
  {
    title: 'Lag beyond WINDOW + LATENESS, highest',
    lines: perSink('late'),
    show: inSeconds,
    isHighest: true,
  },
  { title: 'Write latency, p99', lines: perSink('write'), show: inSeconds },
  { title: 'Backlog in points', lines: perSink('backlog'), show: inNumbers },
  {
    title: 'Queries, p50 and p95',
    lines: (sinks) => sinks.map((id) => ({ key: `asked50:${id}`, label: id, upper: `asked95:${id}` })),
    show: inSeconds,
  },
];

/** @param {string} name */
function styleOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

class Chart {
  /** @param {ChartKind} kind @param {readonly string[]} sinks */
  constructor(kind, sinks) {
    this.kind = kind;
    this.lines = kind.lines(sinks);
    this.title = make('figcaption', {}, kind.title);
    this.legend = make('ul', { class: 'legend' });
    this.plotArea = make('div', { class: 'plot', role: 'img' });
    this.figure = make('figure', {}, this.title, this.plotArea, this.legend);
    /** @type {Charts} */
    this.charts = { times: [], columns: {} };
    /** @type {import('uplot') | undefined} */
    this.plot = undefined;
    /** @type {number | null} */
    this.cursor = null;
  }

  /** Draws the chart again, in the current colours and width. */
  draw() {
    const width = this.plotArea.clientWidth;
    if (width === 0) return;
    this.plot?.destroy();
    this.plot = new uPlot(this.options(width), this.data(), this.plotArea);
    this.describe();
  }

  /** @param {number} width @returns {import('uplot').Options} */
  options(width) {
    const axis = {
      stroke: styleOf('--quiet'),
      grid: { stroke: styleOf('--grid'), width: 1 },
      ticks: { show: false },
    };
    return {
      width,
      height: CHART_HEIGHT,
      legend: { show: false },
      // The same moment in all charts.
      cursor: { drag: { x: false, y: false }, points: { size: 6 }, sync: { key: 'charts' } },
      tzDate: (time) => uPlot.tzDate(new Date(1000 * time), 'Etc/UTC'),
      scales: { x: { time: true }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        {
          ...axis,
          size: 32,
          gap: 9,
          space: 70,
          values: (_, times) => {
            const shown = (times.at(-1) ?? 0) - (times[0] ?? 0) < SHORT_SECONDS ? 8 : 5;
            return times.map((time) => clock.format(1000 * time).slice(0, shown));
          },
        },
        {
          ...axis,
          size: 58,
          space: 28,
          values: (_, values) => values.map((value) => (value === 0 ? '0' : this.kind.show(value))),
        },
      ],
      series: [
        {},
        ...this.lines.flatMap(({ label, upper }, index) => {
          const series = {
            label,
            stroke: styleOf(`--line-${index % COLOURS}`),
            dash: [...(DASHES[index % DASHES.length] ?? [])],
            width: 2,
            spanGaps: false,
            points: { show: this.charts.times.length < 3 },
          };
          return upper === undefined ? [series] : [series, { ...series, width: 1 }];
        }),
      ],
      hooks: {
        setCursor: [
          (plot) => {
            this.cursor = plot.cursor.idx ?? null;
            this.describe();
          },
        ],
      },
    };
  }

  /** @returns {import('uplot').AlignedData} */
  data() {
    const { times, columns } = this.charts;
    const keys = this.lines.flatMap(({ key, upper }) => (upper === undefined ? [key] : [key, upper]));
    return [[...times], ...keys.map((key) => [...(columns[key] ?? [])])];
  }

  /** @param {Charts} charts */
  update(charts) {
    this.charts = charts;
    if (this.plot === undefined) this.draw();
    else this.plot.setData(this.data());
    this.describe();
  }

  /** Shows the figures under the pointer, or the last ones. For those who cannot see the lines, it gives the range. */
  describe() {
    const { times, columns } = this.charts;
    const at = this.cursor !== null && this.cursor < times.length ? this.cursor : times.length - 1;
    const time = times[at];
    const when = this.cursor === null || time === undefined ? '' : ` at ${clock.format(1000 * time)} UTC`;
    setText(this.title, this.kind.title + when);
    /** @param {number | null | undefined} value */
    const shown = (value) => (value === null || value === undefined ? '–' : this.kind.show(value));
    /** @param {Line} line @param {number} index */
    const valueAt = ({ key, upper }, index) => {
      const text = shown(columns[key]?.at(index));
      return upper === undefined ? text : `${text} to ${shown(columns[upper]?.at(index))}`;
    };
    fillChildren(
      this.legend,
      this.lines,
      () => make('li', {}, make('i', { 'aria-hidden': 'true' }), make('span', {}), make('b', {})),
      (child, line, index) => {
        const [mark, name, value] = child.children;
        if (!mark || !name || !value) return;
        setAttribute(mark, 'class', `mark line-${index % COLOURS} dash-${index % DASHES.length}`);
        setText(name, line.label);
        setText(value, at < 0 ? '–' : `${this.kind.isHighest ? 'highest ' : ''}${valueAt(line, at)}`);
      },
    );
    if (this.cursor !== null) return;
    const words = this.lines.map((line) => {
      const { key, label } = line;
      const values = (columns[key] ?? []).filter((value) => value !== null);
      if (values.length === 0) return `${label}: no data yet`;
      const range = `between ${shown(Math.min(...values))} and ${shown(Math.max(...values))}`;
      return `${label}: now ${valueAt(line, -1)}, ${range}`;
    });
    setAttribute(this.plotArea, 'aria-label', `Chart. ${this.kind.title}. ${words.join('; ')}.`);
  }
}

export class ChartBoard {
  constructor() {
    /** @type {readonly Chart[]} */
    this.all = [];
    /** @type {Charts} */
    this.charts = { times: [], columns: {} };
    this.sinks = '';
    addEventListener('resize', () => this.draw());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
  }

  /** @param {readonly string[]} sinks */
  isOf(sinks) {
    return this.all.length > 0 && this.sinks === sinks.join();
  }

  /** @param {readonly string[]} sinks @param {Charts} charts */
  begin(sinks, charts) {
    if (!this.isOf(sinks)) {
      this.sinks = sinks.join();
      this.all = CHART_KINDS.map((kind) => new Chart(kind, sinks));
      byId('charts').replaceChildren(...this.all.map(({ figure }) => figure));
    }
    this.charts = charts;
    this.update();
  }

  /** @param {Moment} moment */
  add({ time, values }) {
    const { times, columns } = this.charts;
    const last = times.at(-1) ?? 0;
    const added = time - last > HOLE_SECONDS && times.length > 0 ? [last + 1, time] : [time];
    const all = [...times, ...added];
    const kept = all.findIndex((each) => each >= time - KEPT_SECONDS);
    const names = new Set([...Object.keys(columns), ...Object.keys(values)]);
    const next = Array.from(names, (name) => {
      const before = columns[name] ?? times.map(() => null);
      const more = added.map((each) => (each === time ? (values[name] ?? null) : null));
      return [name, [...before, ...more].slice(kept)];
    });
    this.charts = { times: all.slice(kept), columns: Object.fromEntries(next) };
    this.update();
  }

  update() {
    const [first] = this.charts.times;
    const last = this.charts.times.at(-1) ?? 0;
    const isShort = first !== undefined && last - first < KEPT_SECONDS - 2 * HOLE_SECONDS;
    const since = isShort ? `, since ${clock.format(1000 * first)} UTC` : ', in UTC';
    setText(byId('charts-since'), since);
    for (const chart of this.all) chart.update(this.charts);
  }

  draw() {
    for (const chart of this.all) chart.draw();
  }
}
