/** Numbers as people read them. */
const BYTE_UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;
/** Below this, a whole number would hide too much. */
const WHOLE_FROM = 100;
export const NO_VALUE = '–';

export function amount(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: value < WHOLE_FROM ? 1 : 0 });
}

/** Returns such as `1 window`, `2,000 windows`. `many`: the word for several, if it is not `one` with an s. */
export function counted(count: number, one: string, many = `${one}s`): string {
  const text = amount(count);
  return `${text} ${text === '1' ? one : many}`;
}

export function perSecond(value: number): string {
  return `${amount(value)}/s`;
}

export function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  return `${amount(value / 1000 ** power)} ${BYTE_UNITS[power]}`;
}

export function seconds(value: number): string {
  if (value < 0.001) return '< 1 ms';
  if (value < 1) return `${amount(value * 1000)} ms`;
  if (value < 120) return `${amount(value)} s`;
  return value < 7200 ? `${amount(value / 60)} min` : `${amount(value / 3600)} h`;
}

/** Of a latency in ms: also below 1 ms, with two digits that count. */
export function milliseconds(value: number): string {
  return value < 1 ? `${Number(value.toPrecision(2))} ms` : seconds(value / 1000);
}

export function percent(share: number): string {
  return `${amount(100 * share)} %`;
}

/** Of less than ten cents, two digits that count: what is not free is not 0.00. */
const CENTS_FROM = 0.1;

export function dollars(value: number): string {
  if (value > 0 && value < CENTS_FROM)
    return `${value.toLocaleString('en', { maximumSignificantDigits: 2, maximumFractionDigits: 20 })} USD`;
  return `${value.toLocaleString('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 })} USD`;
}

/** Returns text such as `3 timeout, 1 connection`, the greatest first; empty if all are 0. */
export function byReason(counts: Readonly<Record<string, number>>): string {
  const present = Object.entries(counts).filter(([, count]) => count > 0);
  present.sort(([, a], [, b]) => b - a);
  return present.map(([reason, count]) => `${amount(count)} ${reason.replaceAll('_', ' ')}`).join(', ');
}

export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
