/** The charts as they are kept over a restart: one value a minute, in bounded room. Pure. */
import type { Charts, Moment } from './history.ts';

const STEP_SECONDS = 60;
const KEPT_SECONDS = 3600;
/** A value in the bucket may have 64 KiB. With very many sinks, fewer minutes are kept, or none. */
const MAX_CHARACTERS = 60_000;

interface KeptHistory {
  readonly times: readonly number[];
  readonly columns: Charts['columns'];
}

/** Returns the last hour as text, undefined if there is nothing to keep. */
export function historyText(charts: Charts): string | undefined {
  const minutes = byMinute(charts);
  for (let first = 0; first < minutes.length; first = Math.ceil((first + minutes.length) / 2)) {
    const text = JSON.stringify(asKept(charts, minutes.slice(first)));
    if (text.length <= MAX_CHARACTERS) return text;
  }
  return undefined;
}

/** Returns the indices of the values of each minute. */
function byMinute({ times }: Charts): number[][] {
  return [...Map.groupBy(times.keys(), (index) => Math.floor(times[index]! / STEP_SECONDS)).values()];
}

function asKept({ times, columns }: Charts, minutes: readonly (readonly number[])[]): KeptHistory {
  return {
    times: minutes.map((indices) => times[indices.at(-1)!]!),
    columns: Object.fromEntries(
      Object.entries(columns).map(([name, values]) => [
        name,
        // Of what a sink is like, the worst is of interest.
        minutes.map((indices) => highest(indices.flatMap((index) => values[index] ?? []))),
      ]),
    ),
  };
}

function highest(values: readonly number[]): number | null {
  return values.length === 0 ? null : Math.max(...values);
}

/**
 * Returns what the text holds of the hour before `before` (seconds since 1970), and then a moment without values: a
 * line must not go on over a restart. Nothing if the text is something else.
 */
export function momentsOf(text: string, before: number): Moment[] {
  const kept = parse(text);
  if (kept === undefined) return [];
  const entries = Object.entries(kept.columns);
  const moments = kept.times.map((time, index) => ({
    time,
    values: Object.fromEntries(entries.map(([name, values]) => [name, values[index] ?? null])),
  }));
  const recent = moments.filter(({ time }) => time >= before - KEPT_SECONDS && time < before - 1);
  const last = recent.at(-1);
  return last === undefined ? [] : [...recent, { time: last.time + 1, values: {} }];
}

function parse(text: string): KeptHistory | undefined {
  let value: Partial<KeptHistory> | null;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { times, columns } = value ?? {};
  const isAscending = (all: readonly number[]) => all.every((time, i) => i === 0 || time > all[i - 1]!);
  if (!Array.isArray(times) || !times.every(Number.isFinite) || !isAscending(times)) return undefined;
  if (typeof columns !== 'object' || columns === null) return undefined;
  const isColumn = (values: unknown) =>
    Array.isArray(values) && values.every((each) => each === null || Number.isFinite(each));
  return Object.values(columns).every(isColumn) ? { times, columns } : undefined;
}
