/** What goes wrong, when and for how long. All of it is drawn from a seed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Random, seededRandom } from '../../src/load/random.ts';
import type { RestartableServer } from '../../src/servers/server-process.ts';
import type { Instances } from './instances.ts';
import type { Link } from './link.ts';

/** Injects a fault, waits for a while and heals it, at once if `signal` aborts. */
type Inject = (random: Random, signal: AbortSignal) => Promise<void>;

/** Something that has one fault at a time. Different targets have faults at the same time. */
export interface Target {
  readonly name: string;
  readonly faultsPerMinute: number;
  readonly faults: Readonly<Record<string, Inject>>;
}

/** How often each fault was injected, by target and kind. */
export type FaultCounts = Record<string, Record<string, number>>;

const MAX_PAUSE_MS = 5_000;
const MAX_DOWN_MS = 3_000;
const MAX_HANG_MS = 6_000;
const MAX_SLOW_MS = 6_000;
const MAX_DELAY_MS = 250;
const MAX_CUT_BYTES = 60_000;
/** Bytes per second. The traffic of the service is above the lower limit and below the upper one. */
const THROTTLE = { least: 20_000, most: 400_000 } as const;
const MAX_SECOND_INSTANCE_MS = 12_000;
const RESUME_ATTEMPTS = 5;
const RESUME_RETRY_MS = 1_000;
const START_POLL_MS = 10;

const PER_MINUTE = { link: 9, store: 5, bus: 3, service: 6 } as const;

const between = (random: Random, least: number, most: number) => least + random() * (most - least);
const oneOf = <T>(random: Random, items: readonly T[]): T | undefined =>
  items[Math.floor(random() * items.length)];

/** Resolves after `ms`, or when the signal aborts. */
async function last(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}

/** The signals for an orderly end and for a crash of a server. */
export interface Ends {
  readonly orderly: NodeJS.Signals;
  readonly crash: NodeJS.Signals;
}

export function serverTarget(name: string, server: RestartableServer, isBus: boolean, ends?: Ends): Target {
  const pause: Inject = async (random, signal) => {
    server.signal('SIGSTOP');
    await last(between(random, 100, MAX_PAUSE_MS), signal);
    server.signal('SIGCONT');
  };
  const down =
    (by: NodeJS.Signals): Inject =>
    async (random, signal) => {
      await server.halt(by);
      await last(between(random, 0, MAX_DOWN_MS), signal);
      await resume(server);
    };
  const restarts = ends === undefined ? {} : { restart: down(ends.orderly), crash: down(ends.crash) };
  return { name, faultsPerMinute: isBus ? PER_MINUTE.bus : PER_MINUTE.store, faults: { pause, ...restarts } };
}

/** Retries, as the remains of a crash may be in the way for a moment. */
async function resume(server: RestartableServer): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await server.resume();
    } catch (error) {
      if (attempt === RESUME_ATTEMPTS) throw error;
      await sleep(RESUME_RETRY_MS);
    }
  }
}

export function linkTarget(name: string, { proxy, throttle }: Link): Target {
  const healing =
    (inject: Inject): Inject =>
    async (random, signal) => {
      await inject(random, signal);
      throttle(Number.POSITIVE_INFINITY);
      await proxy.pass();
    };
  return {
    name: `${name} link`,
    faultsPerMinute: PER_MINUTE.link,
    faults: {
      reset: async () => proxy.reset(),
      refuse: healing(async (random, signal) => {
        await proxy.refuse();
        await last(between(random, 100, MAX_HANG_MS), signal);
      }),
      hang: healing(async (random, signal) => {
        proxy.hang();
        await last(between(random, 100, MAX_HANG_MS), signal);
      }),
      delay: healing(async (random, signal) => {
        proxy.delay(between(random, 5, MAX_DELAY_MS));
        await last(between(random, 500, MAX_SLOW_MS), signal);
      }),
      throttle: healing(async (random, signal) => {
        throttle(between(random, THROTTLE.least, THROTTLE.most));
        await last(between(random, 500, MAX_SLOW_MS), signal);
      }),
      'cut request': healing(async (random, signal) => {
        proxy.cut('request', Math.floor(between(random, 0, MAX_CUT_BYTES)));
        await last(between(random, 500, MAX_SLOW_MS), signal);
      }),
      // The store has the points, but the service does not know.
      'cut response': healing(async (random, signal) => {
        proxy.cut('response', Math.floor(between(random, 0, random() < 0.5 ? 200 : MAX_CUT_BYTES)));
        await last(between(random, 500, MAX_SLOW_MS), signal);
      }),
    },
  };
}

export function serviceTarget(instances: Instances): Target {
  return {
    name: 'service',
    faultsPerMinute: PER_MINUTE.service,
    faults: {
      async terminate(random) {
        const instance = oneOf(random, instances.running);
        if (instance) await instances.end(instance, 'SIGTERM');
      },
      // The instance goes on with what it knew, but another may have moved the checkpoints in the meantime.
      async pause(random, signal) {
        const instance = oneOf(random, instances.running);
        instance?.program.child.kill('SIGSTOP');
        await last(between(random, 100, MAX_PAUSE_MS), signal);
        instance?.program.child.kill('SIGCONT');
      },
      async 'second instance'(random, signal) {
        const only = new AbortController();
        instances.keep(only.signal);
        await last(between(random, 2_000, MAX_SECOND_INSTANCE_MS), signal);
        only.abort();
        const second = instances.running.find(({ keptUntil }) => keptUntil === only.signal);
        if (second) await instances.end(second, random() < 0.5 ? 'SIGKILL' : 'SIGTERM');
      },
    },
  };
}

/** One promise per target. It resolves after `signal` aborts and the fault is healed, or rejects if it cannot be. */
export function injectFaults(
  seed: number,
  targets: readonly Target[],
  signal: AbortSignal,
  tell: (target: string, kind: string) => void,
): Promise<void>[] {
  return targets.map(async ({ name, faultsPerMinute, faults }, index) => {
    const random = seededRandom(seed + (index + 1) * 2 ** 32);
    const kinds = Object.keys(faults);
    for (;;) {
      await last(-Math.log(1 - random()) * (60_000 / faultsPerMinute), signal);
      if (signal.aborted) return;
      const kind = oneOf(random, kinds)!;
      tell(name, kind);
      await faults[kind]!(random, signal);
    }
  });
}

/** Sends `kill -9` at `kills` instants, distributed uniformly over `ms`. */
export async function injectKills(
  seed: number,
  kills: number,
  ms: number,
  instances: Instances,
  signal: AbortSignal,
  tell: (target: string, kind: string) => void,
): Promise<void> {
  const random = seededRandom(seed);
  const instants = Array.from({ length: kills }, () => random() * ms).sort((a, b) => a - b);
  const began = performance.now();
  for (const instant of instants) {
    await last(Math.max(0, began + instant - performance.now()), signal);
    if (signal.aborted) return;
    // The next instance is about to start.
    while (instances.running.length === 0 && !signal.aborted) await last(START_POLL_MS, signal);
    const instance = oneOf(random, instances.running);
    if (instance === undefined) return;
    tell('service', 'kill -9');
    await instances.end(instance, 'SIGKILL');
  }
}
