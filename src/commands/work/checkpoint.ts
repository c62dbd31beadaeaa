import type { Command } from 'commander';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { printableJson } from '../../base/printable.ts';
import { endProcess } from '../../base/process-end.ts';
import { BusError } from '../../bus/bus-error.ts';
import { type Bus, connect } from '../../bus/connect.ts';
import { askInstance, instancesOnBus, type KnownInstance } from '../../bus/control-client.ts';
import { editCheckpoints, keptCheckpoints } from '../../bus/kv/checkpoint-keys.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import { type AskedChange, changeFacts, listFacts } from '../../deliver/checkpoint-facts.ts';
import { planChange } from '../../service/plan-change.ts';
import { changeText, listText } from '../checkpoint-report.ts';
import { print } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';

/** How long an instance has to say which sinks it has. */
const ANSWER_MS = 5_000;

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
  const facts = listFacts({ pipeline, kept, enabled, slices: slice.of, now: systemClock.now() });
  const bad = kept.flatMap(({ key, content }) =>
    content.unreadable ? [[key, content.unreadable] as const] : [],
  );
  const isReadable = bad.length === 0;
  const advice = new Map(bad.map(([key, error]) => [key, error.advice]));
  const text = options.json ? `${printableJson(facts, 2)}\n` : listText(facts, { advice });
  await print(text, isReadable ? 0 : 1);
  endProcess();
}

export async function changeCheckpoints(
  verb: AskedChange['verb'],
  options: ChangeOptions,
  command: Command,
): Promise<void> {
  const { config, bus } = await open(command);
  const { sink, slice, to } = options;
  const tiling = await pipelineTiling(bus, config);
  const change = await planChange(bus, config, tiling, { sink, slice }, to);
  // A service never writes over what it cannot read. Once that is gone, it goes on by itself.
  const isSafe = change.edits.every(({ kept }) => kept.content.unreadable !== undefined);
  const running = await writingInstances(bus, config, sink);
  const isDone = options.yes === true && change.edits.length > 0;
  if (isDone) {
    if (!isSafe && options.force !== true) refuseWhile(running);
    await editCheckpoints(bus, change.edits);
  }
  await bus.close();
  const start = config.sinks.find(({ id }) => id === sink)?.start;
  const instances = typeof running === 'string' ? null : running.map(({ instance }) => instance);
  const asked = { verb, sink, pipeline: config.core.pipeline, start, isDone, instances };
  const facts = changeFacts(asked, change, change.tiling);
  const warnings = isSafe ? [] : warningsOf(running, isDone);
  const words = { title: `checkpoint ${verb}`, warnings, isRunning: false };
  await print(options.json ? `${printableJson(facts, 2)}\n` : changeText(facts, words));
  endProcess();
}

function warningsOf(running: readonly KnownInstance[] | string, isDone: boolean): string[] {
  const over = 'a running instance writes its own checkpoint over it';
  if (typeof running === 'string')
    return [
      `whether an instance runs is not known (${running}): ${over}${isDone ? '' : '; --yes needs --force'}`,
    ];
  if (running.length === 0) return [];
  const names = running.map(({ instance }) => instance).join(', ');
  const instead = '; stop them first, or --yes is refused, or use ctl checkpoint';
  return [`running: ${names}; ${over}${isDone ? '' : instead}`];
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

/**
 * Resolves to the instances that may write checkpoints of the sink, or to the reason why they are not known: those that
 * run, but for those that say that they have no such sink.
 */
async function writingInstances(
  bus: Bus,
  { core }: Config,
  sink: string,
): Promise<readonly KnownInstance[] | string> {
  if (!core.controlEnabled) return 'CONTROL_ENABLED=false: no instance of this pipeline answers';
  try {
    const all = await instancesOnBus(bus, core.pipeline);
    const request = JSON.stringify({ pipeline: core.pipeline });
    const lacking = await Promise.all(
      all.map(async ({ instance }) => {
        const answer = await askInstance(bus, instance, 'config', request, ANSWER_MS);
        const { result } = (answer ?? {}) as { readonly result?: { readonly sinks?: unknown } };
        return Array.isArray(result?.sinks) && !result.sinks.includes(sink);
      }),
    );
    return all.filter((_, i) => !lacking[i]);
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
    `instances of the pipeline run, with this sink or without a word about it: ${names}; nothing was changed`,
    'Stop them first: an instance that runs writes its own checkpoint over this one. With --force it is done all the same.',
  );
}
