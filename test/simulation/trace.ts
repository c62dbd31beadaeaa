/** What happened, in order. Its hash shows whether two runs are the same; its end is shown if a run fails. */

const SHOWN_LINES = 60;

export interface Failure {
  /** For example I5 or liveness. */
  readonly invariant: string;
  readonly message: string;
  /** Virtual milliseconds since the run began. */
  readonly at: number;
}

export class Trace {
  /** How often each kind of thing happened: this shows that a run tests what it should. */
  readonly counts = new Map<string, number>();
  failure: Failure | undefined;
  readonly #now: () => number;
  readonly #print: ((line: string) => void) | undefined;
  #hash = 0x811c9dc5;
  #lines: string[] = [];

  constructor(now: () => number, print?: (line: string) => void) {
    this.#now = now;
    this.#print = print;
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** The last lines before the failure. */
  get history(): readonly string[] {
    return this.#lines;
  }

  add(kind: string, what: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    const line = `${(this.#now() / 1000).toFixed(3)} ${kind} ${what}`;
    for (let i = 0; i < line.length; i++) {
      this.#hash = Math.imul(this.#hash ^ line.charCodeAt(i), 0x01000193);
    }
    this.#print?.(line);
    if (this.failure !== undefined) return;
    this.#lines.push(line);
    if (this.#lines.length > 2 * SHOWN_LINES) this.#lines = this.#lines.slice(-SHOWN_LINES);
  }

  /** Only the first failure counts: later ones may be its consequences. */
  fail(invariant: string, message: string): void {
    if (this.failure !== undefined) return;
    this.add('FAILED', `${invariant}: ${message}`);
    this.failure = { invariant, message, at: this.#now() };
    this.#lines = this.#lines.slice(-SHOWN_LINES);
  }
}
