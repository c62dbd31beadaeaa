import { totalmem } from 'node:os';

/**
 * Returns how much memory the process may use, in bytes: the limit of its container, or the memory of the machine. If
 * there is no container limit, Node.js reports either 0 or more than the machine has.
 */
export function memoryLimit(): number {
  const [limit, machine] = [process.constrainedMemory(), totalmem()];
  return limit > 0 ? Math.min(limit, machine) : machine;
}
