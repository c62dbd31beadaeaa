import type { Command } from 'commander';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { endProcess } from '../../base/process-end.ts';
import { BusError } from '../../bus/bus-error.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { instancesOnBus, type KnownInstance } from '../../bus/control-client.ts';
import { editCheckpoints, keptCheckpoints } from '../../bus/kv/checkpoint-keys.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { sequenceBefore } from '../../bus/read/sequence-before.ts';
import { describeStream, isTruncated, type StreamFacts, streamExists } from '../../bus/stream.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import {
  type ChangeFrame,
  type CheckpointChange,
  planReset,
  planSet,
  windowToSet,
} from '../../deliver/checkpoint-change.ts';
import { readFrom } from '../../deliver/start-points.ts';
import { type Asked, changeJson, changeText, listJson, listText } from '../checkpoint-report.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';

export interface ListOptions {
  readonly sink?: string;
  readonly json?: true;
}

export interface ChangeOptions {
  readonly sink: string;
  readonly slice?: string;
  /** Of `set`. */
  readonly to?: number;
  readonly yes?: true;
  readonly force?: true;
  readonly json?: true;
}

export async function listCheckpoints(options: ListOptions, command: Command): Promise<void> {
  const { config, bus } = await open(command);
  const { pipeline, slice } = config.core;
  const all = await keptCheckpoints(bus, pipeline);
  await bus.close();
  const kept = all.filter(({ sink }) => options.sink === undefined || sink === options.sink);
  const enabled = config.sinks.map(({ id }) => id);
  const report = { pipeline, kept, enabled, slices: slice.of, now: systemClock.now() };
  const isReadable = kept.every(({ content }) => content.unreadable === undefined);
  const text = options.json ? listJson(report) : listText(report);
  await print(text, isReadable ? 0 : 1);
  endProcess();
}

export async function changeCheckpoints(
  verb: Asked['verb'],
  options: ChangeOptions,
  command: Command,
): Promise<void> {
  const { config, bus } = await open(command);
  const { tiling, change } = await plan(options, config, bus);
  // A service never writes over what it cannot read. Once that is gone, it goes on by itself.
  const isSafe = change.edits.every(({ kept }) => kept.content.unreadable !== undefined);
  const running = await runningInstances(bus, config);
  const isDone = options.yes === true && change.edits.length > 0;
  if (isDone) {
    if (!isSafe && options.force !== true) refuseWhile(running);
    await editCheckpoints(bus, change.edits);
  }
  await bus.close();
  const start = config.sinks.find(({ id }) => id === options.sink)?.start;
  const asked = { verb, sink: options.sink, pipeline: config.core.pipeline, start, isDone, isSafe, running };
  await print(options.json ? changeJson(asked, change, tiling) : changeText(asked, change, tiling));
  endProcess();
}

async function open(command: Command): Promise<{ readonly config: Config; readonly bus: Bus }> {
  const config = await loadConfig(process.env);
  if (config.core.metricsSource === 'core')
    command.error('error: plain NATS (METRICS_SOURCE=core) has no checkpoints');
  // Each key is changed in one step: there is nothing to end first.
  stopSignal(() => endProcess(exitCodeOf(0)));
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout checkpoint' });
  return { config, bus };
}

async function plan({ sink, slice, to }: ChangeOptions, config: Config, bus: Bus) {
  const { core, sinks } = config;
  const kept = await keptCheckpoints(bus, core.pipeline);
  const tiling = await pipelineTiling(bus, config);
  // Without a stream, START is judged as the service would, which makes one.
  const hasStream = to !== undefined || (await streamExists(bus, core.metricsStream));
  const facts: StreamFacts | undefined = hasStream ? await describeStream(bus, core) : undefined;
  const extent = { firstTime: facts?.firstTime, truncated: facts !== undefined && isTruncated(facts) };
  const start = sinks.find(({ id }) => id === sink)?.start;
  const frame: ChangeFrame = { tiling, extent, now: systemClock.now(), slices: core.slice.of, start };
  const chosen = { sink, slice };
  let change: CheckpointChange;
  if (to === undefined || facts === undefined) change = planReset(kept, chosen, frame);
  else {
    const target = windowToSet(to, frame);
    const before = await sequenceBefore(bus, facts, readFrom(target, tiling));
    change = planSet(kept, chosen, target, { before, last: facts.lastSequence }, frame);
  }
  return { tiling, change };
}

/** Resolves to the instances that run, or to the reason why that is not known. */
async function runningInstances(bus: Bus, { core }: Config): Promise<readonly KnownInstance[] | string> {
  if (!core.controlEnabled) return 'CONTROL_ENABLED=false: no instance of this pipeline answers';
  try {
    return await instancesOnBus(bus, core.pipeline);
  } catch (error) {
    if (error instanceof BusError) return error.message;
    throw error;
  }
}

/** Throws a `BusError` if instances run, or may run. */
function refuseWhile(running: readonly KnownInstance[] | string): void {
  if (typeof running === 'string') {
    throw new BusError(
      `it is not known whether an instance runs (${running}); nothing was changed`,
      'Stop all instances of the pipeline: one that runs writes its own checkpoint over this one. If none runs, add --force.',
    );
  }
  if (running.length === 0) return;
  const names = running.map(({ instance, slice }) => `${instance} (slice ${slice})`).join(', ');
  throw new BusError(
    `instances of the pipeline run: ${names}; nothing was changed`,
    'Stop them first: an instance that runs writes its own checkpoint over this one. With --force it is done all the same.',
  );
}
