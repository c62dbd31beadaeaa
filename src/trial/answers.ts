/** What a question's answer must be, from the windows themselves, and how an answer differs from it. Pure. */

import { METRIC_TYPES } from '../aggregate/point.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { counted } from '../base/number-format.ts';
import type { Query, QueryRow, WindowRange } from '../sink/contract.ts';
import { seriesDimension } from '../sink/rows.ts';

/** Stores add floating-point numbers in any order: so far apart may two sums of the same numbers be. */
const TOLERANCE = 1e-9;

const TIMER_TYPE = METRIC_TYPES.indexOf('timer');

interface Row {
  readonly key: readonly string[];
  value: number;
}

/** Adds up rows by their keys, as SQL does. */
class Rows {
  readonly #rows = new Map<string, Row>();

  at(key: readonly string[], start: number): Row {
    const text = JSON.stringify(key);
    let row = this.#rows.get(text);
    if (row === undefined) {
      row = { key, value: start };
      this.#rows.set(text, row);
    }
    return row;
  }

  all(): Row[] {
    return [...this.#rows.values()];
  }
}

/** Returns the true answer. Points whose sum is not finite are in no store. Of `top`, all rows, the largest first. */
export function trueAnswer(query: Query, windows: readonly ClosedWindow[]): QueryRow[] {
  const rows = new Rows();
  const series = new Set<string>();
  for (const { window, index } of pointsWithin(windows, query.range)) {
    switch (query.kind) {
      case 'sums':
        addSum(rows, query, window, index);
        break;
      case 'windows': {
        const isOther = window.nameOf(index) !== query.series.name;
        if (isOther || window.point(index).series.id !== query.series.id) break;
        rows.at([String(window.start)], 0).value += window.sumOf(index);
        break;
      }
      case 'highest_p99': {
        if (window.typeOf(index) !== TIMER_TYPE || window.nameOf(index) !== query.name) break;
        const row = rows.at([], Number.NEGATIVE_INFINITY);
        row.value = Math.max(row.value, window.point(index).p99 ?? Number.NEGATIVE_INFINITY);
        break;
      }
      case 'live_series':
        series.add(window.records.idOf(window.refs[index]!));
        break;
      default:
        query satisfies never;
    }
  }
  if (query.kind === 'live_series') return [{ key: [], value: series.size }];
  const all = rows.all();
  return query.kind === 'sums' && query.top !== undefined ? all.sort((a, b) => b.value - a.value) : all;
}

function* pointsWithin(windows: readonly ClosedWindow[], { from, to }: WindowRange) {
  for (const window of windows) {
    if (window.start < from || window.start >= to) continue;
    for (let index = 0; index < window.size; index++)
      if (Number.isFinite(window.sumOf(index))) yield { window, index };
  }
}

function addSum(
  rows: Rows,
  { name, type, where, by, stepMs }: Extract<Query, { kind: 'sums' }>,
  window: ClosedWindow,
  index: number,
): void {
  if (METRIC_TYPES[window.typeOf(index)] !== type || window.nameOf(index) !== name) return;
  const { series } = window.point(index);
  if (where.some(([dimension, value]) => seriesDimension(series, dimension) !== value)) return;
  const step = stepMs === undefined ? [] : [String(Math.floor(window.start / stepMs) * stepMs)];
  rows.at([...step, ...by.map((dimension) => seriesDimension(series, dimension))], 0).value +=
    window.sumOf(index);
}

/** The latest time that a Date can hold. */
const MAX_TIME_MS = 8.64e15;

/** Says how an answer differs from the truth; undefined if it does not. `isOverTime`: the first of a key is a time. */
export function differenceFrom(
  truth: readonly QueryRow[],
  answer: readonly QueryRow[],
  { top, isOverTime = false }: { readonly top?: number | undefined; readonly isOverTime?: boolean } = {},
): string | undefined {
  const named = (key: readonly string[]) => keyInWords(key, isOverTime);
  const expected = new Map(truth.map(({ key, value }) => [JSON.stringify(key), value]));
  const wanted = Math.min(top ?? truth.length, truth.length);
  const seen = new Set<string>();
  const wrong: string[] = [];
  // Of equal values at the end of a top list, any may be in it: so it must have the largest values.
  const least = top === undefined ? Number.NEGATIVE_INFINITY : (truth[wanted - 1]?.value ?? 0);
  for (const { key, value } of answer) {
    const text = JSON.stringify(key);
    const right = expected.get(text);
    if (right === undefined) wrong.push(`${named(key)} is ${value}, and should not be there`);
    else if (seen.has(text)) wrong.push(`${named(key)} is there twice`);
    else if (!isNear(value, right)) wrong.push(`${named(key)} is ${value}, not ${right}`);
    else if (value < least && !isNear(value, least))
      wrong.push(`${named(key)} is not among the ${top} largest`);
    seen.add(text);
  }
  if (wrong.length === 0 && seen.size === wanted) return undefined;
  const missing = truth.slice(0, wanted).filter(({ key }) => !seen.has(JSON.stringify(key)));
  const [first = missing[0] === undefined ? '' : `${named(missing[0].key)} is missing`] = wrong;
  const rows = `${counted(answer.length, 'row')}, ${wrong.length} of them wrong, and there should be ${wanted}`;
  return `${first} (${rows})`;
}

function isNear(a: number, b: number): boolean {
  return Math.abs(a - b) <= TOLERANCE * Math.max(Math.abs(a), Math.abs(b));
}

function keyInWords(key: readonly string[], isOverTime: boolean): string {
  if (key.length === 0) return 'the value';
  const ms = Number(key[0]);
  // What a store answers may be anything.
  const isTime = isOverTime && Math.abs(ms) <= MAX_TIME_MS;
  const [time, rest] = isTime ? [[new Date(ms).toISOString()], key.slice(1)] : [[], key];
  return [...time, ...rest.map((part) => JSON.stringify(part))].join(', ');
}
