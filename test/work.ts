/** What work costs, by a measure that is the same on a slow machine and on a busy one. */

const YARDSTICK = Buffer.alloc(1_000_000, 'abcdefgh');
const ATTEMPTS = 3;

function readOnce(): number {
  let sum = 0;
  for (let i = 0; i < YARDSTICK.length; i++) sum = (sum + YARDSTICK[i]! * i) | 0;
  return sum;
}

/** CPU time in microseconds, whatever else the processor does meanwhile. */
function costOf(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

function least(attempts: () => number, isEnough: (cost: number) => boolean = () => false): number {
  let found = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < ATTEMPTS && !isEnough(found); attempt++)
    found = Math.min(found, attempts());
  return found;
}

let unit: number | undefined;

/**
 * How much `work` costs, in multiples of reading a megabyte byte by byte. If that is more than `most`, it is measured
 * again: a garbage collection, say, is not part of it.
 */
export function workOf(work: () => unknown, most: number): number {
  unit ??= least(() =>
    costOf(() => {
      for (let i = 0; i < 20; i++) readOnce();
    }),
  );
  const megabyte = unit / 20;
  return least(
    () => costOf(work) / megabyte,
    (found) => found <= most,
  );
}
