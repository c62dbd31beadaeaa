/** Percentiles of timers, which the service merges over the windows and series of the last minutes. */

/** @typedef {import('../status.ts').Status} Status */
/** @typedef {import('../../recent/question.ts').RecentAnswer} RecentAnswer */
/** @typedef {Pick<RecentAnswer['groups'][number], 'p50' | 'p99'>} Percentiles */

const LAST = '5m';
/** A question takes the service some milliseconds. */
const ASK_MS = 10_000;

export class TimerPercentiles {
  constructor() {
    /** @type {ReadonlyMap<string, Percentiles>} By name. */
    this.known = new Map();
    this.dueAt = 0;
  }

  /**
   * Asks again if it is time. Resolves to whether there are new ones.
   * @param {Status['topNames']} names
   */
  async ask(names) {
    if (document.hidden || Date.now() < this.dueAt) return false;
    // The next time is a while after these answers.
    this.dueAt = Number.POSITIVE_INFINITY;
    /** @type {Map<string, Percentiles>} */
    const found = new Map();
    try {
      for (const { name, type } of names) {
        const percentiles = type === 'timer' ? await askFor(name) : undefined;
        if (percentiles !== undefined) found.set(name, percentiles);
      }
    } catch {
      // The page says it elsewhere if the service is gone.
    }
    this.known = found;
    this.dueAt = Date.now() + ASK_MS;
    return true;
  }
}

/**
 * Resolves to undefined if the service keeps no windows, or is busy.
 * @param {string} name
 * @returns {Promise<Percentiles | undefined>}
 */
async function askFor(name) {
  const reply = await fetch(`api/query?${new URLSearchParams({ name, last: LAST })}`);
  if (!reply.ok) return undefined;
  const { groups } = /** @type {RecentAnswer} */ (await reply.json());
  // The name of a metric may look like a glob.
  return groups.find((group) => group.name === name && group.type === 'timer');
}
