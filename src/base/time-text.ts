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
