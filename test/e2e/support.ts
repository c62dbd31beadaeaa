/** Runs everything as users do: real servers, with the service and `load` in processes of their own. */
import { join } from 'node:path';
import { expect, type TestContext } from 'vitest';
import type { Report } from '../../src/commands/verify-report.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { Stack } from '../../src/servers/stack.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { compareSinks, isEqual, readTruthFile } from '../../src/verify/rows.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';

export const WINDOW_MS = 1000;
/** Short windows, so that a few seconds contain many. */
export const WINDOWS = {
  WINDOW: '1s',
  LATENESS: '500ms',
  MAX_AHEAD: '500ms',
  METRICS_START: 'earliest',
} as const;

type Env = Readonly<Record<string, string>>;

interface Verified {
  readonly code: number | NodeJS.Signals;
  readonly stderr: string;
  readonly report: Report | undefined;
}

type Bus = Pick<Stack, 'folder'> & { readonly nats: Pick<Stack['nats'], 'url'> };

/** Starts the service with SQLite, and a bus of its own, until the end of the test. */
export async function startWithSqlite(context: TestContext, name: string, more: Env = {}) {
  const folder = temporaryFolder(name);
  context.onTestFinished(() => folder.remove());
  const nats = await startNats();
  context.onTestFinished(() => nats.stop());
  const env = {
    ...WINDOWS,
    NATS_URL: nats.url,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
    ...more,
  };
  const service = await startServiceProgram(env);
  context.onTestFinished(async () => void (await service.stop('SIGKILL')));
  const client = await connect({ servers: nats.url });
  context.onTestFinished(() => client.close());
  return { folder: folder.path, url: nats.url, env, service, client };
}

export type Summed = Pick<StoredPoint, 'count' | 'sum' | 'min' | 'max'>;

/** Returns what rows of a series come to, with one more. */
export function addRow(known: Summed | undefined, { count, sum, min, max }: Summed): Summed {
  if (known === undefined) return { count, sum, min, max };
  return {
    count: known.count + count,
    sum: known.sum + sum,
    min: min === null ? null : Math.min(known.min!, min),
    max: max === null ? null : Math.max(known.max!, max),
  };
}

/** Returns all that the store of a sink holds. `env`: the settings. */
export async function storedPoints(env: Env, id: string): Promise<StoredPoint[]> {
  const sink = (await loadConfig(env)).sinks.find((each) => each.id === id)!;
  const reader = sink.module.create(sink.values, { id, log: { info() {}, warn() {} } });
  const signal = new AbortController().signal;
  await reader.open(signal);
  const points = await Array.fromAsync(reader.read({ from: 0, to: Date.now() + 1e6 }, signal));
  await reader.close();
  return points;
}

/** Sends traffic of a given length, and returns what every store must hold afterwards. */
export async function sendTraffic(bus: Bus, args: readonly string[]): Promise<TruthRow[]> {
  return await startLoad(bus, args).truth();
}

/** Sends traffic until `end`, for tests that take as long as the machine needs. */
export function startTraffic(
  bus: Bus,
  args: readonly string[],
  env: Env = {},
): { end(): Promise<TruthRow[]> } {
  const { load, truth } = startLoad(bus, args, env);
  return {
    end() {
      load.child.kill('SIGINT');
      return truth();
    },
  };
}

function startLoad({ nats, folder }: Bus, args: readonly string[], env: Env = {}) {
  const file = join(folder, `truth-${Math.random()}.jsonl`);
  const load = startProgram(['load', ...args, '--truth', file], { NATS_URL: nats.url, ...WINDOWS, ...env });
  const truth = async () => {
    const code = await load.ended;
    if (code !== 0) throw new Error(`load ended with ${code}: ${load.output.stderr}${load.output.stdout}`);
    return await readTruthFile(file);
  };
  return { load, truth };
}

/**
 * Runs `verify --json`, and repeats it while it finds unconfirmed windows: a confirmation shows in the bucket, which
 * the command reads, a moment after it shows in the status.
 */
export async function verifyConfirmed(args: readonly string[], env: Env): Promise<Verified> {
  for (const deadline = Date.now() + LIMIT_MS; ; ) {
    const program = startProgram(['verify', '--json', ...args], env);
    const code = await program.ended;
    const { stdout, stderr } = program.output;
    const report: Report | undefined = stdout.startsWith('{') ? JSON.parse(stdout) : undefined;
    const isConfirmed = report?.sinks.every(({ windows }) => windows.unconfirmed === 0) ?? true;
    if (isConfirmed || Date.now() > deadline) return { code, stderr, report };
  }
}

export function endOf(truth: readonly TruthRow[]): number {
  return truth.reduce((end, { windowStart, windowMs }) => Math.max(end, windowStart! + windowMs!), 0);
}

export function countOf(truth: readonly TruthRow[]): number {
  return truth.reduce((sum, { count }) => sum + count, 0);
}

/** Every sink in `env` must hold every row of the truth, to the last bit, and no other row. */
export async function expectEqual(env: Env, truth: readonly TruthRow[]): Promise<void> {
  for (const [name, value] of Object.entries(env)) if (name.startsWith('AWS_')) process.env[name] = value;
  const { sinks } = await loadConfig(env);
  const results = await compareSinks(sinks, truth, WINDOW_MS);
  expect(results.size).toBe(sinks.length);
  for (const [id, result] of results) {
    expect(isEqual(result), `${id}: ${JSON.stringify(result)}`).toBe(true);
    expect(result.points, id).toBe(truth.length);
  }
}

/** The value of a series in the Prometheus text format; undefined if it is missing. */
export function sample(text: string, series: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

/** Waits until the sink's store was found lost, and is filled again. */
export async function untilFilled(service: Pick<ServiceProgram, 'status'>, id: string): Promise<void> {
  const isFilled = async () => {
    const { sinks } = await service.status();
    return sinks.some((sink) => sink.id === id && sink.refills === 1 && sink.state === 'live');
  };
  await expect.poll(isFilled, { timeout: LIMIT_MS }).toBe(true);
}
