/** CPU time of processes and threads, medians, and the figures that a benchmark reports. */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ: the same on all machines. */
const NANOS_PER_TICK = 10_000_000;

/** One line of the report. */
export interface Figure {
  readonly id: string;
  readonly what: string;
  /** The median of the runs, and the runs. */
  readonly value: number;
  readonly runs: readonly number[];
  readonly unit:
    | 'ns/message'
    | 'times'
    | 'ns/point'
    | 'bytes/series'
    | 'bytes/point'
    | 'ms'
    | 's'
    | 'MB'
    | 'ms/s'
    | 'switches/s';
  /** The highest value that is acceptable (with `atLeast`: the lowest). */
  readonly bar?: number;
  readonly atLeast?: true;
  readonly remark?: string;
}

export function figure(
  id: string,
  what: string,
  unit: Figure['unit'],
  runs: readonly number[],
  more: Partial<Pick<Figure, 'bar' | 'atLeast' | 'remark'>> = {},
): Figure {
  return { id, what, unit, value: median(runs), runs, ...more };
}

export function meetsBar({ value, bar, atLeast }: Figure): boolean | undefined {
  if (bar === undefined) return undefined;
  return atLeast ? value >= bar : value <= bar;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Nanoseconds on a processor since the start: of the whole process, and of its main thread. */
export interface CpuTime {
  readonly process: number;
  readonly mainThread: number;
  /** How long the main thread had something to do, and no processor. */
  readonly mainThreadWaited: number;
}

/** From Linux's scheduler, which counts nanoseconds (proc(5), /proc/pid/task/tid/schedstat). */
export function cpuTimeOf(pid: number): CpuTime {
  let process = 0;
  let mainThread = 0;
  let mainThreadWaited = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const times = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ').map(Number);
    const [nanos = 0, waited = 0] = times;
    process += nanos;
    if (Number(thread) !== pid) continue;
    mainThread = nanos;
    mainThreadWaited = waited;
  }
  return { process, mainThread, mainThreadWaited };
}

/** What was spent between two looks, divided by `by`: messages, or nanoseconds. */
export function spentBetween(before: CpuTime, after: CpuTime, by: number): CpuTime {
  return {
    process: (after.process - before.process) / by,
    mainThread: (after.mainThread - before.mainThread) / by,
    mainThreadWaited: (after.mainThreadWaited - before.mainThreadWaited) / by,
  };
}

/** Resident memory in bytes: now, and the most since the process began (proc(5), /proc/pid/status). */
export function memoryOf(pid: number): { readonly resident: number; readonly most: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
  return { resident: bytes('VmRSS'), most: bytes('VmHWM') };
}

/** Since a process began: nanoseconds of CPU of all its threads, and how often those that are there have waited. */
export interface Spent {
  readonly cpu: number;
  readonly switches: number;
}

/** The CPU time includes threads that have ended; Linux gives it in ticks of 10 ms (proc(5), /proc/pid/stat). */
export function spentBy(pid: number): Spent {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name of the program, in brackets, may contain anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const cpu = (Number(fields[11]) + Number(fields[12])) * NANOS_PER_TICK;
  let switches = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    switches += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
  }
  return { cpu, switches };
}
