/** Runs one seed, from the first start of the service to the comparison of every store with the truth. */

import { checkCoreEnd, checkStreamEnd, hasConverged } from './end.ts';
import { checkPoints } from './steady.ts';
import { drained } from './timeline.ts';
import type { Failure } from './trace.ts';
import { type Options, World } from './world.ts';

/**
 * After all faults are over: more than the longest waits of a lane, a breaker, a keeper and a replay together.
 */
const LIVENESS_MS = 180_000;
const LOOK_MS = 500;
const STOP_MS = 60_000;

export interface Outcome {
  readonly seed: number;
  readonly hash: string;
  readonly failure: Failure | undefined;
  readonly history: readonly string[];
  /** How often each kind of thing happened. */
  readonly counts: ReadonlyMap<string, number>;
  readonly world: World;
}

export async function simulate(seed: number, options: Options = {}): Promise<Outcome> {
  // Every abort makes an error. With the stack traces that a test runner asks for, they take a third of a run.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 3;
  try {
    return await run(seed, options);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

async function run(seed: number, options: Options): Promise<Outcome> {
  const world = new World(seed, options);
  const { trace, scenario } = world;
  const deadline = scenario.healedAt + LIVENESS_MS;
  await untilConverged(world, deadline);
  if (trace.failure === undefined && !hasConverged(world)) {
    checkStreamEnd(world, 'liveness');
    trace.fail('liveness', 'some lane never joins the live path, or some instance never starts');
  }
  for (const instance of world.running) {
    if (trace.failure === undefined) checkPoints(world, instance);
    world.stopForGood(instance);
  }
  await untilStopped(world);
  if (trace.failure === undefined) {
    if (scenario.mode === 'core') checkCoreEnd(world);
    else checkStreamEnd(world, 'I5');
  }
  const { hash, failure, history, counts } = trace;
  // Ends everything that is still waiting.
  for (const instance of world.everyInstance) instance.bury();
  await drained();
  return { seed, hash, failure, history, counts, world };
}

async function untilConverged(world: World, deadline: number): Promise<void> {
  const { trace, timeline, invariants, scenario } = world;
  let lookAt = timeline.now;
  while (trace.failure === undefined && timeline.now < deadline && (await timeline.step())) {
    for (const instance of world.running) invariants.step(instance);
    if (timeline.now < lookAt) continue;
    lookAt = timeline.now + LOOK_MS;
    for (const instance of world.running) invariants.look(instance);
    if (timeline.now > scenario.streamEnds && hasConverged(world)) return;
  }
}

async function untilStopped(world: World): Promise<void> {
  const { timeline, trace } = world;
  const until = timeline.now + STOP_MS;
  while (trace.failure === undefined && world.running.length > 0 && timeline.now < until) {
    if (!(await timeline.step())) return;
  }
}

/** For people: what failed, how to repeat it, and what happened before. */
export function describeFailure({ seed, failure, history, world }: Outcome): string {
  if (failure === undefined) return `seed ${seed}: all is well`;
  const { setsBack, rollsBack, emptiesStore, restoresStore, choosesNames, movesCheckpoints, ownWindows } =
    world.options;
  const forced = [
    ...(setsBack ? ['--set-back '] : []),
    ...(rollsBack ? ['--roll-back '] : []),
    ...(emptiesStore ? ['--empty '] : []),
    ...(restoresStore ? ['--restored '] : []),
    ...(choosesNames ? ['--names '] : []),
    ...(movesCheckpoints ? ['--moved '] : []),
    ...(ownWindows ? ['--windows '] : []),
  ].join('');
  const again =
    forced !== ''
      ? `npm run simulate -- ${forced}--seed ${seed}`
      : `SIM_SEED=${seed} npx vitest run test/simulation, or npm run simulate -- --seed ${seed}`;
  return [
    `seed ${seed}: ${failure.invariant}: ${failure.message}`,
    `after ${(failure.at / 1000).toFixed(3)} s; to repeat: ${again}`,
    ...history.map((line) => `  ${line}`),
  ].join('\n');
}
