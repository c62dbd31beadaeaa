/** How the service is attached to the bus: where each sink goes on, and what reads from there. */
import { type Checkpoint, type CheckpointShape, createCheckpointStore } from './bus/checkpoints.ts';
import type { Bus } from './bus/connect.ts';
import { createCoreSource } from './bus/core.ts';
import { createJetStreamSource } from './bus/jetstream.ts';
import { BusError } from './bus/source.ts';
import { ensureStream } from './bus/stream.ts';
import type { Config } from './config.ts';
import { firstWanted, readFrom, resumeFrom, type StreamExtent, type WindowShape } from './deliver/begin.ts';
import { systemClock } from './deliver/clock.ts';
import type { Attachment } from './deliver/engine.ts';
import { CheckpointKeeper } from './deliver/keeper.ts';
import { Reports } from './deliver/reports.ts';
import type { Log } from './observe/log.ts';

/** Rejects with a `BusError`. */
export async function attach(bus: Bus, config: Config, instance: string, log: Log): Promise<Attachment> {
  switch (config.core.metricsSource) {
    case 'jetstream':
      return await attachToStream(bus, config, log);
    case 'core':
      return attachToCore(bus, config, instance);
    default:
      return config.core.metricsSource satisfies never;
  }
}

function attachToCore(bus: Bus, { core, sinks }: Config, instance: string): Attachment {
  return {
    from: new Map(sinks.map(({ id }) => [id, Number.NEGATIVE_INFINITY])),
    replayable: false,
    instance,
    open: () => createCoreSource(bus, core),
    keeperOf: () => undefined,
  };
}

async function attachToStream(bus: Bus, { core, sinks }: Config, log: Log): Promise<Attachment> {
  const facts = await ensureStream(bus, core);
  const store = createCheckpointStore(bus, core, facts.replicas);
  const shape: CheckpointShape & WindowShape = {
    windowMs: core.window,
    latenessMs: core.lateness,
    maxAheadMs: core.maxAhead,
    maxSeries: core.maxSeries,
    slice: `${core.slice.index}/${core.slice.of}`,
  };
  const extent: StreamExtent = { firstTime: facts.firstTime, truncated: facts.firstSequence > 1 };
  const now = systemClock.now();
  const from = new Map<string, number>();
  const closedAt = new Map<string, number>();
  const reports = new Reports(log, systemClock);
  const stored = await store.list();
  for (const { id, start } of sinks) {
    const ofSink = stored.filter(({ sink }) => sink === id);
    for (const { checkpoint } of ofSink) checkShape(id, checkpoint, shape, core.pipeline);
    const known = resumeFrom(ofSink, core.slice);
    const next = known?.next ?? firstWanted(start, extent, shape, now);
    from.set(id, next);
    // 0 says that nothing had been read yet when the checkpoint was made: not where the news begins.
    if (known !== undefined && known.sequence > 0) closedAt.set(id, known.sequence);
    const begins = { sink: id, next: new Date(next).toISOString() };
    log.info(
      begins,
      known === undefined ? 'the sink has no checkpoint yet' : 'the sink goes on from its checkpoint',
    );
  }
  return {
    from,
    closedAt,
    replayable: true,
    instance: '',
    open: (first) =>
      createJetStreamSource(bus, core, { start: { kind: 'time', ms: readFrom(first, shape) } }),
    keeperOf: (sink) =>
      new CheckpointKeeper({
        sink,
        store,
        clock: systemClock,
        describe: () => ({ shape, savedAt: new Date(systemClock.now()).toISOString() }),
        failed: (error, next, atStop) => reports.checkpointFailed(sink, error, next, atStop),
      }),
  };
}

/**
 * Windows of another shape cut time, or assign samples, differently: going on from the checkpoint as if nothing had
 * changed would lose some samples and count others twice. Throws a `BusError` that says what changed.
 */
export function checkShape(sink: string, { shape }: Checkpoint, wanted: WindowShape, pipeline: string): void {
  const changed = (['windowMs', 'latenessMs', 'maxAheadMs'] as const).filter(
    (key) => shape[key] !== wanted[key],
  );
  if (changed.length === 0) return;
  const names = { windowMs: 'WINDOW', latenessMs: 'LATENESS', maxAheadMs: 'MAX_AHEAD' };
  const said = changed.map((key) => `${names[key]} was ${shape[key]}ms and is ${wanted[key]}ms`).join(', ');
  throw new BusError(
    `the checkpoint of sink ${sink} in pipeline ${pipeline} was made with other settings: ${said}`,
    'Set them back, or set PIPELINE to a new name, under which windows of the new shape begin at METRICS_START.',
  );
}
