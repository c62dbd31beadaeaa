/** The service's place on the bus: one session at the start, and another each time somebody attaches it again. */
import { Bell, systemClock } from '../base/clock.ts';
import type { Controlled } from '../control/controller.ts';
import type { Status } from '../observe/status.ts';
import { RunningCheckpoints } from './running-checkpoints.ts';
import { type Announcement, Session } from './session.ts';
import type { Surroundings } from './session-engine.ts';
import { snapshot } from './snapshot.ts';

/** How often the log reminds of paused sinks. */
const PAUSED_REMINDER_MS = 600_000;

export class Membership implements Controlled {
  readonly #surroundings: Surroundings;
  readonly #comesBack = new Bell();
  readonly #announcement: Announcement = { due: true };
  readonly #first: Session;
  readonly checkpoints: RunningCheckpoints;
  /** The current session, or the last one. */
  #session: Session;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    this.checkpoints = new RunningCheckpoints(surroundings);
    this.#first = new Session(0, surroundings, this.#announcement);
    this.#session = this.#first;
  }

  /** Resolves when the first session has a connection, or was left before that. Stays pending if the bus refuses it. */
  get connected(): Promise<void> {
    return this.#first.connected;
  }

  get detached(): boolean {
    return this.#surroundings.parts.detached;
  }

  get paused(): ReadonlySet<string> {
    return this.#surroundings.parts.paused;
  }

  status(): Status {
    return snapshot(this.#surroundings.parts, systemClock.now());
  }

  pause(sink: string): void {
    const { parts, log } = this.#surroundings;
    parts.paused.add(sink);
    parts.engine?.pause(sink);
    log.warn({ sink }, 'the sink is paused until somebody resumes it or the process ends');
  }

  resume(sink: string): void {
    const { parts, log } = this.#surroundings;
    if (!parts.paused.delete(sink)) return;
    log.info({ sink }, 'the sink is resumed');
    parts.engine?.resume(sink);
  }

  async detach(): Promise<void> {
    this.#surroundings.parts.detached = true;
    this.#session.leave();
    await this.#session.ended;
  }

  async attach(signal: AbortSignal): Promise<void> {
    if (!this.detached) return;
    await this.#session.ended;
    const session = new Session(this.#session.number + 1, this.#surroundings, this.#announcement);
    this.#session = session;
    signal.addEventListener('abort', () => session.leave(), { once: true });
    this.#comesBack.ring();
    await session.attached;
    signal.throwIfAborted();
  }

  /** Runs until `stop` aborts. Rejects with an error that an operator must fix. */
  async run(stop: AbortSignal): Promise<void> {
    const reminder = setInterval(() => this.#remind(), PAUSED_REMINDER_MS);
    try {
      while (!stop.aborted) {
        const session = this.#session;
        await session.run(stop);
        if (stop.aborted) break;
        const message = 'left the bus; the process stays up until somebody attaches it again';
        this.#surroundings.log.warn({}, message);
        while (this.#session === session && !stop.aborted) await this.#comesBack.wait(stop);
      }
    } finally {
      clearInterval(reminder);
      this.#session.end();
      this.#remind();
    }
  }

  /** If a pause is forgotten, the store misses more and more. */
  #remind(): void {
    const { parts, log } = this.#surroundings;
    if (parts.paused.size === 0) return;
    const message = 'sinks are paused; they continue when resumed, or at the next start';
    log.warn({ sinks: [...parts.paused] }, message);
  }
}
