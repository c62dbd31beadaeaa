/** Which names a sink gets, obviously: up to the checkpoint at the start what that says, and then the setting. */
import type { NameChoice } from '../../src/bus/kv/checkpoints.ts';
import { type ChosenNames, nameMatcher } from '../../src/deliver/name-choices.ts';

/** Whether the sink gets the name in the window. */
export type Gives = (name: string, start: number, windowMs: number) => boolean;

export const GIVES_ALL: Gives = () => true;

/** As a checkpoint says. */
export function givenBy(choices: readonly NameChoice[] = []): Gives {
  const parsed = choices.map(({ from, slice, names }) => ({ from, slice, takes: nameMatcher(names) }));
  return (name, start, windowMs) => {
    const own = parsed.filter(({ slice }) => slice === undefined || isIn(slice, start / windowMs));
    const choice = own.findLast(({ from }) => from <= start) ?? own[0];
    return choice?.takes(name) ?? true;
  };
}

function isIn(slice: string, number: number): boolean {
  const [index, of] = slice.split('/').map(Number);
  return number % of! === index;
}

/** What an instance gives: before `next` as the checkpoint says by which it began, then by its setting. */
export function givenFrom(next: number, before: Gives, names: ChosenNames): Gives {
  const takes = nameMatcher(names);
  return (name, start, windowMs) => (start < next ? before(name, start, windowMs) : takes(name));
}
