/** How long a trial will take, as far as that is known before it begins. Pure. */
import { counted, seconds } from '../base/number-format.ts';
import { CLIENTS } from './asking.ts';
import type { Stage } from './result.ts';

/** The second rung of a ladder is always tried: only then is it known whether more writers help. */
const LEAST_RUNGS = 2;

export interface Planned {
  readonly stores: readonly { readonly ladder: readonly number[] }[];
  /** How many are asked. */
  readonly questions: number;
  readonly secondsEach: number;
  /** Of all windows. */
  readonly points: number;
  readonly without: ReadonlySet<Stage>;
}

export interface PlannedStage {
  readonly name: string;
  readonly atLeast: number;
  readonly atMost: number;
}

/** Returns the stages whose length the trial itself sets, in seconds, if the stores do not fail. */
export function timedStages({ stores, questions, secondsEach, without }: Planned): readonly PlannedStage[] {
  const rungs = (most: number) => stores.reduce((sum, { ladder }) => sum + Math.min(most, ladder.length), 0);
  const together = stores.length > 1 ? 1 : 0;
  const asked = secondsEach * questions * CLIENTS.length * stores.length;
  const stages = [
    {
      name: 'ingest',
      atLeast: secondsEach * (rungs(LEAST_RUNGS) + together),
      atMost: secondsEach * (rungs(Number.POSITIVE_INFINITY) + together),
    },
    { name: 'questions', atLeast: asked, atMost: asked },
  ] as const;
  return stages.filter(({ name, atMost }) => !without.has(name) && atMost > 0);
}

const UNTIMED: readonly Stage[] = ['backfill', 'freshness', 'room', 'proof'];
/** What the stage backfill is called when it is left out, and what is left needs the rows. */
export const FILLING = 'filling the tables';

/** Whether anything needs rows in the tables. `questions`: how many there are to ask. */
export function needsRows({ questions, without }: Pick<Planned, 'questions' | 'without'>): boolean {
  const isAsked = questions > 0 && !without.has('questions');
  return isAsked || UNTIMED.some((stage) => !without.has(stage));
}

/** Says it in a sentence or two. */
export function planText(planned: Planned): string {
  const stages = timedStages(planned);
  const sum = (key: 'atLeast' | 'atMost') => stages.reduce((total, stage) => total + stage[key], 0);
  const between = (from: number, to: number) =>
    from === to ? seconds(from) : `${seconds(from)} to ${seconds(to)}`;
  const parts = stages.map(({ name, atLeast, atMost }) => `${name} ${between(atLeast, atMost)}`).join(', ');
  // Each client gets an answer in each round, however late.
  const slow = stages.some(({ name }) => name === 'questions') ? ', and longer where answers are slow' : '';
  const isFilling = planned.without.has('backfill') && needsRows(planned);
  const others = [...(isFilling ? [FILLING] : []), ...UNTIMED.filter((stage) => !planned.without.has(stage))];
  const known =
    stages.length === 0
      ? ''
      : `The trial takes ${between(sum('atLeast'), sum('atMost'))} by the clock (${parts}; --seconds)${slow}. `;
  if (others.length === 0) return known.trim();
  const { length } = planned.stores;
  const rows = `${counted(planned.points, 'row')}${length === 1 ? '' : ` in each of ${length} stores`}`;
  return `${known}As long as the stores take: ${others.join(', ')}, of up to ${rows}.`;
}
