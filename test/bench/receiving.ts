/** (a) to (d) and (g): what a message costs its receiver, by process and by thread. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startNats } from '../../src/servers/nats.ts';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { type Child, startChild } from './children.ts';
import { type CpuTime, cpuTimeOf, type Figure, figure, spentBetween } from './measure.ts';
import type { Order } from './producer.ts';

export interface ReceivingOptions {
  readonly rounds: number;
  /** Of each measurement. As many are sent before it, so that the engine compiles what is hot. */
  readonly messages: number;
  readonly rate: number;
  readonly series: number;
  readonly tell: (line: string) => void;
}

const CORE_SUBJECT = 'bench';
const STREAM_SUBJECT = 'metrics';
const POLL_MS = 200;
const RECEIVED_TIMEOUT_MS = 60_000;

/** A process that receives messages, and how many it has. */
interface Receiver {
  readonly pid: number;
  readonly subject: string;
  received(): Promise<number>;
  stop(): Promise<unknown>;
}

/** `run`: a part of the names that it leaves on the bus. */
type Start = (run: string) => Promise<Receiver>;

async function startBare(url: string, kind: 'count' | 'obvious'): Promise<Receiver> {
  const child = await startChild('./bare.ts', [url, CORE_SUBJECT, kind]);
  return {
    pid: child.pid,
    subject: CORE_SUBJECT,
    received: async () => (await child.ask({})) as number,
    stop: () => child.stop(),
  };
}

async function startService(subject: string, env: Readonly<Record<string, string>>): Promise<Receiver> {
  const service = await startServiceProgram(env);
  return {
    pid: service.child.pid!,
    subject,
    received: async () => (await service.status()).messages.received,
    stop: () => service.stop('SIGKILL'),
  };
}

const BLACKHOLE = { SINK_BLACKHOLE_ENABLED: 'true' };
const CORE = { METRICS_SOURCE: 'core', METRICS_SUBJECTS: CORE_SUBJECT, ...BLACKHOLE };

function receivers(url: string, stack: Stack): Record<string, Start> {
  const stream = (run: string, name: string) => ({
    NATS_URL: url,
    METRICS_SUBJECTS: STREAM_SUBJECT,
    METRICS_STREAM_MAX_BYTES: '1GiB',
    PIPELINE: `${name}${run}`,
  });
  return {
    bare: () => startBare(url, 'count'),
    core: () => startService(CORE_SUBJECT, { NATS_URL: url, ...CORE }),
    corePlain: () => startService(CORE_SUBJECT, { NATS_URL: url, ...CORE, METRICS_RECEIVE: 'plain' }),
    stream: (run) => startService(STREAM_SUBJECT, { ...stream(run, 'c'), ...BLACKHOLE }),
    streamPlain: (run) =>
      startService(STREAM_SUBJECT, { ...stream(run, 'p'), ...BLACKHOLE, METRICS_RECEIVE: 'plain' }),
    obvious: () => startBare(url, 'obvious'),
    fourSinks: (run) => startService(STREAM_SUBJECT, { ...stack.env, ...stream(run, 'g') }),
  };
}

async function untilReceived({ received }: Receiver, count: number): Promise<void> {
  for (const deadline = Date.now() + RECEIVED_TIMEOUT_MS; (await received()) < count; await sleep(POLL_MS)) {
    if (Date.now() > deadline) throw new Error(`only ${await received()} of ${count} messages arrived`);
  }
}

/** CPU time per message, in nanoseconds, of each receiver, when all receive the same messages at the same time. */
async function costsOf(
  starts: readonly Start[],
  run: string,
  producer: Child,
  { messages, rate }: ReceivingOptions,
): Promise<CpuTime[]> {
  const receivers: Receiver[] = [];
  try {
    for (const start of starts) receivers.push(await start(run));
    const order: Order = { subject: receivers[0]!.subject, messages, rate };
    const befores = await Promise.all(receivers.map((receiver) => receiver.received()));
    const send = async (times: number): Promise<CpuTime[]> => {
      await producer.ask(order);
      for (const [i, receiver] of receivers.entries())
        await untilReceived(receiver, befores[i]! + times * messages);
      return receivers.map(({ pid }) => cpuTimeOf(pid));
    };
    const from = await send(1);
    const to = await send(2);
    return from.map((before, i) => spentBetween(before, to[i]!, messages));
  } finally {
    for (const receiver of receivers) await receiver.stop();
  }
}

export async function measureReceiving(options: ReceivingOptions): Promise<Figure[]> {
  const nats = await startNats();
  const stack = await startStack();
  const producer = await startChild('./producer.ts', [nats.url, String(options.series), 'counters']);
  const costs = new Map<string, CpuTime[]>();
  const note = (round: number, name: string, cost: CpuTime) => {
    options.tell(`round ${round}: ${name}: ${cost.process.toFixed(0)} ns per message`);
    costs.set(name, [...(costs.get(name) ?? []), cost]);
  };
  try {
    const all = receivers(nats.url, stack);
    // Stores at work take caches from everyone else. Side by side, these two lose the same.
    const pair = { streamBeside: all.stream!, fourSinksBeside: all.fourSinks! };
    // In turns, so that whatever else the machine does affects all of them alike.
    for (let round = 1; round <= options.rounds; round++) {
      for (const [name, start] of Object.entries(all)) {
        const [cost] = await costsOf([start], String(round), producer, options);
        note(round, name, cost!);
      }
      const paired = await costsOf(Object.values(pair), `${round}-beside`, producer, options);
      for (const [i, name] of Object.keys(pair).entries()) note(round, name, paired[i]!);
    }
  } finally {
    await producer.stop();
    await nats.stop();
    await stack.stop();
  }
  return figuresOf(costs);
}

function figuresOf(costs: ReadonlyMap<string, readonly CpuTime[]>): Figure[] {
  const cost = (name: string) => costs.get(name)!.map(({ process }) => process);
  const mainThread = (name: string) => costs.get(name)!.map(({ mainThread: thread }) => thread);
  /** Compares the two in each round. */
  const ratio = (over: readonly number[], under: readonly number[]) =>
    over.map((value, round) => value / under[round]!);
  const bare = cost('bare');
  return [
    figure('a', 'bare subscription, counting', 'ns/message', bare),
    figure('b', 'core path to a blackhole', 'ns/message', cost('core')),
    figure('b/a', 'core path against bare', 'times', ratio(cost('core'), bare), { bar: 1.3 }),
    figure('b plain/a', 'the same, METRICS_RECEIVE=plain', 'times', ratio(cost('corePlain'), bare)),
    figure('c', 'JetStream path to a blackhole', 'ns/message', cost('stream')),
    figure('c/a', 'JetStream path against bare', 'times', ratio(cost('stream'), bare), { bar: 2.6 }),
    figure('c plain/a', 'the same, METRICS_RECEIVE=plain', 'times', ratio(cost('streamPlain'), bare)),
    figure('d', 'the obvious implementation', 'ns/message', cost('obvious')),
    figure('d/b', 'the obvious against the core path', 'times', ratio(cost('obvious'), cost('core')), {
      bar: 3,
      atLeast: true,
    }),
    figure('g', 'draining thread, four sinks', 'ns/message', mainThread('fourSinks')),
    figure(
      'g/c',
      'messages/s of the draining thread, four sinks against none',
      'times',
      ratio(mainThread('stream'), mainThread('fourSinks')),
      { bar: 0.9, atLeast: true },
    ),
    figure(
      'g/c',
      'the same of two services at once, on the same stream',
      'times',
      ratio(mainThread('streamBeside'), mainThread('fourSinksBeside')),
      { bar: 0.9, atLeast: true },
    ),
  ];
}
