/** Times as settings and options take them. */

/** Where a pipeline or a sink without a checkpoint begins. */
export type StartSetting =
  | { readonly kind: 'now' }
  | { readonly kind: 'earliest' }
  | { readonly kind: 'at'; readonly ms: number };

/** RFC 3339 to milliseconds since 1970; undefined where it is none. */
export function parseTime(text: string): number | undefined {
  const isTime = /^\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text);
  const ms = Date.parse(text);
  return isTime && isDay(text.slice(0, 'yyyy-mm-dd'.length)) && Number.isFinite(ms) ? ms : undefined;
}

/** `Date` takes 30 February for 2 March. */
function isDay(text: string): boolean {
  const ms = Date.parse(text);
  return Number.isFinite(ms) && new Date(ms).toISOString().startsWith(text);
}

/** Undefined where the text is none of `now`, `earliest` and a time. */
export function parseStart(text: string): StartSetting | undefined {
  if (text === 'now' || text === 'earliest') return { kind: text };
  const ms = parseTime(text);
  return ms === undefined ? undefined : { kind: 'at', ms };
}
