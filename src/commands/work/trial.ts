import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { systemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { ownFile } from '../../base/own-program.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { endProcess } from '../../base/process-end.ts';
import { connect } from '../../bus/connect.ts';
import { learnSubjects } from '../../bus/kv/checkpoints.ts';
import { pipelineTiling } from '../../bus/kv/window-shapes.ts';
import { type Config, loadConfig } from '../../config/config.ts';
import type { SinkConfig } from '../../config/sink-config.ts';
import { storeAddress } from '../../config/store-address.ts';
import { trialName } from '../../trial/names.ts';
import { trialReport } from '../../trial/report/page.ts';
import { groupsOf } from '../../trial/report/table.ts';
import { isFailure, type Stage, type TrialResult } from '../../trial/result.ts';
import { runTrial, type StageProgress } from '../../trial/run.ts';
import { TrialStore } from '../../trial/stores.ts';
import { readTraffic, type TrialTraffic } from '../../trial/traffic.ts';
import { verdictOf } from '../../trial/verdict.ts';
import { print, warn } from '../terminal/output.ts';
import { showProgress } from '../terminal/progress-bar.ts';
import { checkReportFile, writeReport } from '../terminal/report-file.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { brokenInto, type Cell, renderTable } from '../terminal/table.ts';

interface TrialCommandOptions {
  readonly sinks?: readonly string[];
  readonly from?: number;
  readonly to?: number;
  readonly seconds: number;
  readonly without: readonly Stage[];
  readonly memory: number;
  readonly keep?: true;
  readonly report?: string;
  readonly json?: true;
}

/** Any long time. */
const ALIVE_MS = 60_000;

export default async function runTrialCommand(options: TrialCommandOptions, command: Command): Promise<void> {
  checkReportFile(options.report, command);
  const config = await loadConfig(process.env);
  if (config.core.metricsSource === 'core')
    command.error('error: plain NATS (METRICS_SOURCE=core) keeps no messages to try stores with');
  const chosen = chosenSinks(config, options.sinks, command);
  const able = chosen.filter(({ module }) => module.trial !== undefined);
  for (const { id, kind } of chosen.filter((sink) => !able.includes(sink)))
    warn([`${id} is left out: rows of a trial cannot be kept apart in the kind ${kind}`]);
  if (able.length === 0) command.error('error: none of these sinks can be tried');
  const result = await trial(options, config, able);
  // First the report: who reads the output may not wait for its end.
  const isWritten = options.report === undefined || writeReport(options.report, trialReport(result));
  const code = isWritten && isFine(result) ? 0 : 1;
  await print(options.json ? `${printableJson(result)}\n` : trialText(result), exitCodeOf(code));
  endProcess();
}

/** Returns the sinks of these ids; all without any. */
export function chosenSinks(
  { sinks }: Config,
  ids: readonly string[] | undefined,
  command: Command,
): readonly SinkConfig[] {
  const enabled = sinks.map(({ id }) => id);
  const unknown = ids?.find((id) => !enabled.includes(id));
  if (unknown !== undefined)
    command.error(`error: no sink ${unknown} is enabled. Enabled sinks: ${enabled.join(', ')}`);
  return sinks.filter(({ id }) => ids?.includes(id) ?? true);
}

async function trial(
  options: TrialCommandOptions,
  config: Config,
  sinks: readonly SinkConfig[],
): Promise<TrialResult> {
  const signal = stopSignal();
  const progress = stageProgress();
  const traffic = await trafficOf(options, config, progress, signal);
  const name = trialName(systemClock.now(), systemClock.random());
  const stores = sinks.map(
    (sink) => new TrialStore(sink, name, storeAddress(sink) ?? 'its default address', process.env),
  );
  const { seconds: secondsEach, without } = options;
  const about = {
    command: commandOf(options, sinks, traffic),
    settings: settingsOf(config, sinks),
    commit: commit(),
  };
  // The threads of sinks keep no process alive, and the bus is not needed any more.
  const alive = setInterval(() => {}, ALIVE_MS);
  try {
    return await runTrial({
      stores,
      traffic,
      latenessMs: config.core.lateness,
      secondsEach,
      without: new Set(without),
      clock: systemClock,
      signal,
      progress,
      about,
      end: async () => {
        for (const store of stores) await store.end(options.keep === true);
      },
    });
  } finally {
    clearInterval(alive);
    progress.end();
  }
}

/** Reads the windows once. Afterwards, the trial has nothing to do with the bus. */
async function trafficOf(
  { from, to, memory }: TrialCommandOptions,
  config: Config,
  progress: StageProgress,
  signal: AbortSignal,
): Promise<TrialTraffic> {
  const bus = await connect(config.core, createLog('warn'), { name: 'metrics-fanout trial' });
  const tiling = await pipelineTiling(bus, config);
  await learnSubjects(bus, config.core);
  const request = {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    maxBytes: memory,
  };
  progress.begin('reading the stream', 1);
  let read = 0;
  const heard = (share: number) => {
    progress.done(share - read);
    read = share;
  };
  const traffic = await readTraffic(request, { config, bus, tiling }, heard, signal);
  progress.end();
  await bus.close();
  return traffic;
}

/** A bar on a terminal; elsewhere, a line for each stage. */
function stageProgress(): StageProgress {
  let hide = () => {};
  let current: { name: string; total: number; done: number; started: number } | undefined;
  const progress: StageProgress = {
    planned(text) {
      process.stderr.write(`${text}\n`);
    },
    begin(name, total) {
      progress.end();
      const stage = { name, total, done: 0, started: performance.now() };
      current = stage;
      if (!process.stderr.isTTY) process.stderr.write(`${name} ...\n`);
      hide = showProgress(
        () => stage.done / stage.total,
        () => name,
      );
    },
    done(amount) {
      if (current !== undefined) current.done += amount;
    },
    end() {
      hide();
      hide = () => {};
      if (current === undefined) return;
      const took = ((performance.now() - current.started) / 1000).toFixed(1);
      process.stderr.write(`${current.name}: ${took} s\n`);
      current = undefined;
    },
  };
  return progress;
}

/** The variables that were set, without secrets. */
function settingsOf({ resolved }: Config, sinks: readonly SinkConfig[]): Record<string, string> {
  const isMeant = (variable: string) =>
    !variable.startsWith('SINK_') || sinks.some(({ id }) => variable.startsWith(`SINK_${id.toUpperCase()}_`));
  const given = resolved.filter(({ variable, from }) => from !== 'default' && isMeant(variable));
  return Object.fromEntries(given.map(({ variable, shown }) => [variable, shown]));
}

/** With the times of the windows that were read, even if none were given: for the same traffic. */
function commandOf(
  { seconds, memory, without, keep }: TrialCommandOptions,
  sinks: readonly SinkConfig[],
  { range }: TrialTraffic,
): string {
  const time = (ms: number) => new Date(ms).toISOString();
  return [
    `metrics-fanout trial --sinks ${sinks.map(({ id }) => id).join(',')} --seconds ${seconds}`,
    `--from ${time(range.from)} --to ${time(range.to)} --memory ${memory}`,
    ...(without.length === 0 ? [] : [`--without ${without.join(',')}`]),
    ...(keep ? ['--keep'] : []),
  ].join(' ');
}

/** The commit, if this program runs from a clone. */
function commit(): string | null {
  const root = ownFile('..');
  if (!existsSync(`${root}/.git`)) return null;
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).trim();
  } catch {
    return null;
  }
}

function isFine({ stores, complete }: TrialResult): boolean {
  const isRight = ({ questions, proof, remarks }: TrialResult['stores'][number]) =>
    questions.every(({ asked }) => asked.kind !== 'different') &&
    (proof === null || proof.missing + proof.extra + proof.different === 0) &&
    !remarks.some(isFailure);
  return complete && stores.every(isRight);
}

const COLOURS = { best: 'green', bad: 'red' } as const;
/** The report has all of a longer text. */
const MAX_CELL_COLUMNS = 40;

function trialText(result: TrialResult): string {
  const sentences = verdictOf(result).map(({ text }) => printable(text));
  const groups = groupsOf(result).map(({ title, rows }) => {
    const body = rows.map(({ what, cells }): Cell[] => [
      printable(what),
      ...cells.map(({ text, note, tone }): Cell => {
        const shown = printable(note === '' || tone === 'best' ? text : `${text} (${note})`);
        // Between words: no number is cut.
        const [begin = '', ...rest] = brokenInto(shown, MAX_CELL_COLUMNS);
        const cut = rest.length > 0 ? `${begin}…` : begin;
        return tone === 'plain' ? cut : { text: cut, colour: COLOURS[tone] };
      }),
    ]);
    return renderTable([title, ...result.stores.map(({ id }) => printable(id))], body);
  });
  const remarks = result.stores.flatMap(({ id, remarks }) =>
    // The verdict has said why a trial ended early.
    remarks.filter((remark) => !isFailure(remark)).map((remark) => printable(`${id}: ${remark}.`)),
  );
  const parts = [sentences.join('\n'), ...groups, [...result.traffic.remarks, ...remarks].join('\n')];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}
