/** What a seed decides before a run begins: the settings, the sinks, and the time of each fault. */

import { SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import type { InputShape, WindowShape } from '../../src/aggregate/tiling.ts';
import type { StartSetting } from '../../src/base/time-text.ts';
import { inputOf } from '../../src/decode/formats.ts';
import type { ChosenNames } from '../../src/deliver/name-choices.ts';
import type { PipelinePace } from '../../src/deliver/pipeline.ts';
import type { SinkLimits } from '../../src/sink/contract.ts';
import type { OracleSettings, OracleShape } from '../aggregate/oracle.ts';
import type { RuleTexts } from '../aggregate/shaping-oracle.ts';
import { settingsOf } from '../decode/rules.ts';
import type { Chance } from './chance.ts';
import { PROFILES, type Profile } from './profiles.ts';

/** Virtual time of the first start of the service. */
export const START = 1_700_000_000_000;

export const PIPELINE = 'p';

export interface Phase {
  /** Virtual time from which the store behaves like this. */
  readonly at: number;
  readonly profile: Profile;
}

export interface SinkPlan {
  readonly id: string;
  readonly limits: SinkLimits;
  readonly timeoutMs: number;
  readonly backlogBytes: number;
  readonly begin: StartSetting;
  /** The start of the service from which it is configured: 0 is the first. */
  readonly fromStart: number;
  readonly phases: readonly Phase[];
  /** Always healthy: nothing that happens to the others may delay it. */
  readonly steady: boolean;
  /** How many of a hundred series are refused for good. */
  readonly poison: number;
  /** Which names it gets, by how often the service was started before: then from the first again. Absent: all. */
  readonly names?: readonly ChosenNames[];
  /** The length of its windows, if it has windows of its own. */
  readonly windowMs?: number;
  /** When it loses everything, once. */
  readonly emptiedAt?: number;
  /** When it gets the content again that it had at an earlier time, once. */
  readonly restored?: { readonly at: number; readonly from: number };
}

export type Fault =
  | { readonly kind: 'kill'; readonly instance: number; readonly downMs: number }
  /** Dies at a later step, whatever it is doing then: this covers crash points that no clock hits. */
  | {
      readonly kind: 'kill-at-step';
      readonly instance: number;
      readonly downMs: number;
      readonly steps: number;
    }
  | { readonly kind: 'stop'; readonly instance: number; readonly downMs: number }
  /** An operator pauses a sink, and resumes it later. */
  | { readonly kind: 'pause'; readonly instance: number; readonly sink: string; readonly ms: number }
  /** An operator moves the checkpoint of a sink that runs. */
  | ({ readonly kind: 'move'; readonly instance: number; readonly sink: string } & Move)
  | { readonly kind: 'disconnect'; readonly instance: number; readonly ms: number }
  | { readonly kind: 'lose-consumers'; readonly instance: number }
  | { readonly kind: 'checkpoints'; readonly mode: CheckpointMode };

export interface Move {
  readonly way: 'back' | 'ahead' | 'reset';
  /** How many windows it goes back. */
  readonly windows: number;
  /** At the same time, the store loses what is to be written again: otherwise nobody would see whether it is. */
  readonly loses: boolean;
}

export type CheckpointMode = 'healthy' | 'slow' | 'down' | 'hanging' | 'lying';

/** A change of the windows' shape. It is stored at `announcedAt` by the true clock, and begins at `later`. */
export interface ShapeChange {
  readonly announcedAt: number;
  readonly delayMs: number;
}

export interface RollbackPlan {
  /** By the true clock. */
  readonly at: number;
  /** How many of the last messages are taken back. */
  readonly depth: number;
  /** How many others take their place at once, as if a new leader had them: with stream times from before. */
  readonly others: number;
  /** Whether some consumers do not notice, and go on when the stream reaches their position again. */
  readonly consumersLive: boolean;
}

export interface Scenario extends OracleSettings {
  readonly input?: InputShape;
  readonly mode: 'stream' | 'core';
  readonly change: ShapeChange;
  readonly idleSlackMs: number;
  readonly stopTimeoutMs: number;
  /** For every pipeline. With few steps, hardly any message is read in one turn. */
  readonly pace: PipelinePace;
  /** 2: one instance for each slice. */
  readonly slices: number;
  readonly instances: number;
  /** All instances end at once, and this many start instead, each with a slice of its own. */
  readonly reslice: { readonly at: number; readonly slices: number } | undefined;
  /** The server's clock minus the true one. */
  readonly serverOffsetMs: number;
  /** The server's clock is set back, once. */
  readonly setBack: { readonly at: number; readonly ms: number } | undefined;
  /** The stream is rolled back, once. */
  readonly rollback: RollbackPlan | undefined;
  /** By instance: its clock minus the true one. */
  readonly clockOffsetsMs: readonly number[];
  readonly batchMessages: number;
  /** The maximum latency of the network. */
  readonly latencyMs: number;
  /** While faults last, one in this many attempts to attach fails; 0: none. */
  readonly attachFailures: number;
  readonly streamBegins: number;
  readonly streamEnds: number;
  readonly messagesPerSecond: number;
  /** Messages older than this are removed from the stream; Infinity: none. */
  readonly maxAgeOfMessagesMs: number;
  readonly sinks: readonly SinkPlan[];
  readonly faults: readonly (Fault & { readonly at: number })[];
  /** From then on, all faults of instances and bus are over. */
  readonly calmAt: number;
  /** From then on, all stores are healthy too. */
  readonly healedAt: number;
}

const PLAIN = { metricsFormat: 'auto', metricsCounters: undefined } as const;
export const PLAIN_INPUT = inputOf(PLAIN);
const WINDOWS_MS = [500, 1000, 1000, 2000];
/** A multiple of all window lengths. */
const COMMON_MS = 2000;
/** The most by which the server's clock is set back. */
const SET_BACK_MS = 3000;

/** Faults that happen in every run, not only in some. */
export interface Forced {
  /** The server's clock is set back. */
  readonly setsBack?: boolean;
  /** The stream is rolled back. */
  readonly rollsBack?: boolean;
  /** A store is emptied. */
  readonly emptiesStore?: boolean;
  /** A store gets older content. */
  readonly restoresStore?: boolean;
  /** Sinks get some names only, and others after a restart. */
  readonly choosesNames?: boolean;
  /** Operators move checkpoints of sinks that run. */
  readonly movesCheckpoints?: boolean;
  /** Sinks have windows of their own. */
  readonly ownWindows?: boolean;
}

export function drawScenario(
  chance: Chance,
  {
    setsBack = false,
    rollsBack = false,
    emptiesStore = false,
    restoresStore = false,
    choosesNames = false,
    movesCheckpoints = false,
    ownWindows = false,
  }: Forced = {},
): Scenario {
  const isForced =
    setsBack || rollsBack || emptiesStore || restoresStore || choosesNames || movesCheckpoints || ownWindows;
  const core = !isForced && chance.bool(0.12);
  const windowMs = chance.pick(WINDOWS_MS);
  const activeMs = chance.int(15_000, 40_000);
  const calmAt = START + activeMs;
  const healedAt = chance.bool(0.5) ? calmAt : calmAt + chance.int(10_000, 40_000);
  // Windows of its own have to be of one instance.
  const slices = !core && chance.bool(0.1) && !ownWindows ? 2 : 1;
  // A standby would write its own checkpoint over one that is moved: it is refused then.
  const instances = slices > 1 ? slices : chance.bool(0.2) && !movesCheckpoints ? 2 : 1;
  const standby = instances > slices;
  const streamBegins = core ? START : START - chance.int(0, 20_000);
  const serverOffsetMs = chance.bool(0.5) ? 0 : chance.int(-5000, 5000);
  const shape = drawShape(chance, windowMs, ownWindows);
  const change = {
    announcedAt: !core && chance.bool(0.3) ? START + chance.int(0, activeMs) : Number.POSITIVE_INFINITY,
    delayMs: chance.pick([1000, 4000, 60_000]),
  };
  const soonest = change.announcedAt + serverOffsetMs + change.delayMs + SET_BACK_MS + 1000;
  const begins = Math.ceil(soonest / COMMON_MS) * COMMON_MS;
  const changed = drawShape(chance, chance.pick(WINDOWS_MS), ownWindows);
  const later = Number.isFinite(begins) ? [{ ...changed, from: begins }] : [];
  const setBack =
    core || !(setsBack || chance.bool(0.12))
      ? undefined
      : { at: START + chance.int(5000, activeMs), ms: chance.pick([50, 500, SET_BACK_MS]) };
  const reslice =
    core || standby || !chance.bool(0.1) || ownWindows
      ? undefined
      : {
          at: START + chance.int(3000, activeMs - 1000),
          slices: chance.pick([1, 2, 3].filter((n) => n !== slices)),
        };
  const rollback = core || !(rollsBack || chance.bool(0.12)) ? undefined : drawRollback(chance, activeMs);
  const isRewritten = setBack !== undefined || rollback !== undefined;
  const clocks = Math.max(instances, reslice?.slices ?? 0);
  // A hot standby that begins with `now` would begin at another time.
  const begin = drawBegin(chance, streamBegins, standby);
  const plans = drawSinks(chance, { windowMs, calmAt, healedAt, core, begin });
  const named = choosesNames ? chooseNames(chance, plans) : plans;
  const drawn = ownWindows ? lengthen(chance, named) : named;
  const maxAgeOfMessagesMs =
    !core && !isRewritten && !movesCheckpoints && chance.bool(0.2)
      ? chance.int(4000, 20_000)
      : Number.POSITIVE_INFINITY;
  // Of the windows that a truncated stream no longer has, and of rewritten ones, less is known.
  const mayBeEmptied = !core && !isRewritten && !Number.isFinite(maxAgeOfMessagesMs);
  const empties = mayBeEmptied && (emptiesStore || chance.bool(0.12));
  // A backup may be of a store that had lost what was about to be written again, and says otherwise.
  const mayBeRestored = mayBeEmptied && !empties && !movesCheckpoints;
  const restores = mayBeRestored && (restoresStore || chance.bool(0.12));
  const emptied = empties ? emptyOne(chance, drawn, activeMs) : drawn;
  const sinks = restores ? restoreOne(chance, drawn, activeMs) : emptied;
  return {
    ...shape,
    mode: core ? 'core' : 'stream',
    later,
    change,
    // An estimate of the server's clock is never ahead of it, unless the clock was set back by less than can be
    // noticed.
    idleSlackMs: chance.int(setBack === undefined ? 0 : 100, 1000),
    stopTimeoutMs: chance.pick([500, 3000, 10_000]),
    pace: {
      stepsPerTurn: chance.pick([1, 1, 30, 1000]),
      maxWaitingBytes: chance.pick([300, 1_000_000]),
      pointsPerTurn: chance.pick([1, 2, 1000]),
    },
    slices,
    instances,
    serverOffsetMs,
    setBack,
    rollback,
    reslice,
    clockOffsetsMs: Array.from({ length: clocks }, () => (chance.bool(0.7) ? 0 : chance.int(-2000, 2000))),
    batchMessages: chance.pick([3, 10, 40, 200]),
    latencyMs: chance.pick([2, 20, 60]),
    attachFailures: chance.pick([0, 0, 3, 10]),
    streamBegins,
    streamEnds: healedAt + chance.int(0, 5000),
    messagesPerSecond: chance.pick([1, 4, 8, 12]),
    maxAgeOfMessagesMs,
    sinks,
    faults: drawFaults(chance, {
      activeMs,
      instances: clocks,
      disturbedAt: [setBack?.at, rollback?.at],
      sinks,
      movesCheckpoints,
    }),
    calmAt,
    healedAt,
  };
}

/** Names that producers send, and what a rule makes of them. */
const NAMES: readonly ChosenNames[] = [
  [],
  ['http.*'],
  ['db', 'queue'],
  ['!db'],
  ['web.*', 'queue'],
  ['*', '!queue'],
  ['none of them'],
];
/** With more, hardly any run starts often enough to come to the last of them. */
const CHOICES = 4;

function chooseNames(chance: Chance, sinks: readonly SinkPlan[]): readonly SinkPlan[] {
  const draw = () => Array.from({ length: CHOICES }, () => chance.pick(NAMES));
  return sinks.map((sink) => (chance.bool(0.8) ? { ...sink, names: draw() } : sink));
}

/** Some are shorter than a window of the pipeline, or no multiple of it: then they are those of the pipeline. */
const OWN_WINDOWS_MS = [1000, 2000, 3000, 4000, 6000];

function lengthen(chance: Chance, sinks: readonly SinkPlan[]): readonly SinkPlan[] {
  return sinks.map((sink) => (chance.bool(0.8) ? { ...sink, windowMs: chance.pick(OWN_WINDOWS_MS) } : sink));
}

/** The first sink that is not steady, if there is one, loses everything. */
function emptyOne(chance: Chance, sinks: readonly SinkPlan[], activeMs: number): readonly SinkPlan[] {
  const emptiedAt = START + chance.int(0, activeMs);
  const emptied = sinks.find(({ steady }) => !steady);
  return sinks.map((sink) => (sink === emptied ? { ...sink, emptiedAt } : sink));
}

/** The first sink that is not steady, if there is one, gets older content. */
function restoreOne(chance: Chance, sinks: readonly SinkPlan[], activeMs: number): readonly SinkPlan[] {
  const from = START + chance.int(0, activeMs / 2);
  const restored = { from, at: chance.int(from, START + activeMs) };
  const one = sinks.find(({ steady }) => !steady);
  return sinks.map((sink) => (sink === one ? { ...sink, restored } : sink));
}

function drawRollback(chance: Chance, activeMs: number): RollbackPlan {
  return {
    at: START + chance.int(3000, activeMs),
    depth: chance.weighted<() => number>([
      [() => chance.int(0, 5), 3],
      [() => chance.int(5, 40), 3],
      [() => chance.int(40, 400), 1],
    ])(),
    others: chance.bool(0.5) ? 0 : chance.int(1, 40),
    consumersLive: chance.bool(0.3),
  };
}

/** `isMerged`: mostly with sketches that can be. */
function drawShape(chance: Chance, windowMs: number, isMerged: boolean) {
  return {
    windowMs,
    latenessMs: chance.pick([0, 200, 500, 1000, 2500]),
    maxAheadMs: chance.pick([0, 100, 500, 1500]),
    maxSeries: chance.pick([2, 5, 1000, 1000]),
    // Absent in some epochs, as if they were agreed on by an earlier version.
    ...chance.pick([{}, { maxSeriesBytes: 2000 }, { maxSeriesBytes: 6000 }, { maxSeriesBytes: 1_000_000 }]),
    ...chance.pick([
      isMerged && chance.bool(0.8) ? { sketchScale: SKETCH_SCALE } : {},
      { sketchScale: SKETCH_SCALE },
    ]),
    ...chance.pick([{}, {}, { maxSeriesByName: ['http*=1', '*=3'] }, { maxSeriesByName: ['queue=2'] }]),
    ...drawRules(chance),
  };
}

/** Some of the rules, or all, so that names are left out and series become one, and other ones after a change. */
function drawRules(chance: Chance): Pick<WindowShape & OracleShape, 'rules' | 'input'> {
  if (chance.bool(0.5)) return { input: PLAIN_INPUT };
  const rules: RuleTexts = {
    ...chance.pick([{}, { names: 'http.*, db' }, { names: '!queue' }]),
    ...chance.pick([{}, { drop: 'http.*: status' }, { drop: '*: app, status' }]),
    ...chance.pick([{}, { keep: '*: app, tenant; db: status' }]),
    ...chance.pick([{}, { rename: 'db=queue' }, { rename: 'http.*=web.*; *: status=app, tenant=app' }]),
    ...chance.pick([{}, { subjects: 'metrics.{tenant}' }, { subjects: '*.{app}', subjectWins: true }]),
  };
  return { rules, input: inputOf({ ...PLAIN, ...settingsOf(rules) }) };
}

function drawBegin(chance: Chance, streamBegins: number, standby: boolean): StartSetting {
  const kinds = standby ? (['earliest', 'at'] as const) : (['earliest', 'earliest', 'at', 'now'] as const);
  const kind = chance.pick(kinds);
  return kind === 'at' ? { kind, ms: chance.int(streamBegins - 3000, START) } : { kind };
}

interface SinkFrame {
  readonly windowMs: number;
  readonly calmAt: number;
  readonly healedAt: number;
  readonly core: boolean;
  readonly begin: StartSetting;
}

function drawSinks(chance: Chance, frame: SinkFrame): SinkPlan[] {
  const steadyOne = chance.bool(0.6);
  const count = chance.int(steadyOne ? 2 : 1, 3);
  return Array.from({ length: count }, (_, i) => {
    const steady = steadyOne && i === 0;
    const added = i === count - 1 && count > 1 && !steady && chance.bool(0.3);
    return {
      id: `s${i}`,
      limits: {
        maxPoints: chance.pick([1, 3, 10, 100]),
        maxBytes: chance.pick([400, 2000, 1_000_000]),
        inFlight: chance.pick([1, 2, 4]),
      },
      timeoutMs: chance.pick([300, 1000, 4000]),
      backlogBytes: steady ? 10_000_000 : chance.pick([1, 1500, 6000, 10_000_000]),
      begin: added ? { kind: 'earliest' } : frame.begin,
      fromStart: added ? 1 : 0,
      phases: steady ? [] : drawPhases(chance, frame),
      steady,
      poison: chance.bool(0.3) ? 15 : 0,
    };
  });
}

function drawPhases(chance: Chance, { calmAt, healedAt }: SinkFrame): Phase[] {
  const phases: Phase[] = [];
  const calm = chance.int(2000, 15_000);
  for (let at = START + chance.int(-1000, calm); at < calmAt; at += chance.int(500, 2 * calm)) {
    phases.push({ at, profile: chance.pick(PROFILES) });
  }
  // After the other faults are over, some stores stay faulty for a while: this is the best test of isolation.
  if (healedAt > calmAt) phases.push({ at: calmAt, profile: chance.pick(PROFILES) });
  phases.push({ at: healedAt, profile: 'healthy' });
  return phases;
}

interface FaultFrame extends Pick<Scenario, 'instances' | 'sinks'> {
  readonly activeMs: number;
  /** When something happens to the stream. */
  readonly disturbedAt: readonly (number | undefined)[];
  readonly movesCheckpoints: boolean;
}

const MOST_MOVES = 6;

/** The last one is after all other faults: what it says has to be done. */
function drawMoves(chance: Chance, { activeMs, instances, sinks }: FaultFrame): Scenario['faults'] {
  const movable = sinks.filter(({ steady }) => !steady);
  if (movable.length === 0) return [];
  const draw = (at: number) => ({
    at,
    kind: 'move' as const,
    instance: chance.int(0, instances - 1),
    sink: chance.pick(movable).id,
    way: chance.pick(['back', 'back', 'ahead', 'reset'] as const),
    windows: chance.int(1, 20),
    loses: chance.bool(0.7),
  });
  const moves = Array.from({ length: chance.int(1, MOST_MOVES) }, () =>
    draw(START + chance.int(1000, activeMs)),
  );
  return [...moves, draw(START + activeMs + chance.int(500, 3000))];
}

function drawFaults(chance: Chance, frame: FaultFrame): Scenario['faults'] {
  const { activeMs, instances, disturbedAt, sinks } = frame;
  const at = () => START + chance.int(0, activeMs);
  const instance = () => chance.int(0, instances - 1);
  const faults: (Fault & { at: number })[] = [];
  const times = (most: number) => (chance.bool(0.35) ? 0 : chance.int(1, most));
  const downMs = () => (chance.bool(0.5) ? chance.int(0, 500) : chance.int(500, 12_000));
  for (let i = times(3); i > 0; i--)
    faults.push({ at: at(), kind: 'kill', instance: instance(), downMs: downMs() });
  for (let i = times(4); i > 0; i--) {
    const steps = chance.int(1, 60);
    faults.push({ at: at(), kind: 'kill-at-step', instance: instance(), downMs: downMs(), steps });
  }
  for (let i = times(2); i > 0; i--)
    faults.push({ at: at(), kind: 'stop', instance: instance(), downMs: downMs() });
  for (let i = times(3); i > 0; i--)
    faults.push({ at: at(), kind: 'disconnect', instance: instance(), ms: chance.int(50, 8000) });
  for (let i = times(3); i > 0; i--) faults.push({ at: at(), kind: 'lose-consumers', instance: instance() });
  // Windows with new samples are not rewritten yet, or nobody has read these samples: a restart must find them.
  for (const disturbed of disturbedAt) {
    if (disturbed === undefined || chance.bool(0.5)) continue;
    const meanwhile = Math.min(disturbed + chance.int(-1000, 3000), START + activeMs);
    faults.push({ at: meanwhile, kind: 'kill', instance: instance(), downMs: downMs() });
  }
  for (let i = times(4); i > 0; i--) {
    const modes: CheckpointMode[] = ['slow', 'down', 'hanging', 'lying', 'healthy'];
    faults.push({ at: at(), kind: 'checkpoints', mode: chance.pick(modes) });
  }
  // Sinks whose lag is checked are not paused.
  const pausable = sinks.filter(({ steady }) => !steady);
  for (let i = pausable.length > 0 ? times(4) : 0; i > 0; i--) {
    const ms = chance.bool(0.5) ? chance.int(0, 500) : chance.int(500, 10_000);
    faults.push({ at: at(), kind: 'pause', instance: instance(), sink: chance.pick(pausable).id, ms });
  }
  if (frame.movesCheckpoints) faults.push(...drawMoves(chance, frame));
  return faults.sort((a, b) => a.at - b.at);
}
