/** Words about differences that `verify` and `ctl verify` share. */
import { counted } from '../base/number-format.ts';

interface Judged {
  readonly windows: { readonly different: number };
}

/** Says how many windows differ, and in how many of the sinks; undefined if none does. */
export function differencesInWords(sinks: readonly Judged[]): string | undefined {
  const differing = sinks.filter(({ windows }) => windows.different > 0);
  if (differing.length === 0) return undefined;
  const count = differing.reduce((sum, { windows }) => sum + windows.different, 0);
  const many = counted(count, 'window is', 'windows are');
  const where = `${differing.length} of ${counted(sinks.length, 'sink')}`;
  return `${many} DIFFERENT, in ${where}`;
}
