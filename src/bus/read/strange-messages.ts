/**
 * Messages that were left out though nobody knows whether they are wanted: the stream, as it was last looked at, stores
 * no such subjects. The next look may explain them. Those that it does not are counted, each once, however often they
 * are read and whichever process looks.
 */

/** As a checkpoint holds it. */
export interface StoredStrange {
  /** The sequence of the last of them. */
  readonly last: number;
  /** Those that no look has explained yet, by subject; an empty subject stands for the others. */
  readonly waiting: readonly (readonly [subject: string, messages: number])[];
}

/** How many subjects are told apart, and how long each may be. */
const MAX_SUBJECTS = 32;
const MAX_CHARACTERS = 256;

export class StrangeMessages {
  #last: number;
  readonly #waiting: Map<string, number>;

  constructor({ last, waiting }: StoredStrange = { last: 0, waiting: [] }) {
    this.#last = last;
    this.#waiting = new Map(waiting);
  }

  add(subject: string, sequence: number): void {
    if (sequence <= this.#last) return;
    this.#last = sequence;
    const isKept = this.#waiting.has(subject) || this.#waiting.size < MAX_SUBJECTS;
    const key = isKept && subject.length <= MAX_CHARACTERS ? subject : '';
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1);
  }

  /** Returns how many of those that wait `isStrange` does not explain. None waits any more. */
  settle(isStrange: (subject: string) => boolean): number {
    let messages = 0;
    for (const [subject, count] of this.#waiting) if (subject === '' || isStrange(subject)) messages += count;
    this.#waiting.clear();
    return messages;
  }

  /** What comes after this sequence is read again: whatever it was, it will be judged anew. */
  forget(after: number): void {
    this.#last = Math.min(this.#last, after);
    this.#waiting.clear();
  }

  /** Undefined if there was none. */
  stored(): StoredStrange | undefined {
    return this.#last === 0 ? undefined : { last: this.#last, waiting: [...this.#waiting] };
  }
}

/** Returns the latest of several records of one stream. */
export function latestStrange(records: readonly (StoredStrange | undefined)[]): StoredStrange | undefined {
  const known = records.flatMap((one) => one ?? []);
  return known.reduce<StoredStrange | undefined>(
    (most, one) =>
      most === undefined || one.last > most.last || (one.last === most.last && sum(one) < sum(most))
        ? one
        : most,
    undefined,
  );
}

function sum({ waiting }: StoredStrange): number {
  return waiting.reduce((total, [, messages]) => total + messages, 0);
}

export function isStoredStrange(value: unknown): value is StoredStrange {
  const stored = value as Partial<StoredStrange> | null;
  if (!Number.isSafeInteger(stored?.last) || !Array.isArray(stored?.waiting)) return false;
  return stored.waiting.every(
    (one) => Array.isArray(one) && typeof one[0] === 'string' && Number.isSafeInteger(one[1]),
  );
}
