/** Runs the stages of a trial over all stores, and puts what they found together. */
import { arch, cpus, platform, release, totalmem } from 'node:os';
import type { ClosedWindow } from '../aggregate/window.ts';
import type { Clock } from '../base/clock.ts';
import { VERSION } from '../base/version.ts';
import { readBackOf } from '../sink/contract.ts';
import { POINT_BYTES } from '../sink/rows.ts';
import { trueAnswer } from './answers.ts';
import { askStores, CLIENTS, roundsIn, type Truths } from './asking.ts';
import { measureFreshness } from './freshness.ts';
import { FILLING, needsRows, planText } from './plan.ts';
import { chooseQuestions, type TrialQuestion } from './questions.ts';
import { FORMAT, type Stage, type TrafficResult, type TrialResult } from './result.ts';
import {
  answeredByAll,
  climb,
  fill,
  priceOf,
  prove,
  type StageOptions,
  settle,
  writeTogether,
} from './stages.ts';
import type { TrialStore } from './stores.ts';
import type { TrialTraffic } from './traffic.ts';

/** Of the windows, so many are kept back to measure how fresh they are, but at most about the share. */
const FRESH_WINDOWS = 20;
const MAX_FRESH_SHARE = 0.2;

/** Shows how far a stage is. */
export interface StageProgress {
  /** Says how long all of it will take, before the first stage. */
  planned(text: string): void;
  /** `total`: how much there is to do, in any unit. */
  begin(stage: string, total: number): void;
  done(amount: number): void;
  end(): void;
}

export interface TrialRun {
  readonly stores: readonly TrialStore[];
  readonly traffic: TrialTraffic;
  readonly latenessMs: number;
  readonly secondsEach: number;
  readonly without: ReadonlySet<Stage>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly progress: StageProgress;
  /** Deletes the tables, and remarks in the stores what is left. */
  readonly end: () => Promise<void>;
  /** How to run it again, the settings without secrets, and the commit of the sources, if they have one. */
  readonly about: Pick<TrialResult, 'command' | 'settings'> & { readonly commit: string | null };
}

/** Resolves to what was found, even if the signal cut it short. */
export async function runTrial(run: TrialRun): Promise<TrialResult> {
  const { stores, traffic, without, secondsEach, clock, signal } = run;
  const started = clock.steady();
  const about = describeTraffic(traffic);
  const questions = without.has('questions') ? [] : chooseQuestions(traffic.windows, traffic.range);
  const { points } = about;
  run.progress.planned(planText({ stores, questions: questions.length, secondsEach, points, without }));
  try {
    await runStages(run, about, questions);
  } finally {
    await run.end();
  }
  return {
    format: FORMAT,
    at: new Date(clock.now()).toISOString(),
    seconds: Math.round((clock.steady() - started) / 1000),
    program: { version: VERSION, commit: run.about.commit, node: process.version },
    machine: machine(),
    command: run.about.command,
    settings: run.about.settings,
    secondsEach,
    without: [...without],
    traffic: about,
    questions: questions.map(({ id, text }) => ({ id, text })),
    stores: stores.map(({ result }) => ({ ...result })),
    complete: !signal.aborted,
  };
}

async function runStages(
  run: TrialRun,
  about: TrafficResult,
  questions: readonly TrialQuestion[],
): Promise<void> {
  const { stores, traffic, without, secondsEach, clock, signal } = run;
  const { windows } = traffic;
  const has = (stage: Stage) => !without.has(stage);
  const options = { windows, secondsEach, clock, signal };
  const fresh = has('freshness') ? freshOf(windows.length) : 0;
  const backlog = windows.slice(0, windows.length - fresh);
  if (has('ingest')) await ingest(run, options);
  const needsTable = needsRows({ questions: questions.length, without });
  if (needsTable) await backfill(run, about, { ...options, windows: backlog });
  if (fresh > 0) await freshness(run, windows.slice(-fresh));
  else if (has('freshness')) for (const store of stores) store.remark('freshness: one window is too few');
  if (needsTable) await room(run);
  if (questions.length > 0) await ask(run, questions);
  if (has('money')) {
    const shared = answeredByAll(stores.map(({ result }) => result.questions));
    for (const store of stores) store.result.money = priceOf(store, about, shared);
  }
  if (has('proof')) await proof(run);
  for (const { result } of stores) {
    if (!has('backfill')) result.backfill = null;
    if (!has('room')) result.room = null;
  }
}

/** How many windows are held back for freshness. The backfill has to have some. */
function freshOf(windows: number): number {
  return Math.max(0, Math.min(FRESH_WINDOWS, Math.ceil(MAX_FRESH_SHARE * windows), windows - 1));
}

async function ingest({ stores, signal, progress }: TrialRun, options: StageOptions): Promise<void> {
  const rungs = stores.reduce((sum, { ladder }) => sum + ladder.length, 0);
  progress.begin('ingest ceiling', rungs + (stores.length > 1 ? 1 : 0));
  for (const store of stores) {
    let left = store.ladder.length;
    const rungOver = () => {
      left -= 1;
      progress.done(1);
    };
    await store.attempt('ingest', () => climb(store, options, rungOver), signal);
    progress.done(left);
  }
  if (stores.length > 1) {
    await Promise.all(
      stores.map((store) => store.attempt('ingest', () => writeTogether(store, options), signal)),
    );
    progress.done(1);
  }
  progress.end();
}

async function backfill(
  { stores, without, signal, progress }: TrialRun,
  about: TrafficResult,
  options: StageOptions,
): Promise<void> {
  const points = options.windows.reduce((sum, { size }) => sum + size, 0);
  // Left out, it is not measured, but what follows needs the rows.
  progress.begin(without.has('backfill') ? FILLING : 'backfill', points * stores.length);
  for (const store of stores)
    await store.attempt('backfill', () => fill(store, about, options, progress.done), signal);
  progress.end();
}

async function freshness(run: TrialRun, windows: readonly ClosedWindow[]): Promise<void> {
  const { stores, latenessMs, clock, signal, progress } = run;
  progress.begin('freshness', windows.length * stores.length);
  for (const store of stores) {
    const work = async () => {
      const { table, writers } = store;
      if (table === undefined) return;
      const windowOver = () => progress.done(1);
      const options = { writers, latenessMs, clock, signal, windowOver };
      store.result.freshness = (await measureFreshness(table, windows, options)) ?? null;
      if (store.result.freshness === null) store.remark('freshness: it cannot be asked for what it holds');
      else store.rows += windows.reduce((sum, { size }) => sum + size, 0);
    };
    await store.attempt('freshness', work, signal);
  }
  progress.end();
}

/** Before the questions: they are put to tables as they are some hours later. */
async function room({ stores, signal, progress }: TrialRun): Promise<void> {
  progress.begin('room', stores.length);
  for (const store of stores) {
    await store.attempt('compaction', () => settle(store, signal), signal);
    progress.done(1);
  }
  progress.end();
}

async function ask(run: TrialRun, questions: readonly TrialQuestion[]): Promise<void> {
  const { stores, traffic, secondsEach, clock, signal, progress } = run;
  const truths: Truths = new Map(questions.map(({ id, query }) => [id, trueAnswer(query, traffic.windows)]));
  const able = stores.flatMap(({ table, hasFailed }) => (table === undefined || hasFailed ? [] : [table]));
  progress.begin('questions', questions.length * CLIENTS.length * roundsIn(secondsEach) * able.length);
  const roundOver = () => progress.done(1);
  const answers = await askStores(able, questions, truths, { secondsEach, clock, signal, roundOver });
  for (const store of stores) {
    const asked = store.table === undefined ? [] : (answers.get(store.table) ?? []);
    store.result.questions = asked;
    // Once, and not beside each question.
    const [first] = asked;
    const isMute = !signal.aborted && asked.every((one) => one.asked.kind === 'not_asked');
    if (isMute && first?.asked.kind === 'not_asked') store.remark(`not asked: ${first.asked.why}`);
  }
  progress.end();
}

async function proof({ stores, traffic, signal, progress }: TrialRun): Promise<void> {
  const able = stores.filter(
    ({ config, hasFailed }) => !hasFailed && readBackOf(config.module, config.values) !== 'none',
  );
  for (const store of stores)
    if (!able.includes(store)) store.remark('not proved: it cannot be read, or its trial ended early');
  progress.begin(
    'proof',
    traffic.windows.reduce((sum, { size }) => sum + size, 0),
  );
  await prove(able, traffic, signal, progress.done);
  progress.end();
}

function describeTraffic({ windows, range, messages, remarks }: TrialTraffic): TrafficResult {
  const points = windows.reduce((sum, { size }) => sum + size, 0);
  const series = new Set<string>();
  let text = 0;
  for (const window of windows) {
    for (let index = 0; index < window.size; index++) {
      series.add(window.records.idOf(window.refs[index]!));
      text += window.textSizeOf(index);
    }
  }
  return {
    from: new Date(range.from).toISOString(),
    to: new Date(range.to).toISOString(),
    windows: windows.length,
    windowMs: windows[0]?.windowMs ?? 0,
    points,
    series: series.size,
    pointsPerSecond: points / ((range.to - range.from) / 1000),
    bytesPerPoint: POINT_BYTES + (points === 0 ? 0 : text / points),
    messages,
    remarks,
  };
}

function machine(): TrialResult['machine'] {
  const all = cpus();
  return {
    cpu: all[0]?.model.trim() || 'unknown',
    cores: all.length,
    memoryBytes: totalmem(),
    os: `${platform()} ${release()} ${arch()}`,
  };
}
