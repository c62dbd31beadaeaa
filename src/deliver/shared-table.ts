/** The words for two sinks whose stores say the same identity, with windows of two lengths. */

/** `other`: the sink with the shorter windows, which goes on. */
export function sharedTableInWords(other: string): string {
  return `the sink ${other} writes windows of another length to the same table, or to one that this is a copy of`;
}

export const SHARED_TABLE_ADVICE = 'Give one of them a new table';
