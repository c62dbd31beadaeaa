/** Attaches the service to the bus: where each sink continues, and the source that reads from there. */
import { tilingsOf } from '../aggregate/coarse-tiling.ts';
import { shapeOf, Tiling } from '../aggregate/tiling.ts';
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { BusError } from '../bus/bus-error.ts';
import type { Bus } from '../bus/connect.ts';
import { EARLY_REMOVAL } from '../bus/early-removal.ts';
import { incrementsProblem } from '../bus/increments.ts';
import {
  type CheckpointSurvey,
  createCheckpointStore,
  type SinkWindows,
  type StoredCheckpoint,
  type SurveyedStore,
} from '../bus/kv/checkpoints.ts';
import { type AgreedShapes, createShapeStore, type ShapeStore } from '../bus/kv/window-shapes.ts';
import { createCoreSource } from '../bus/read/core.ts';
import { createJetStreamSource } from '../bus/read/jetstream.ts';
import type { ReadFrom } from '../bus/read/source.ts';
import type { Trail } from '../bus/read/trail.ts';
import { BusWatch } from '../bus/read/watch.ts';
import { describeStream, ensureStream, type StreamFacts } from '../bus/stream.ts';
import { type Config, windowShape } from '../config/config.ts';
import type { Attachment, Beginnings } from '../deliver/engine.ts';
import { EpochWatch, isSameShape, planEpochs } from '../deliver/epochs.ts';
import { CheckpointKeeper } from '../deliver/lane/checkpoint-saver.ts';
import { choicesOf, isLatestChoice, type NameChoices, namesOf } from '../deliver/name-choices.ts';
import { Reports } from '../deliver/reports.ts';
import type { Resumption } from '../deliver/rollback.ts';
import {
  beginAgain,
  firstGiven,
  firstWanted,
  firstWholeWindow,
  readFrom,
  receiptsOf,
  resumeFrom,
  type StreamExtent,
  storesOf,
} from '../deliver/start-points.ts';
import type { WindowRange } from '../sink/contract.ts';
import { extentOf, lookBack } from './look-back.ts';

/** What outlives an attachment. */
export interface Attached {
  /** Whether our settings are to be announced. */
  readonly announces: boolean;
  /** What this process has read of the stream; undefined at first. */
  readonly trail: Trail | undefined;
  /** See `Attachment`. */
  readonly unswept: ReadonlyMap<string, WindowRange> | undefined;
}

/**
 * `announces`: our settings will shape the windows, if other settings do so now; otherwise the announced settings
 * count. Rejects with a `BusError`.
 */
export async function attach(
  bus: Bus,
  config: Config,
  instance: string,
  log: Log,
  before: Attached,
): Promise<Attachment> {
  switch (config.core.metricsSource) {
    case 'jetstream':
      return await attachToStream(bus, config, log, before);
    case 'core':
      return attachToCore(bus, config, instance);
    default:
      return config.core.metricsSource satisfies never;
  }
}

function attachToCore(bus: Bus, config: Config, instance: string): Attachment {
  const { core, sinks } = config;
  const tiling = Tiling.of(windowShape(config));
  return {
    // The parts of several instances add up whatever their shapes, so there is nothing to agree on.
    tiling,
    windows: tilingsOf(sinks, tiling),
    from: new Map(sinks.map(({ id }) => [id, Number.NEGATIVE_INFINITY])),
    replayable: false,
    instance,
    open: () => createCoreSource(bus, core),
    keeperOf: () => undefined,
    // No checkpoint tells of another choice, and what was written before is never compared.
    names: namesOf(sinks.map(({ id, names }) => [id, names.length === 0 ? [] : [{ from: 0, names }]])),
  };
}

async function attachToStream(bus: Bus, config: Config, log: Log, before: Attached): Promise<Attachment> {
  const { core, sinks } = config;
  const facts = await ensureStream(bus, core);
  warnOf(facts, core, log);
  const store = createCheckpointStore(bus, core, facts.replicas, ownWindowsOf(config));
  const survey = await store.survey();
  const { stored } = survey;
  const reports = new Reports(log, systemClock);
  const shapes = createShapeStore(bus, core.pipeline, facts.replicas);
  const known = await agreeOnShapes(shapes, config, stored, log, before.announces);
  const epochs = new EpochWatch(shapes, known, systemClock, (error) => reports.epochsUnknown(error));
  const { tiling } = epochs;
  const windows = tilingsOf(sinks, tiling);
  const { trail, resumptions, rollback, isMisread, orphaned, extent } = await lookBack(
    { bus, config, facts, stored, tiling, windows },
    before.trail,
  );
  if (rollback !== undefined) reports.rolledBack(rollback, isMisread);
  if (orphaned !== undefined) reports.orphaned(orphaned);
  const frame = { bus, store, tiling, windows, trail, reports };
  return {
    ...beginningsOf(config, frame, survey, resumptions, extent),
    reattach: (sink) => reattach(sink, config, frame),
    tiling,
    windows,
    epochs,
    replayable: true,
    watch: core.watchShare > 0 ? new BusWatch(bus, core, { share: core.watchShare }) : undefined,
    keepsMs: facts.maxAgeMs,
    instance: '',
    trail,
    ...(before.unswept && { unswept: before.unswept }),
    rollback,
    lost: [...[...resumptions.values()].map(({ lost }) => lost), orphaned].flatMap((range) => range ?? []),
    open: (first, closed, isLive) =>
      createJetStreamSource(bus, core, { start: startOf(first, closed, tiling), trail, isLive }),
    openAside: (first) =>
      createJetStreamSource(bus, core, { start: startOf(first, undefined, tiling), isPassive: true, trail }),
  };
}

function ownWindowsOf({ sinks }: Config): SinkWindows {
  return new Map(sinks.map(({ id, windowMs }) => [id, windowMs]));
}

/** What the beginnings of all sinks have in common. */
interface BeginningFrame {
  readonly bus: Bus;
  readonly store: SurveyedStore;
  readonly tiling: Tiling;
  /** By sink: its windows; no entry: those of `tiling`. */
  readonly windows: ReadonlyMap<string, Tiling>;
  readonly trail: Trail;
  readonly reports: Reports;
}

/** Resolves to where the sink begins by what its checkpoint says now, as at a start. Rejects with a `BusError`. */
async function reattach(sink: string, config: Config, frame: BeginningFrame): Promise<Beginnings> {
  const { bus, tiling, windows, trail } = frame;
  const facts = await describeStream(bus, config.core);
  if (facts.created !== trail.created)
    throw new BusError('the stream was replaced', 'The instance attaches again by itself.');
  // What the one before remembers of the key does not hold any more.
  const store = createCheckpointStore(bus, config.core, facts.replicas, ownWindowsOf(config));
  const survey = await store.survey();
  const only = { ...config, sinks: config.sinks.filter(({ id }) => id === sink) };
  const { stored } = survey;
  const { resumptions, extent } = await lookBack(
    { bus, config: only, facts, stored, tiling, windows },
    trail,
  );
  return beginningsOf(only, { ...frame, store }, survey, resumptions, extent);
}

/** Returns where the sinks of `config` begin, and tells it. */
function beginningsOf(
  config: Config,
  { bus, store, tiling, windows, trail, reports }: BeginningFrame,
  { stored, unreadable }: CheckpointSurvey,
  resumptions: ReadonlyMap<string, Resumption>,
  extent: StreamExtent,
): Beginnings {
  const { core, sinks } = config;
  const starts = startsOf(config, stored, resumptions, extent, { tiling, windows });
  tellBeginnings(reports, starts.from, resumptions, unreadable);
  const slice = `${core.slice.index}/${core.slice.of}`;
  const names = namesIn(config, stored, starts, reports);
  const ownWindows = ownWindowsOf(config);
  return {
    from: starts.from,
    closedThrough: starts.closedThrough,
    first: starts.first,
    names,
    unreadable,
    stores: storesOf(resumptions),
    receipts: receiptsOf(resumptions, core.pipeline, slice),
    beginAgain: async (sink, heldTo) => {
      const extent = extentOf(await describeStream(bus, core));
      const own = windows.get(sink) ?? tiling;
      return beginAgain(starts.began.get(sink), extent, own, systemClock.now(), heldTo);
    },
    resumed: new Set(sinks.flatMap(({ id }) => (resumptions.get(id)!.position === undefined ? [] : [id]))),
    keeperOf: (sink) =>
      new CheckpointKeeper({
        sink,
        store,
        clock: systemClock,
        describe: (next) => ({
          shape: { ...shapeOf(tiling.epochAt(next)), slice },
          began: starts.began.get(sink),
          trail: trail.stored(),
          skipped: resumptions.get(sink)!.position?.skipped,
          choices: names.get(sink)?.list,
          window: ownWindows.get(sink),
          savedAt: new Date(systemClock.now()).toISOString(),
        }),
        failed: (error, next, atStop) => reports.checkpointFailed(sink, error, next, atStop),
      }),
  };
}

function warnOf(facts: StreamFacts, core: Config['core'], log: Log): void {
  const { name: stream, removesEarly, increments } = facts;
  if (removesEarly.length > 0) {
    const { message, advice } = EARLY_REMOVAL;
    log.warn({ stream, settings: removesEarly, advice }, message);
  }
  const problem = incrementsProblem(increments, core);
  if (problem !== undefined) {
    const { detail, advice } = problem;
    log.warn({ stream, ...(advice === '' ? {} : { advice }) }, detail);
  }
}

function tellBeginnings(
  reports: Reports,
  from: ReadonlyMap<string, number>,
  resumptions: ReadonlyMap<string, Resumption>,
  unreadable: CheckpointSurvey['unreadable'],
): void {
  for (const [id, start] of from) {
    const unknown = unreadable.get(id);
    if (unknown !== undefined) reports.checkpointUnreadable(id, unknown);
    else reports.resumes(id, start, resumptions.get(id)!.position !== undefined);
  }
}

/**
 * Returns where each sink begins, or resumes. `began`: for its checkpoint; `whole`: the first window that the stream
 * holds whole; the others as in an `Attachment`.
 */
function startsOf(
  { sinks }: Config,
  stored: readonly StoredCheckpoint[],
  resumptions: ReadonlyMap<string, Resumption>,
  extent: StreamExtent,
  { tiling, windows }: { readonly tiling: Tiling; readonly windows: ReadonlyMap<string, Tiling> },
) {
  const from = new Map<string, number>();
  const began = new Map<string, number>();
  const first = new Map<string, number>();
  const closedThrough = new Map<string, number>();
  const now = systemClock.now();
  for (const { id, start } of sinks) {
    const { position } = resumptions.get(id)!;
    const next = position?.next ?? firstWanted(start, extent, windows.get(id) ?? tiling, now);
    from.set(id, next);
    const ofSink = stored.filter(({ sink }) => sink === id);
    first.set(id, firstGiven(ofSink, next));
    const beginning = position === undefined ? next : position.began;
    if (beginning !== undefined) began.set(id, beginning);
    // 0 means that nothing had been read when the checkpoint was made. It does not say where new messages begin.
    if (position !== undefined && position.sequence > 0) closedThrough.set(id, position.sequence);
  }
  return { from, began, first, closedThrough, whole: firstWholeWindow(extent, tiling, now) };
}

/** By sink: which names it gets, and which it got. */
function namesIn(
  { core, sinks }: Config,
  stored: readonly StoredCheckpoint[],
  { from, whole }: { readonly from: ReadonlyMap<string, number>; readonly whole: number },
  reports: Reports,
): ReadonlyMap<string, NameChoices> {
  return namesOf(
    sinks.map(({ id, names }) => {
      const ofSink = stored.filter(({ sink }) => sink === id);
      const position = resumeFrom(ofSink, core.slice);
      const choices = choicesOf(position, { names, from: from.get(id)!, whole });
      if (position !== undefined && !isLatestChoice(position.choices, names))
        reports.choosesNames(id, names, position.next);
      for (const { slice, checkpoint } of ofSink) {
        const isNeighbour = slice.endsWith(`/${core.slice.of}`) && !slice.startsWith(`${core.slice.index}/`);
        if (isNeighbour && !isLatestChoice(checkpoint.choices, names)) reports.choosesOtherNames(id, slice);
      }
      return [id, choices] as const;
    }),
  );
}

function startOf(first: number, closedThrough: number | undefined, tiling: Tiling): ReadFrom {
  const orSequence = closedThrough === undefined ? undefined : closedThrough + 1;
  return { kind: 'time', ms: readFrom(first, tiling), orSequence };
}

/** Announces the shape of our settings, if it differs from the pipeline's shape and `announces` is set. */
async function agreeOnShapes(
  store: ShapeStore,
  config: Config,
  stored: readonly StoredCheckpoint[],
  log: Log,
  announces: boolean,
): Promise<AgreedShapes> {
  const shape = windowShape(config);
  const wanted = {
    shape,
    delayMs: config.core.changeDelay,
    before: stored[0]?.checkpoint.shape,
    nexts: stored.map(({ checkpoint }) => checkpoint.next),
  };
  const agreed = await store.change((known) =>
    announces || known.shapes === undefined ? planEpochs(known, wanted) : undefined,
  );
  const last = agreed.shapes.epochs.at(-1)!;
  if (!isSameShape(last, shape))
    log.warn({ ...last }, 'another instance has different settings; its windows are used');
  else if (last.from > agreed.at)
    log.info({ ...last, from: new Date(last.from).toISOString() }, 'windows of a new shape will begin later');
  return agreed;
}
