/** Times as text, in settings and options. */

/** Where a pipeline or a sink begins if it has no checkpoint. */
export type StartSetting =
  | { readonly kind: 'now' }
  | { readonly kind: 'earliest' }
  | { readonly kind: 'at'; readonly ms: number };

/** Converts RFC 3339 to milliseconds since 1970; returns undefined for any other text. */
export function parseTime(text: string): number | undefined {
  const isTime = /^\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text);
  const ms = Date.parse(text);
  return isTime && isDay(text.slice(0, 'yyyy-mm-dd'.length)) && Number.isFinite(ms) ? ms : undefined;
}

const DAY_MS = 86_400_000;
/** In milliseconds, as settings and options name them. */
export const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: DAY_MS,
};

/** Converts `90s`, `10m` or `1h` to milliseconds; returns undefined for any other text. */
export function parseDuration(text: string): number | undefined {
  const [, amount, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  return unit === undefined ? undefined : Number(amount) * DURATION_UNITS[unit]!;
}

const PAST_UNITS: Readonly<Record<string, number>> = {
  ...DURATION_UNITS,
  sec: 1000,
  min: 60_000,
  w: 7 * DAY_MS,
};
const MAX_PARTS = 8;

/** Converts `90s`, `10min`, `1h30m`, `1.5h` or `1w` to milliseconds. */
export function parseSpan(text: string): number | undefined {
  if (!/^(\d{1,9}(\.\d{1,3})?(s|sec|m|min|h|d|w))+$/.test(text)) return undefined;
  const parts = [...text.matchAll(/([\d.]+)([a-z]+)/g)].map(([, amount, unit]) => ({
    amount: Number(amount),
    ms: PAST_UNITS[unit!]!,
  }));
  // `30m1h` and `1h1h` are most likely slips.
  const isInOrder = parts.every(({ ms }, i) => i === 0 || ms < parts[i - 1]!.ms);
  return isInOrder && parts.length <= MAX_PARTS
    ? Math.round(parts.reduce((sum, { amount, ms }) => sum + amount * ms, 0))
    : undefined;
}

/**
 * Converts what people type for a time in the past to milliseconds since 1970: RFC 3339, the same without a zone or as
 * SQLite prints it (`2026-11-30 14:33:25`), a day (its first moment), a time of day (the last one before `now`), how
 * long ago (`90s`, `10m`, `1h30m`, `7d`) or `now`. What has no zone is UTC.
 */
export function parsePast(text: string, now: number): number | undefined {
  if (text === 'now') return now;
  const ago = parseSpan(text);
  // Nothing was published before 1970, and a `Date` ends somewhere.
  if (ago !== undefined) return ago <= now ? now - ago : undefined;
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return parseTime(`${text}T00:00:00Z`);
  const [, hours, seconds = ':00'] = /^(\d\d:\d\d)(:\d\d)?[Zz]?$/.exec(text) ?? [];
  if (hours === undefined) return parseTime(withZone(text));
  const today = new Date(now).toISOString().slice(0, 'yyyy-mm-dd'.length);
  const ms = parseTime(`${today}T${hours}${seconds}Z`);
  return ms !== undefined && ms > now ? ms - DAY_MS : ms;
}

/** `2026-11-30 14:33:25`, `2026-11-30T14:33` -> `2026-11-30T14:33:25Z`. */
function withZone(text: string): string {
  const [, day, minutes, seconds = ':00', zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?$/.exec(text) ?? [];
  return day === undefined ? text : `${day}T${minutes}${seconds}${zone}`;
}

/** Whether the day exists: `Date` reads 30 February as 2 March. */
function isDay(text: string): boolean {
  const ms = Date.parse(text);
  return Number.isFinite(ms) && new Date(ms).toISOString().startsWith(text);
}

/** Returns undefined if the text is neither `now` nor `earliest` nor a time. */
export function parseStart(text: string): StartSetting | undefined {
  if (text === 'now' || text === 'earliest') return { kind: text };
  const ms = parseTime(text);
  return ms === undefined ? undefined : { kind: 'at', ms };
}
