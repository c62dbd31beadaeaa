/** Sets of moments as half-open ranges, in ms since 1970: ascending, and never two that touch. */
export interface TimeRange {
  readonly from: number;
  readonly to: number;
}

export type Ranges = readonly TimeRange[];

export function withRange(ranges: Ranges, { from, to }: TimeRange): Ranges {
  if (!(from < to)) return ranges;
  const apart = ranges.filter((range) => range.to < from || range.from > to);
  const touching = ranges.filter((range) => range.to >= from && range.from <= to);
  const joined = {
    from: Math.min(from, ...touching.map((range) => range.from)),
    to: Math.max(to, ...touching.map((range) => range.to)),
  };
  return [...apart, joined].sort((a, b) => a.from - b.from);
}

export function withoutRange(ranges: Ranges, { from, to }: TimeRange): Ranges {
  if (!(from < to)) return ranges;
  return ranges.flatMap((range) => [
    ...(range.from < Math.min(from, range.to) ? [{ from: range.from, to: Math.min(from, range.to) }] : []),
    ...(Math.max(to, range.from) < range.to ? [{ from: Math.max(to, range.from), to: range.to }] : []),
  ]);
}

/** Returns the part of the ranges that is within one. */
export function partsWithin(ranges: Ranges, { from, to }: TimeRange): Ranges {
  return ranges.flatMap((range) => {
    const part = { from: Math.max(from, range.from), to: Math.min(to, range.to) };
    return part.from < part.to ? [part] : [];
  });
}

/** Returns what of the range none of the ranges has. */
export function missingOf(ranges: Ranges, range: TimeRange): Ranges {
  return ranges.reduce((left, one) => withoutRange(left, one), withRange([], range));
}

export function isWithin(ranges: Ranges, moment: number): boolean {
  return ranges.some(({ from, to }) => moment >= from && moment < to);
}
