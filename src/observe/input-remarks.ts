/** What producers sent that is not as they meant it, in sentences, for whoever looks at the sinks only. Pure. */
import { amount, counted, percent, seconds, total } from '../base/number-format.ts';
import { type InputRejection, REJECTION_TEXTS } from '../decode/rejection.ts';
import type { Counts, Status } from './status.ts';

/** So many late samples, or such ahead of the bus, are said: the share at which the alert fires. */
const MUCH = 0.05;
const MAX_REASONS = 4;

/** Since the start; none if all is well. Each is a whole sentence. */
export function inputRemarks({ messages, samples, windows, source }: Status): string[] {
  const rejected = rejectedInWords(
    messages.rejected,
    samples.rejected,
    'since the start',
    source.kind !== 'core',
  );
  const placed = total(samples.byType) - samples.foreign;
  const misplaced = (count: number, what: string) =>
    count > placed * MUCH
      ? [
          `${amount(count)} of ${counted(placed, 'sample')} (${percent(count / placed)}) ${what}: they count in the window in which they came.`,
        ]
      : [];
  const late = `came later than LATENESS (${seconds(windows.latenessMs / 1000)}) after their window`;
  const ahead = `are ahead of the bus by more than MAX_AHEAD (${seconds(windows.maxAheadMs / 1000)})`;
  return [
    ...(rejected === undefined ? [] : [`${rejected}.`]),
    ...misplaced(samples.late, late),
    ...misplaced(samples.ahead, ahead),
  ];
}

/**
 * By reason, the most frequent first, as `tail` names them. `isStored`: the stream may still hold them. Undefined if
 * nothing was rejected.
 */
export function rejectedInWords(
  messages: Counts,
  parts: Counts,
  where: string,
  isStored = true,
): string | undefined {
  const whole = total(messages);
  const some = total(parts);
  if (whole + some === 0) return undefined;
  const sorted = mostFrequent(messages, parts);
  const reasons = sorted.slice(0, MAX_REASONS).map(([reason, count]) => `${reason} ${amount(count)}`);
  const others = sorted.length - reasons.length;
  const what = [
    ...(whole > 0 ? [counted(whole, 'message')] : []),
    // Elements of arrays, lines, fields.
    ...(some > 0 ? [`${counted(some, 'part')} of ${whole > 0 ? 'others' : 'messages'}`] : []),
  ].join(' and ');
  const listed = [...reasons, ...(others > 0 ? [counted(others, 'other reason')] : [])].join(', ');
  return `${what} rejected ${where} (${listed}); metrics-fanout tail --rejected${isStored ? ' --from 10m' : ''} shows such messages`;
}

/** Says of each reason that `rejectedInWords` names what it means, and what to do. */
export function rejectionsExplained(messages: Counts, parts: Counts): string[] {
  const reasons = mostFrequent(messages, parts).slice(0, MAX_REASONS);
  return reasons.flatMap(([reason]) => {
    // A newer version may have others.
    const text: string | undefined = REJECTION_TEXTS[reason as InputRejection];
    return text === undefined ? [] : `${reason}: ${text}`;
  });
}

function mostFrequent(messages: Counts, parts: Counts): [reason: string, count: number][] {
  const counts = new Map<string, number>();
  for (const [reason, count] of [...Object.entries(messages), ...Object.entries(parts)])
    if (count > 0) counts.set(reason, (counts.get(reason) ?? 0) + count);
  return [...counts].sort(([, a], [, b]) => b - a);
}
