/**
 * What partitions cost on one machine: a cluster of three nats-servers, streams with three replicas, and a pipeline for
 * each of 1, 2 and 4 partitions. The same messages go to as many subjects, in turns, and the CPU time of the servers
 * and of the services is taken until everything is confirmed. More machines than one are not measured here.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Cluster, startCluster } from '../chaos/cluster.ts';
import { type Child, startChild } from './children.ts';
import { type Figure, figure, spentBy } from './measure.ts';

const PARTITIONS = [1, 2, 4] as const;
/** Spread evenly by the server's hash: see `mappings`. */
const SUBJECTS = 16;
const MESSAGES = 320_000;
const RATE = 10_000;
const WINDOW_MS = 1000;
const QUIET_MS = 3000;

export interface PartitionsOptions {
  readonly rounds: number;
  readonly series: number;
  readonly tell: (line: string) => void;
}

/** Per message, in nanoseconds of CPU; `seconds`: from the first message until the last is confirmed. */
interface Cost {
  readonly servers: number;
  readonly services: number;
  readonly seconds: number;
}

export async function measurePartitions({ rounds, series, tell }: PartitionsOptions): Promise<Figure[]> {
  const costs = new Map<number, Cost[]>(PARTITIONS.map((partitions) => [partitions, []]));
  for (let round = 1; round <= rounds; round++) {
    for (const partitions of PARTITIONS) {
      const cost = await measured(partitions, series);
      costs.get(partitions)!.push(cost);
      tell(
        `round ${round}, ${partitions} partitions: servers ${cost.servers.toFixed(0)} ns, services ${cost.services.toFixed(0)} ns a message, ${cost.seconds.toFixed(1)} s`,
      );
    }
  }
  const one = costs.get(1)!;
  return [...costs].flatMap(([partitions, runs]) => {
    const figures = (['servers', 'services'] as const).map((who) =>
      figure(
        'p',
        `CPU of the ${who}, ${partitions} partitions`,
        'ns/message',
        runs.map((run) => run[who]),
      ),
    );
    if (partitions === 1) return figures;
    // Of the same round: what else the machine does changes from round to round.
    const ratios = (who: keyof Cost) => runs.map((run, round) => run[who] / one[round]![who]);
    return [
      ...figures,
      ...(['servers', 'services', 'seconds'] as const).map((who) =>
        figure('p', `${who}, ${partitions} partitions instead of one`, 'times', ratios(who)),
      ),
    ];
  });
}

async function measured(partitions: number, series: number): Promise<Cost> {
  const cluster = await startCluster(
    `mappings = { "metrics.*": "part.{{partition(${partitions},1)}}.{{wildcard(1)}}" }`,
  );
  const services: ServiceProgram[] = [];
  let producer: Child | undefined;
  try {
    for (let i = 0; i < partitions; i++) {
      await cluster.addStream(`METRICS_${i}`, [`part.${i}.>`]);
      services.push(await startService(cluster, i));
    }
    producer = await startChild('./producer.ts', [cluster.url, String(series), 'counters']);
    await sleep(QUIET_MS);
    const spent = () => ({
      servers: cluster.servers.reduce((sum, { storePath }) => sum + spentBy(pidOf(storePath)).cpu, 0),
      services: services.reduce((sum, { child }) => sum + spentBy(child.pid!).cpu, 0),
    });
    const [before, started] = [spent(), performance.now()];
    for (let i = 0; i < SUBJECTS; i++)
      await producer.ask({ subject: `metrics.a${i}`, messages: MESSAGES / SUBJECTS, rate: RATE });
    const end = Date.now() + WINDOW_MS;
    await Promise.all(services.map((service) => service.untilConfirmed(end)));
    const [after, seconds] = [spent(), (performance.now() - started) / 1000];
    await mustBeWhole(cluster, partitions);
    return {
      servers: (after.servers - before.servers) / MESSAGES,
      services: (after.services - before.services) / MESSAGES,
      seconds,
    };
  } finally {
    await producer?.stop();
    await Promise.all(services.map((service) => service.stop('SIGKILL')));
    await cluster.stop();
  }
}

async function startService(cluster: Cluster, partition: number): Promise<ServiceProgram> {
  return await startServiceProgram({
    NATS_URL: cluster.url,
    PIPELINE: `p${partition}`,
    METRICS_STREAM: `METRICS_${partition}`,
    METRICS_SUBJECTS: `part.${partition}.>`,
    METRICS_START: 'earliest',
    WINDOW: `${WINDOW_MS}ms`,
    LATENESS: '500ms',
    MAX_AHEAD: '500ms',
    SINK_BLACKHOLE_ENABLED: 'true',
  });
}

/** Throws if messages are missing: then the costs are those of fewer. */
async function mustBeWhole(cluster: Cluster, partitions: number): Promise<void> {
  let stored = 0;
  for (let i = 0; i < partitions; i++) stored += (await cluster.messagesOf(`METRICS_${i}`)) ?? 0;
  if (stored !== MESSAGES) throw new Error(`the streams hold ${stored} of ${MESSAGES} messages`);
}

function pidOf(storePath: string): number {
  const folder = dirname(storePath);
  const isOurs = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
    } catch {
      return false;
    }
  };
  return Number(readdirSync('/proc').find((name) => /^\d+$/.test(name) && isOurs(name)));
}
