/** How tables of trials are called: when the trial began, in UTC, and a number that no other has. Pure. */
import { TRIAL_PREFIX } from '../sink/contract.ts';

/** The date and the time, without the century: as they stand in ISO 8601. */
const PATTERN = new RegExp(
  `^${TRIAL_PREFIX}(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)\\d{1,6}(_[a-z0-9]+)?$`,
);
const NUMBERS = 1e6;

export function trialName(now: number, random: number): string {
  const digits = new Date(now).toISOString().replace(/\D/g, '').slice(2, 14);
  return `${TRIAL_PREFIX}${digits}${Math.floor(random * NUMBERS)}`;
}

/** Returns when the trial began that gave this name, in ms since 1970; undefined if no trial gives such a name. */
export function trialBegan(name: string): number | undefined {
  const parts = PATTERN.exec(name)?.slice(1, 7);
  if (parts === undefined) return undefined;
  const [year, month, day, hour, minute, second] = parts;
  const time = Date.parse(`20${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(time) ? undefined : time;
}
