/** Variables of the environment that are most likely ours and misspelt. */
import { edits, nearest } from '../base/edit-distance.ts';

/** What an orchestrator sets for a service called `metrics` or `nats` (service links): not meant for us. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;

const MAX_SLIPS = 1;

/**
 * Variables of the environment that are most likely ours and misspelt, a sentence each: those that begin with METRICS_,
 * and those that are one slip away from one of ours. The environment belongs to others as well, so they are no errors.
 */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
  known: readonly string[],
): string[] {
  const names = Object.keys(env).filter((name) => !known.includes(name) && !SERVICE_LINK.test(name));
  return names.sort().flatMap((name) => {
    const meant = nearest(name, known);
    const isNear = meant !== undefined && edits(name, meant) <= MAX_SLIPS;
    if (!isNear && !name.startsWith('METRICS_')) return [];
    return `${name} is no setting${meant === undefined ? '' : `: did you mean ${meant}?`}`;
  });
}
