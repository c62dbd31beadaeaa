/** CPU time of processes and threads, medians, and the figures that a benchmark reports. */
import { readdirSync, readFileSync } from 'node:fs';

/** One line of the report. */
export interface Figure {
  readonly id: string;
  readonly what: string;
  /** The median of the runs, and the runs. */
  readonly value: number;
  readonly runs: readonly number[];
  readonly unit: 'ns/message' | 'times' | 'ns/point' | 'bytes/series' | 'ms' | 's' | 'MB';
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
}

/** From Linux's scheduler, which counts nanoseconds (proc(5), /proc/pid/task/tid/schedstat). */
export function cpuTimeOf(pid: number): CpuTime {
  let process = 0;
  let mainThread = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const nanos = Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    process += nanos;
    if (Number(thread) === pid) mainThread = nanos;
  }
  return { process, mainThread };
}
