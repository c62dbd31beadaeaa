/** What options of the commands take; an unacceptable text is an error that says what was expected. */
import { InvalidArgumentError } from 'commander';
import { setting } from '../settings.ts';
import { parseTime } from '../times.ts';

export function number(min: number, max: number) {
  return (text: string) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!(value >= min && value <= max))
      throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
    return value;
  };
}

export function integer(min: number, max: number) {
  return (text: string) => {
    const value = number(min, max)(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
    return value;
  };
}

/** Milliseconds, at least 1. */
export function duration(text: string): number {
  const { parse, expected } = setting.duration({ meaning: '', required: true });
  const ms = parse(text);
  if (ms === undefined || ms === 0) throw new InvalidArgumentError(`Expected ${expected}.`);
  return ms;
}

/** Milliseconds since 1970. */
export function time(text: string): number {
  const ms = parseTime(text);
  if (ms === undefined)
    throw new InvalidArgumentError('Expected an RFC 3339 time such as 2026-11-23T01:30:00Z.');
  return ms;
}
