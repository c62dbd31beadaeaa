/** Real servers, `load` and the service as processes of their own, faults in all of them, and then the comparison. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { compareSinks, readTruthFile } from '../../src/compare/compare.ts';
import { loadConfig } from '../../src/config.ts';
import { type Program, startProgram } from '../../src/servers/program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import {
  type FaultCounts,
  injectFaults,
  injectKills,
  linkTarget,
  serverTarget,
  serviceTarget,
} from './faults.ts';
import { atHead, untilConfirmed } from './heal.ts';
import { Instances } from './instances.ts';
import { type Link, startLink } from './link.ts';
import type { ChaosReport } from './report.ts';

export interface ChaosOptions {
  readonly seed: number;
  /** How long faults are injected. */
  readonly ms: number;
  /** `kill -9` of the service, on top of the faults of all kinds. */
  readonly kills: number;
  /** Messages a second. */
  readonly rate: number;
  readonly series: number;
  /** How long a sink may take to be at the head again, and at the end to confirm all. */
  readonly healMs: number;
  readonly tell: (line: string) => void;
}

export const WINDOW_MS = 1_000;
export const WINDOWS = {
  WINDOW: '1s',
  LATENESS: '500ms',
  MAX_AHEAD: '500ms',
  METRICS_START: 'earliest',
} as const;
/** Short, so that a store that hangs shows; and so little memory that lanes go over it and replay. */
const LANES = {
  SINK_INFLUXDB_TIMEOUT: '3s',
  SINK_REDSHIFT_TIMEOUT: '3s',
  SINK_DYNAMODB_TIMEOUT: '3s',
  SINK_INFLUXDB_BACKLOG: '150KB',
  SINK_REDSHIFT_BACKLOG: '150KB',
} as const;
const LOAD_END_MS = 180_000;
const WARM_UP_MS = 1_000;
/** Traffic goes on for so long after all sinks are at the head again. */
const CALM_MS = 3_000;

/** Rejects where it could not be carried out, and where `signal` aborts. Leaves no process. */
export async function runChaos(options: ChaosOptions, signal: AbortSignal): Promise<ChaosReport> {
  const began = performance.now();
  const stack = await startStack();
  const links = await startLinks(stack);
  const env = { ...stack.env, ...WINDOWS };
  const truthFile = join(stack.folder, 'truth.jsonl');
  const instances = new Instances({ ...env, ...LANES, ...throughLinks(stack, links) });
  let load: Program | undefined;
  try {
    load = startLoad(options, env, truthFile);
    instances.keep();
    await sleep(WARM_UP_MS, undefined, { signal });
    const faults = await injectAll(options, stack, links, instances, signal);
    options.tell('all faults are healed');
    const healing = await atHead(instances, WINDOW_MS, options.healMs, signal);
    await sleep(CALM_MS, undefined, { signal });
    const sent = await endLoad(load, signal);
    const truth = await readTruthFile(truthFile);
    const end = truth.reduce((most, { windowStart }) => Math.max(most, windowStart! + WINDOW_MS), 0);
    const unconfirmed = await untilConfirmed(instances, end, options.healMs, signal);
    const status = await instances.status();
    await instances.stop('SIGTERM');
    options.tell('comparing');
    for (const [name, value] of Object.entries(env)) if (name.startsWith('AWS_')) process.env[name] = value;
    const sinks = await compareSinks((await loadConfig(env)).sinks, truth, WINDOW_MS);
    return {
      seed: options.seed,
      seconds: (performance.now() - began) / 1000,
      faults,
      messages: sent.held,
      lostByTheBus: sent.messages - sent.held,
      rows: truth.length,
      samples: truth.reduce((sum, { count }) => sum + count, 0),
      sinks: Object.fromEntries(sinks),
      healing,
      unconfirmed,
      totals: instances.totals,
      failures: instances.failures,
      lastStatus: status,
    };
  } finally {
    await Promise.all([instances.stop('SIGKILL'), load?.stop('SIGKILL')]);
    await Promise.all(Object.values(links).map((link) => link.stop()));
    await stack.stop();
  }
}

type Links = Readonly<Record<'nats' | 'influxdb' | 'redshift' | 'dynamodb', Link>>;

async function startLinks({ nats, influxdb, postgres, dynamodb }: Stack): Promise<Links> {
  return {
    nats: await startLink(nats.port),
    influxdb: await startLink(influxdb.port),
    redshift: await startLink(postgres.port),
    dynamodb: await startLink(dynamodb.port),
  };
}

function throughLinks(stack: Stack, links: Links): Record<string, string> {
  const ways = [
    ['NATS_URL', stack.nats.port, links.nats.port],
    ['SINK_INFLUXDB_URL', stack.influxdb.port, links.influxdb.port],
    ['SINK_REDSHIFT_URL', stack.postgres.port, links.redshift.port],
    ['SINK_DYNAMODB_ENDPOINT', stack.dynamodb.port, links.dynamodb.port],
  ] as const;
  return Object.fromEntries(
    ways.map(([name, port, link]) => [name, stack.env[name]!.replace(`:${port}`, `:${link}`)]),
  );
}

function startLoad({ seed, rate, series }: ChaosOptions, env: Record<string, string>, file: string): Program {
  const args = ['--rate', rate, '--series', series, '--seed', seed, '--late', 0.05, '--ahead', 0.02];
  const types = ['--types', 'counter:6,gauge:2,timer:2'];
  return startProgram(['load', '--json', ...args.map(String), ...types, '--truth', file], env);
}

/** What it sent, and what the stream held of it: a bus that crashes may lose messages, which then are no part of the truth. */
async function endLoad(load: Program, signal: AbortSignal): Promise<{ messages: number; held: number }> {
  load.child.kill('SIGINT');
  const timer = new AbortController();
  const timeout = sleep(LOAD_END_MS, undefined, { signal: AbortSignal.any([signal, timer.signal]) });
  const code = await Promise.race([load.ended, timeout.then(() => 'no end in time')]);
  timer.abort();
  timeout.catch(() => {});
  try {
    const { messages, truth } = JSON.parse(load.output.stdout);
    return { messages, held: truth.messages };
  } catch {
    throw new Error(`load ended with ${code}: ${load.output.stderr}${load.output.stdout}`);
  }
}

async function injectAll(
  options: ChaosOptions,
  stack: Stack,
  links: Links,
  instances: Instances,
  signal: AbortSignal,
): Promise<FaultCounts> {
  const { seed, kills, ms } = options;
  const counts: FaultCounts = {};
  const began = performance.now();
  const tell = (target: string, kind: string) => {
    const ofTarget = counts[target] ?? {};
    counts[target] = ofTarget;
    ofTarget[kind] = (ofTarget[kind] ?? 0) + 1;
    options.tell(`${((performance.now() - began) / 1000).toFixed(1)} s: ${target}: ${kind}`);
  };
  const targets = [
    serverTarget('nats', stack.nats, true, { orderly: 'SIGTERM', crash: 'SIGKILL' }),
    serverTarget('influxdb', stack.influxdb, false, { orderly: 'SIGTERM', crash: 'SIGKILL' }),
    serverTarget('redshift', stack.postgres, false, { orderly: 'SIGINT', crash: 'SIGKILL' }),
    // It keeps its data in memory only.
    serverTarget('dynamodb', stack.dynamodb, false),
    ...Object.entries(links).map(([name, link]) => linkTarget(name, link)),
    serviceTarget(instances),
  ];
  // A fault that cannot be healed ends all the others, and they are healed before that is told.
  const failed = new AbortController();
  const over = AbortSignal.any([signal, failed.signal, AbortSignal.timeout(ms)]);
  const injected = [
    injectFaults(seed, targets, over, tell),
    injectKills(seed, kills, ms, instances, over, tell),
  ];
  for (const work of injected) work.catch(() => failed.abort());
  const results = await Promise.allSettled(injected);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  signal.throwIfAborted();
  return counts;
}
