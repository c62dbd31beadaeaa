/** Environment variables that are most likely misspellings of ours. */
import { isOneEdit, nearest } from '../base/edit-distance.ts';

/** Variables that an orchestrator sets for a service called `metrics` or `nats` (service links): not meant for us. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;

/** Last words of names that other programs use for the same. */
const SYNONYMS: readonly (readonly string[])[] = [
  ['USER', 'USERNAME', 'LOGIN'],
  ['PASSWORD', 'PASS', 'PASSWD', 'PWD'],
  ['URL', 'URI', 'HOST', 'ADDRESS', 'ENDPOINT', 'DSN'],
  ['DATABASE', 'DB', 'DBNAME'],
  ['ENABLED', 'ENABLE', 'ON', 'ACTIVE'],
  ['KIND', 'TYPE'],
];

function synonymsOf(word: string): readonly string[] {
  return SYNONYMS.find((words) => words.includes(word)) ?? [];
}

/** Returns the known variable that was most likely meant: one with another word for the same, or the nearest. */
export function meantVariable(variable: string, known: readonly string[]): string | undefined {
  const at = variable.lastIndexOf('_') + 1;
  const others = synonymsOf(variable.slice(at)).map((word) => variable.slice(0, at) + word);
  return others.find((other) => known.includes(other)) ?? nearest(variable, known);
}

/** Of a variable of a sink that no other variable names: the one that names it, if that was meant. */
export function meantToName(variable: string): string | undefined {
  const at = variable.lastIndexOf('_') + 1;
  const meant = ['ENABLED', 'KIND'].find((word) => synonymsOf(variable.slice(at)).includes(word));
  return meant && variable.slice(0, at) + meant;
}

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
    // Most names of an environment are far from all of ours, which is told much sooner than how far.
    if (!name.startsWith('METRICS_') && !known.some((each) => isOneEdit(name, each))) return [];
    const meant = nearest(name, known);
    return `${name} is not a setting${meant === undefined ? '' : `: did you mean ${meant}?`}`;
  });
}
