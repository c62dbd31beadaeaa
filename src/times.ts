/** Times as settings and options take them. */

/** Where a pipeline or a sink without a checkpoint begins. */
export type Begin =
  | { readonly kind: 'now' }
  | { readonly kind: 'earliest' }
  | { readonly kind: 'at'; readonly ms: number };

/** RFC 3339 to milliseconds since 1970; undefined where it is none. */
export function parseTime(text: string): number | undefined {
  const isTime = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text);
  const ms = Date.parse(text);
  return isTime && Number.isFinite(ms) ? ms : undefined;
}

/** Undefined where the text is none of `now`, `earliest` and a time. */
export function parseBegin(text: string): Begin | undefined {
  if (text === 'now' || text === 'earliest') return { kind: text };
  const ms = parseTime(text);
  return ms === undefined ? undefined : { kind: 'at', ms };
}
