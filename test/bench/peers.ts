/**
 * What the service costs beside what one would write by hand in Go (peers/main.go), and beside Telegraf if it is
 * installed, where most buses are: at 2,000 and 20,000 messages a second, and with nothing to do.
 *
 * All receive the same messages at the same time and write to the same InfluxDB, so that whatever else the machine does
 * affects them alike. Ours is the built package, started as the image starts it.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { spawnTied } from '../../src/base/tied-process.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { startChild } from './children.ts';
import { type Figure, figure, memoryOf, type Spent, spentBy } from './measure.ts';
import { isTelegrafHere, telegrafConfiguration } from './telegraf.ts';

export interface PeersOptions {
  readonly rounds: number;
  readonly series: number;
  readonly tell: (line: string) => void;
}

type Source = 'jetstream' | 'core';
type Name = 'ours' | 'Go' | 'Telegraf';

interface Job {
  readonly source: Source;
  /** Messages a second; 0: nothing to do. */
  readonly rate: number;
  /** The most that ours may cost, as a share of what the program in Go costs. */
  readonly bar?: number;
}

interface Peer {
  readonly name: Name;
  readonly pid: number;
  stop(): Promise<unknown>;
}

/** Of one peer in one round. */
interface Cost {
  /** CPU: nanoseconds per message; with nothing to do, milliseconds per second. */
  readonly cpu: number;
  readonly switches: number;
  readonly megabytes: number;
}

interface Place {
  readonly source: Source;
  readonly nats: NatsServer;
  readonly influxdb: Server;
  readonly folder: string;
  /** A part of the names of the databases. */
  readonly run: string;
}

type Start = (place: Place) => Promise<Peer>;

const JOBS: readonly Job[] = [
  { source: 'jetstream', rate: 0 },
  { source: 'jetstream', rate: 2_000, bar: 0.5 },
  { source: 'core', rate: 2_000, bar: 0.5 },
  { source: 'jetstream', rate: 20_000, bar: 0.3 },
  { source: 'core', rate: 20_000, bar: 0.3 },
];
const MAX_IDLE_MS_PER_S = 2;
const MAX_RESIDENT_MB = 85;

const SUBJECT = 'metrics';
const STREAM = 'METRICS';
/** V8 compiles what is used often for most of a minute, and a service runs for days. */
const WARM_UP_S = 50;
/** With nothing to do, V8 still tidies up after the start for twenty seconds. */
const IDLE_WARM_UP_S = 30;
/** Two windows, so that each peer writes twice wherever its windows begin. */
const MEASURED_S = 20;
const POLL_MS = 500;
const WRITTEN_TIMEOUT_MS = 90_000;
const TELEGRAF_STARTED_MS = 3_000;
const BYTES_PER_MB = 1e6;
const NANOS_PER_MS = 1e6;

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const GO_PROGRAM = fileURLToPath(new URL('./peers', import.meta.url));

/** Returns false if Go is not installed, or cannot get the client of NATS. */
function buildGo(program: string, tell: (line: string) => void): boolean {
  try {
    execFileSync('go', ['build', '-o', program, '.'], {
      cwd: GO_PROGRAM,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return true;
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer };
    tell(code === 'ENOENT' ? 'no go on the PATH' : `go build: ${stderr}`);
    return false;
  }
}

const databaseOf = (name: Name, run: string) => `${name.toLowerCase()}_${run}`;

async function startOurs({ source, nats, influxdb, run }: Place): Promise<Peer> {
  const env = {
    NATS_URL: nats.url,
    METRICS_SOURCE: source,
    METRICS_SUBJECTS: SUBJECT,
    ...(source === 'jetstream' ? { METRICS_STREAM: STREAM, METRICS_STREAM_MAX_BYTES: '1GiB' } : {}),
    SINK_INFLUXDB_ENABLED: 'true',
    SINK_INFLUXDB_API: 'v1',
    SINK_INFLUXDB_URL: influxdb.url,
    SINK_INFLUXDB_DATABASE: databaseOf('ours', run),
  };
  const service = await startServiceProgram(env, join(PACKAGE, 'dist/src/bin.js'));
  return { name: 'ours', pid: service.child.pid!, stop: () => service.stop('SIGKILL') };
}

async function startGo({ source, nats, influxdb, folder, run }: Place): Promise<Peer> {
  const args = [source, nats.url, SUBJECT, STREAM, influxdb.url, databaseOf('Go', run)];
  const child = spawnTied(join(folder, 'peer'), args);
  let errors = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(child, 'exit').then(() => {
    throw new Error(`the program in Go ended: ${errors}`);
  });
  await Promise.race([once(child.stdout!, 'data'), ended]);
  ended.catch(() => {});
  return { name: 'Go', pid: child.pid!, stop: async () => child.kill('SIGKILL') };
}

async function startTelegraf({ source, nats, influxdb, folder, run }: Place): Promise<Peer> {
  const file = join(folder, `telegraf-${run}.conf`);
  const place = { subject: SUBJECT, source, database: databaseOf('Telegraf', run) };
  writeFileSync(file, telegrafConfiguration(nats.url, influxdb.url, place));
  const child = spawnTied('telegraf', ['--config', file]);
  child.stdout!.resume();
  child.stderr!.resume();
  await sleep(TELEGRAF_STARTED_MS);
  return { name: 'Telegraf', pid: child.pid!, stop: async () => child.kill('SIGKILL') };
}

/** What a peer has written: samples, and their sum. */
async function writtenBy(name: Name, { influxdb, run }: Place): Promise<string> {
  const q = 'SELECT sum("count"), sum("sum") FROM "http.requests"';
  const url = `${influxdb.url}/query?${new URLSearchParams({ db: databaseOf(name, run), q })}`;
  const { results } = (await (await fetch(url)).json()) as {
    readonly results: readonly { readonly series?: readonly { readonly values: readonly number[][] }[] }[];
  };
  const [, samples = 0, total = 0] = results[0]?.series?.[0]?.values[0] ?? [];
  return `${samples} samples, sum ${total}`;
}

/** Resolves when all have written all messages, and the same sum. Telegraf may leave out what comes late. */
async function untilWritten(all: readonly Peer[], place: Place, messages: number): Promise<void> {
  const peers = all.filter(({ name }) => name !== 'Telegraf');
  for (const deadline = Date.now() + WRITTEN_TIMEOUT_MS; ; await sleep(POLL_MS)) {
    const written = await Promise.all(peers.map(({ name }) => writtenBy(name, place)));
    const isAll = written.every((each) => each.startsWith(`${messages} `) && each === written[0]);
    if (isAll) return;
    if (Date.now() < deadline) continue;
    const lines = peers.map(({ name }, i) => `${name}: ${written[i]}`);
    throw new Error(`of ${messages} messages were written: ${lines.join('; ')}`);
  }
}

function costsBetween(peers: readonly Peer[], before: readonly Spent[], messages: number): Map<Name, Cost> {
  return new Map(
    peers.map(({ name, pid }, i) => {
      const { cpu, switches } = spentBy(pid);
      const spent = cpu - before[i]!.cpu;
      return [
        name,
        {
          cpu: messages > 0 ? spent / messages : spent / NANOS_PER_MS / MEASURED_S,
          switches: (switches - before[i]!.switches) / MEASURED_S,
          megabytes: memoryOf(pid).resident / BYTES_PER_MB,
        },
      ];
    }),
  );
}

async function measureJob({ rate }: Job, starts: readonly Start[], place: Place, series: number) {
  const producer = await startChild('./producer.ts', [place.nats.url, String(series), 'counters']);
  const peers: Peer[] = [];
  try {
    for (const start of starts) peers.push(await start(place));
    const send = (seconds: number) =>
      rate === 0 ? sleep(seconds * 1000) : producer.ask({ subject: SUBJECT, messages: seconds * rate, rate });
    await send(rate === 0 ? IDLE_WARM_UP_S : WARM_UP_S);
    const before = peers.map(({ pid }) => spentBy(pid));
    await send(MEASURED_S);
    const costs = costsBetween(peers, before, rate * MEASURED_S);
    if (rate > 0) await untilWritten(peers, place, rate * (WARM_UP_S + MEASURED_S));
    return costs;
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
    await producer.stop();
  }
}

export async function measurePeers({ rounds, series, tell }: PeersOptions): Promise<Figure[]> {
  const folder = temporaryFolder('peers');
  const starts: Start[] = [startOurs];
  if (buildGo(join(folder.path, 'peer'), tell)) starts.push(startGo);
  else tell('the program in Go is left out, and with it all ratios');
  if (isTelegrafHere()) starts.push(startTelegraf);
  else tell('no telegraf on the PATH: it is left out');
  // Never a build of other sources than these.
  execFileSync(process.execPath, ['scripts/build.ts'], { cwd: PACKAGE, stdio: 'ignore' });
  const influxdb = await startInfluxDb();
  const costs = new Map<Job, Map<Name, Cost>[]>(JOBS.map((job) => [job, []]));
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const [i, job] of JOBS.entries()) {
        const nats = await startNats();
        const run = `${round}_${i}`;
        const place = { source: job.source, nats, influxdb, folder: folder.path, run };
        const measured = await measureJob(job, starts, place, series).finally(() => nats.stop());
        costs.get(job)!.push(measured);
        tell(`round ${round}: ${nameOf(job)}: ${[...measured].map(describe(job)).join('; ')}`);
      }
    }
  } finally {
    await influxdb.stop();
    folder.remove();
  }
  return JOBS.flatMap((job) => figuresOf(job, costs.get(job)!));
}

const nameOf = ({ source, rate }: Job) => (rate === 0 ? 'nothing to do' : `${source}, ${rate} messages/s`);

const describe =
  ({ rate }: Job) =>
  ([name, { cpu, switches, megabytes }]: [Name, Cost]) =>
    `${name}: ${rate === 0 ? `${cpu.toFixed(1)} ms/s` : `${(cpu / 1000).toFixed(1)} us`}, ` +
    `${switches.toFixed(0)} switches/s, ${megabytes.toFixed(0)} MB`;

function figuresOf(job: Job, rounds: readonly ReadonlyMap<Name, Cost>[]): Figure[] {
  const what = nameOf(job);
  const isIdle = job.rate === 0;
  const names = [...rounds[0]!.keys()];
  const of = (name: Name, pick: keyof Cost) => rounds.map((costs) => costs.get(name)![pick]);
  const limit = (name: Name, bar: number) => (name === 'ours' ? { bar } : {});
  const figures = names.map((name) =>
    isIdle
      ? figure('peers', `${what}: ${name}`, 'ms/s', of(name, 'cpu'), limit(name, MAX_IDLE_MS_PER_S))
      : figure('peers', `${what}: ${name}`, 'ns/message', of(name, 'cpu')),
  );
  if (!isIdle && names.includes('Go')) {
    const go = of('Go', 'cpu');
    const ratios = of('ours', 'cpu').map((cpu, round) => cpu / go[round]!);
    const bar = job.bar === undefined ? {} : { bar: job.bar };
    figures.push(figure('peers', `${what}: ours / Go`, 'times', ratios, bar));
  }
  for (const name of names)
    figures.push(figure('peers', `${what}: ${name}, woken`, 'switches/s', of(name, 'switches')));
  for (const name of names)
    figures.push(
      figure(
        'peers',
        `${what}: ${name}, resident`,
        'MB',
        of(name, 'megabytes'),
        limit(name, MAX_RESIDENT_MB),
      ),
    );
  return figures;
}
