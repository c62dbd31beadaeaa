/** Everything hostile at once, by several users of the example configuration, beside an honest producer. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OVERFLOW_DIMENSION } from '../../src/aggregate/series.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { connect } from '../../src/bus/connect.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import type { Report as VerifyReport } from '../../src/commands/verify-report.ts';
import { loadConfig } from '../../src/config/config.ts';
import { findDifferences, readBack } from '../../src/load/stream-check.ts';
import type { Status } from '../../src/observe/status.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startInfluxDb } from '../../src/servers/influxdb.ts';
import { type Server, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { compareSinks, type RowComparison } from '../../src/verify/rows.ts';
import { Truth, type TruthRow } from '../../src/verify/truth.ts';
import { type Child, startChild } from '../bench/children.ts';
import { type CpuTime, cpuTimeOf, memoryOf, spentBetween } from '../bench/measure.ts';
import { as, startExampleBus } from '../e2e/bus-users.ts';
import { LIMIT_MS } from '../limits.ts';
import { type Counts, countsOf, decoded, discrepancies, Ledger } from './counts.ts';
import { KINDS } from './kinds/index.ts';
import { type Outcome, subjectOf } from './kinds/kind.ts';
import { Others } from './others.ts';
import type { Health } from './prober.ts';
import type { Sent } from './producer.ts';

export interface SiegeOptions {
  readonly seconds: number;
  /** Honest messages a second. */
  readonly rate: number;
  readonly kinds: readonly string[];
  /** Settings of the service, in addition to the siege's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the service begins, if it is not this program. */
  readonly main?: string;
  readonly tell: (line: string) => void;
}

type Env = Readonly<Record<string, string>>;

export interface StoreResult {
  readonly honest: RowComparison;
  /** Of the honest producer's names, which were folded. */
  readonly folded: number;
  readonly rows: number;
  readonly samples: number;
}

export interface SiegeReport {
  readonly seconds: number;
  readonly honest: {
    readonly messages: number;
    readonly perSecond: number;
    readonly wantedPerSecond: number;
    readonly rows: number;
    /** Series of which the stream does not hold what was sent. */
    readonly differing: number;
  };
  readonly kinds: Readonly<Record<string, Outcome>>;
  readonly stores: Readonly<Record<string, StoreResult>>;
  readonly verify: VerifyReport | undefined;
  /** Where the service's counters differ from what was sent, in words. */
  readonly unaccounted: readonly string[];
  readonly counts: Counts;
  readonly memory: { readonly most: number; readonly end: number };
  /** While it was besieged, in processors. */
  readonly busy: Busy;
  readonly health: Health;
  /** What has changed that belongs to others, in words. */
  readonly changes: readonly string[];
  readonly lag: {
    readonly mostSeconds: number;
    readonly mostPending: number;
    readonly confirmedSeconds: number;
  };
  readonly refusedRequests: number;
  readonly lastStatus: Status;
}

interface Busy {
  /** If its main thread had something to do and no processor, latencies say more about the machine than about it. */
  readonly service: CpuTime;
  readonly producer: number;
  readonly attackers: number;
}

const HONEST_SUBJECT = 'metrics.honest';
const HONEST = { series: 1_000, seed: 1 } as const;
const STORES = ['sqlite', 'influxdb'] as const;
const LOOK_EVERY_MS = 1_000;
const MEMORY_EVERY_MS = 200;
const TELL_EVERY_LOOKS = 5;

/** So that a service that takes ever more takes not all of the machine. */
const MAX_RESIDENT_BYTES = 6e9;

/** Rejects where it could not be carried out, or the service has ended. Leaves no process. */
export async function runSiege(options: SiegeOptions): Promise<SiegeReport> {
  const folder = temporaryFolder('siege');
  const servers: Server[] = [];
  const children: Child[] = [];
  let service: ServiceProgram | undefined;
  let others: Others | undefined;
  try {
    const nats = await startExampleBus();
    servers.push(nats);
    const influxdb = await startInfluxDb();
    servers.push(influxdb);
    const env = { ...settings(influxdb.url, folder.path), ...options.env };
    await makeStream({ ...as('setup', nats), ...env });
    others = await Others.at(nats);
    const extra = options.kinds.map((kind) => KINDS[kind]!.env ?? {});
    const ofService = Object.assign({ ...as('fanout', nats), ...env }, ...extra);
    service = await startServiceProgram(ofService, options.main);
    await others.remember();
    const producer = await startChild('../siege/producer.ts', [], { ...as('producer', nats), ...env });
    children.push(producer);
    const attackers = await startChild('../siege/attackers.ts', []);
    children.push(attackers);
    const prober = await startChild('../siege/prober.ts', [new URL(service.url).port]);
    children.push(prober);
    const besieged = await besiege(options, service, { producer, attackers, prober }, nats);
    const settled = await untilSettled(service, others, options.tell);
    const fought = { ...besieged, ...settled };
    const end = memoryOf(service.child.pid!);
    const bySubject = await others.messagesBySubject();
    const code = await service.stop();
    if (code !== 0) throw new Error(`the service ended with ${code}: ${service.output.stderr}`);
    options.tell('comparing');
    const compared = await compare({ ...as('fanout', nats), ...env }, fought.sent);
    const changes = [...(await others.changes()), ...strayed(fought.first, fought.status)];
    return report(options, fought, compared, { bySubject, end, changes });
  } finally {
    await Promise.all([...children.map((child) => child.stop()), service?.stop('SIGKILL'), others?.close()]);
    await Promise.all(servers.map((server) => server.stop()));
    folder.remove();
  }
}

function settings(influxdbUrl: string, folder: string): Env {
  return {
    METRICS_START: 'earliest',
    CONTROL_TOKEN: randomBytes(16).toString('hex'),
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder, 'fanout.db'),
    SINK_INFLUXDB_ENABLED: 'true',
    SINK_INFLUXDB_API: 'v1',
    SINK_INFLUXDB_URL: influxdbUrl,
    SINK_INFLUXDB_DATABASE: 'fanout',
  };
}

/** As the example says: the service runs once as the user who may make the stream and the bucket. */
async function makeStream(env: Env): Promise<void> {
  const first = await startServiceProgram({ ...env, METRICS_STREAM_NO_ACK: 'true' });
  await first.stop();
}

interface Children {
  readonly producer: Child;
  readonly attackers: Child;
  readonly prober: Child;
}

interface Besieged {
  readonly first: Status;
  readonly sent: Sent;
  readonly kinds: Readonly<Record<string, Outcome>>;
  readonly health: Health;
  readonly busy: SiegeReport['busy'];
  readonly watched: { readonly mostSeconds: number; readonly mostPending: number };
}

async function besiege(
  { seconds, rate, kinds, tell }: SiegeOptions,
  service: ServiceProgram,
  { producer, attackers, prober }: Children,
  bus: { readonly url: string },
): Promise<Besieged> {
  const first = await service.status();
  const busy = watchProcessors({
    service: service.child.pid!,
    producer: producer.pid,
    attackers: attackers.pid,
  });
  const watch = watchService(service, tell);
  await prober.ask('begin');
  const order = { subject: HONEST_SUBJECT, rate, ms: seconds * 1000, ...HONEST };
  const produced = producer.ask(order) as Promise<Sent>;
  await attackers.ask({ kinds, bus: { url: bus.url }, httpPort: Number(new URL(service.url).port) });
  const sent = await Promise.race([produced, watch.failed]).finally(watch.end);
  const used = busy();
  const outcomes = (await attackers.ask('end')) as Besieged['kinds'];
  const health = (await prober.ask('end')) as Health;
  tell('the siege is over');
  return {
    first,
    sent,
    kinds: outcomes,
    health,
    busy: used,
    watched: watch.most,
  };
}

/** Returns a function that says what they have used since. */
function watchProcessors(pids: Readonly<Record<'service' | 'producer' | 'attackers', number>>): () => Busy {
  const look = () => Object.values(pids).map(cpuTimeOf);
  const befores = look();
  const began = performance.now();
  return () => {
    const nanos = (performance.now() - began) * 1e6;
    const [service, producer, attackers] = look().map((after, i) => spentBetween(befores[i]!, after, nanos));
    return { service: service!, producer: producer!.process, attackers: attackers!.process };
  };
}

/** Looks at memory and lag, and rejects `failed` if the service ends, or takes so much that the machine suffers. */
function watchService(service: ServiceProgram, tell: (line: string) => void) {
  const most = { mostSeconds: 0, mostPending: 0 };
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const pid = service.child.pid!;
  let isOver = false;
  const began = performance.now();
  void service.ended.then((code) => {
    failed.reject(new Error(`the service ended with ${code}: ${service.output.stderr}`));
  });
  const memory = setInterval(() => {
    if (service.child.exitCode !== null || memoryOf(pid).resident < MAX_RESIDENT_BYTES) return;
    failed.reject(
      new Error(`the service takes more than ${MAX_RESIDENT_BYTES / 1e9} GB of memory: given up`),
    );
  }, MEMORY_EVERY_MS);
  const look = async () => {
    for (let looks = 1; !isOver; looks++, await sleep(LOOK_EVERY_MS)) {
      const status = await service.status().catch(() => undefined);
      if (status === undefined) continue;
      const { lagSeconds, pendingMessages } = status.source;
      most.mostSeconds = Math.max(most.mostSeconds, lagSeconds);
      most.mostPending = Math.max(most.mostPending, pendingMessages);
      if (looks % TELL_EVERY_LOOKS !== 0 || isOver) continue;
      tell(
        `${((performance.now() - began) / 1000).toFixed(0)} s: ${status.messages.received} messages received, ` +
          `${(memoryOf(pid).resident / 1e6).toFixed(0)} MB, ${lagSeconds.toFixed(1)} s behind, ` +
          `${status.windows.series} series`,
      );
    }
  };
  void look();
  return {
    failed: failed.promise,
    most,
    end() {
      isOver = true;
      clearInterval(memory);
    },
  };
}

/** Waits until all of the stream is read, and both stores have confirmed all of it. */
async function untilSettled(
  service: ServiceProgram,
  others: Others,
  tell: (line: string) => void,
): Promise<{ readonly status: Status; readonly confirmedSeconds: number }> {
  const inStream = Object.values(await others.messagesBySubject()).reduce((sum, count) => sum + count, 0);
  const began = performance.now();
  const end = Date.now();
  for (let looks = 0; ; looks++, await sleep(LOOK_EVERY_MS)) {
    const waited = (performance.now() - began) / 1000;
    if (waited * 1000 > LIMIT_MS) throw new Error(`not settled in time: ${service.output.stderr}`);
    const status = await service.status().catch(() => undefined);
    if (status === undefined) continue;
    const isBehind = ({ id, next }: Status['sinks'][number]) =>
      STORES.some((store) => store === id) && (next === null || Date.parse(next) < end);
    const behind = status.sinks.filter(isBehind).map(({ id }) => id);
    const isRead = status.messages.received >= inStream;
    if (behind.length === 0 && isRead) return { status, confirmedSeconds: waited };
    if (looks % TELL_EVERY_LOOKS === 0)
      tell(`waiting for ${behind}, ${status.source.pendingMessages} messages to read`);
  }
}

/** What the service has been made to do. */
function strayed(first: Status, last: Status): string[] {
  const { sinks, control } = last;
  return [
    ...(last.instance === first.instance ? [] : ['the service was started again']),
    ...(last.detached ? ['the service has left the bus'] : []),
    ...(control.tasksRunning > 0 ? [`${control.tasksRunning} tasks run`] : []),
    ...sinks.filter(({ paused }) => paused).map(({ id }) => `${id} is paused`),
  ];
}

interface Compared {
  readonly truth: Truth;
  readonly rows: readonly TruthRow[];
  readonly differing: number;
  readonly stores: Readonly<Record<string, StoreResult>>;
  readonly verify: VerifyReport | undefined;
}

async function compare(env: Env, { sent, progress }: Sent): Promise<Compared> {
  const { core, sinks } = await loadConfig(env);
  const bus = await connect(core, createLog('warn'), { name: 'siege' });
  const truth = new Truth({ windowMs: core.window, latenessMs: core.lateness, maxAheadMs: core.maxAhead });
  const honest = { ...core, metricsSubjects: [HONEST_SUBJECT] };
  const source = createJetStreamSource(bus, honest, { start: { kind: 'earliest' }, isPassive: true });
  await readBack(source, truth, progress.messages, systemClock);
  await bus.close();
  const rows = [...truth.rows()];
  const names = new Set(rows.map(({ series }) => series.name));
  const tallies = new Map(STORES.map((id) => [id as string, { rows: 0, samples: 0, folded: 0 }]));
  const comparisons = await compareSinks(sinks, rows, core.window, (sink, { series, count }) => {
    const tally = tallies.get(sink)!;
    tally.rows++;
    tally.samples += count;
    if (!names.has(series.name)) return false;
    if (OVERFLOW_DIMENSION in JSON.parse(series.dimensionsJson)) tally.folded++;
    return true;
  });
  const stores = [...comparisons].map(([id, comparison]) => [
    id,
    { honest: comparison, ...tallies.get(id)! },
  ]);
  return {
    truth,
    rows,
    differing: findDifferences(sent, truth.totals()).length,
    stores: Object.fromEntries(stores),
    verify: await verify(env),
  };
}

/** What the command says of all series, hostile ones included. */
async function verify(env: Env): Promise<VerifyReport | undefined> {
  const program = startProgram(['verify', '--json'], env);
  await program.ended;
  const { stdout } = program.output;
  return stdout.startsWith('{') ? JSON.parse(stdout) : undefined;
}

interface End {
  readonly bySubject: Readonly<Record<string, number>>;
  readonly end: { readonly resident: number; readonly most: number };
  readonly changes: readonly string[];
}

function report(
  { seconds, rate }: SiegeOptions,
  {
    sent,
    kinds,
    health,
    busy,
    watched,
    status,
    confirmedSeconds,
  }: Besieged & Awaited<ReturnType<typeof untilSettled>>,
  { truth, rows, differing, stores, verify }: Compared,
  { bySubject, end, changes }: End,
): SiegeReport {
  const { progress, totals } = sent;
  const expected = new Ledger();
  const ofTypes = Object.entries(totals.types).map(([type, each]) => [`samples: ${type}`, each.samples]);
  expected.add({
    messages: progress.messages,
    late: truth.late,
    ahead: truth.ahead,
    ...Object.fromEntries(ofTypes),
  });
  for (const { counts } of Object.values(kinds)) expected.add(counts);
  const counts = countsOf(status);
  const subjects = Object.entries(kinds).map(([kind, outcome]) => [
    subjectOf(kind),
    outcome.counts.messages ?? 0,
  ]);
  const inStream = Object.fromEntries([...subjects, [HONEST_SUBJECT, progress.messages]]);
  const inStores = STORES.flatMap((id) => {
    const rejected = status.sinks.find((sink) => sink.id === id)!.rejected;
    if (Object.keys(rejected).length > 0) return [`${id} rejected points: ${JSON.stringify(rejected)}`];
    return discrepancies(
      { [`samples in ${id}`]: decoded(counts) },
      { [`samples in ${id}`]: stores[id]!.samples },
    );
  });
  return {
    seconds,
    honest: {
      messages: progress.messages,
      perSecond: (progress.messages * 1000) / progress.elapsedMs,
      wantedPerSecond: rate,
      rows: rows.length,
      differing,
    },
    kinds,
    stores,
    verify,
    unaccounted: [
      ...discrepancies(inStream, bySubject),
      ...discrepancies(expected.counts(), counts),
      ...inStores,
    ],
    counts,
    memory: { most: end.most, end: end.resident },
    busy,
    health,
    changes,
    lag: { ...watched, confirmedSeconds },
    refusedRequests: status.control.unanswered,
    lastStatus: status,
  };
}
