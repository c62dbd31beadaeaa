/** Environment variables that are most likely misspellings of ours. */
import { edits, nearest } from '../base/edit-distance.ts';

/** Variables that an orchestrator sets for a service called `metrics` or `nats` (service links): not meant for us. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;

const MAX_SLIPS = 1;

/**
 * Returns a sentence for each environment variable that is most likely a misspelling of ours: those that begin with
 * METRICS_, and those one slip away from one of ours. They are not errors: other programs share the environment.
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
    return `${name} is not a setting${meant === undefined ? '' : `: did you mean ${meant}?`}`;
  });
}
