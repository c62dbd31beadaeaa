/** Runs real servers, `load` and the service in their own processes, with faults in all of them, and then compares. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../../src/config/config.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { compareSinks } from '../../src/verify/rows.ts';
import { LIMIT_MS } from '../limits.ts';
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
import { type RunningTraffic, startTraffic, type TrafficOptions, WINDOW_MS, WINDOWS } from './traffic.ts';

export interface ChaosOptions extends TrafficOptions {
  /** How long faults are injected. */
  readonly ms: number;
  /** `kill -9` of the service, on top of the faults of all kinds. */
  readonly kills: number;
  /** How long a sink may take to be at the head of the stream again, and in the end to confirm everything. */
  readonly healMs: number;
  readonly tell: (line: string) => void;
}

/** Timeouts so short that a hanging store has an effect, and backlogs so small that lanes overflow and replay. */
const LANES = {
  SINK_INFLUXDB_TIMEOUT: '3s',
  SINK_REDSHIFT_TIMEOUT: '3s',
  SINK_DYNAMODB_TIMEOUT: '3s',
  SINK_INFLUXDB_BACKLOG: '150KB',
  SINK_REDSHIFT_BACKLOG: '150KB',
} as const;
/** Rules on names and dimensions change at every restart, and take effect while faults and restarts go on. */
const RULES = [
  {},
  {
    METRICS_NAMES: '!auth.*',
    METRICS_DROP_DIMENSIONS: 'http.*: host, route; *: region',
    METRICS_RENAME: 'cache.*=store.*; *: app=service',
  },
  { METRICS_KEEP_DIMENSIONS: '*: app, status, tenant', METRICS_SUBJECT_DIMENSIONS: 'metrics.{tenant}' },
].map((rules) => ({ ...rules, CHANGE_DELAY: '2s' }));
/** A sink with longer windows and some names only, in which nothing can be injected: what it has must be right. */
const OWN = {
  SINK_OWN_ENABLED: 'true',
  SINK_OWN_KIND: 'sqlite',
  SINK_OWN_WINDOW: '3s',
  SINK_OWN_NAMES: '!queue.*',
} as const;
const isOwn = (name: string) => !name.startsWith('queue.');
/** Only those rules give them. */
const SHAPED_KEYS = ['service', 'tenant'];
const WARM_UP_MS = 1_000;
const SHAPED_POLL_MS = 500;
/** How long traffic goes on after all sinks are at the head again. */
const CALM_MS = 3_000;

/** Rejects if the run is not possible, or when `signal` aborts. Leaves no processes. */
export async function runChaos(options: ChaosOptions, signal: AbortSignal): Promise<ChaosReport> {
  const began = performance.now();
  const stack = await startStack();
  const links = await startLinks(stack);
  const env = { ...stack.env, ...WINDOWS };
  const own = { ...OWN, SINK_OWN_PATH: join(stack.folder, 'own.db') };
  const instances = new Instances({ ...env, ...own, ...LANES, ...throughLinks(stack, links) }, RULES);
  let traffic: RunningTraffic | undefined;
  try {
    traffic = startTraffic(options, env, join(stack.folder, 'truth.jsonl'));
    instances.keep();
    await traffic.begun();
    await sleep(WARM_UP_MS, undefined, { signal });
    const faults = await injectAll(options, stack, links, instances, signal);
    options.tell('all faults are healed');
    const healing = await atHead(instances, options.healMs, signal);
    await untilShaped(instances, own.SINK_OWN_PATH, options, signal);
    await sleep(CALM_MS, undefined, { signal });
    const { messages, held, truth, end } = await traffic.end(signal);
    const unconfirmed = await untilConfirmed(instances, end, options.healMs, signal);
    const status = await instances.status();
    await instances.stop('SIGTERM');
    options.tell('comparing');
    for (const [name, value] of Object.entries(env)) if (name.startsWith('AWS_')) process.env[name] = value;
    const sinks = await compareSinks((await loadConfig(env)).sinks, truth, WINDOW_MS);
    const verified = await verify({ ...env, ...own });
    return {
      seed: options.seed,
      seconds: (performance.now() - began) / 1000,
      faults,
      messages: held,
      lostByTheBus: messages - held,
      rows: truth.length,
      shaped: truth.filter(({ series }) => series.dimensions.some(([key]) => SHAPED_KEYS.includes(key)))
        .length,
      samples: truth.reduce((sum, { count }) => sum + count, 0),
      own: {
        held: samplesIn(own.SINK_OWN_PATH),
        sent: truth.reduce((sum, { series, count }) => sum + (isOwn(series.name) ? count : 0), 0),
      },
      sinks: Object.fromEntries(sinks),
      verified,
      healing,
      unconfirmed,
      totals: instances.totals,
      failures: instances.failures,
      lastStatus: status,
    };
  } finally {
    await Promise.all([instances.stop('SIGKILL'), traffic?.kill()]);
    await Promise.all(Object.values(links).map((link) => link.stop()));
    await stack.stop();
  }
}

/**
 * A machine that is slow to start an instance has none for long enough that rules take effect before it is killed. So
 * traffic goes on until they have, with the next rules where the last ones give nothing.
 */
async function untilShaped(
  instances: Instances,
  file: string,
  { healMs }: ChaosOptions,
  signal: AbortSignal,
) {
  const deadline = performance.now() + healMs;
  while (!hasShapedRows(file) && performance.now() < deadline) {
    const [instance] = instances.running;
    if (instance !== undefined && instance.variant === RULES[0]) await instances.end(instance, 'SIGTERM');
    await sleep(SHAPED_POLL_MS, undefined, { signal });
  }
}

function hasShapedRows(file: string): boolean {
  const database = new DatabaseSync(file, { readOnly: true, timeout: LIMIT_MS });
  const keys = SHAPED_KEYS.map(() => '?').join(', ');
  const exists = `SELECT 1 FROM points, json_each(dimensions) WHERE key IN (${keys}) LIMIT 1`;
  const rows = database.prepare(exists).all(...SHAPED_KEYS);
  database.close();
  return rows.length > 0;
}

function samplesIn(file: string): number {
  const database = new DatabaseSync(file, { readOnly: true });
  const [row] = database.prepare('SELECT sum(count) AS samples FROM points').all();
  database.close();
  return Number(row!.samples);
}

/** What the command `verify` says about the same stores: equal rows by sink; undefined if not all are equal. */
async function verify(env: Readonly<Record<string, string>>): Promise<ChaosReport['verified']> {
  const program = startProgram(['verify', '--json'], env);
  if ((await program.ended) !== 0) return undefined;
  const { sinks } = JSON.parse(program.output.stdout) as VerifyAnswer;
  return Object.fromEntries(sinks.map(({ sink, rows }) => [sink, rows.equal]));
}

interface VerifyAnswer {
  readonly sinks: readonly { readonly sink: string; readonly rows: { readonly equal: number } }[];
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
    // Only paused, as it keeps its data in memory.
    serverTarget('dynamodb', stack.dynamodb, false),
    ...Object.entries(links).map(([name, link]) => linkTarget(name, link)),
    serviceTarget(instances),
  ];
  // A fault that cannot be healed ends all the others. They are healed before the error is reported.
  const failed = new AbortController();
  const over = AbortSignal.any([signal, failed.signal, AbortSignal.timeout(ms)]);
  const injected = [
    ...injectFaults(seed, targets, over, tell),
    injectKills(seed, kills, ms, instances, over, tell),
  ];
  for (const work of injected) work.catch(() => failed.abort());
  const results = await Promise.allSettled(injected);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  signal.throwIfAborted();
  return counts;
}
