/** Whether the service is on the bus: a session at the start, and another whenever somebody attaches it again. */
import { Bell, systemClock } from '../base/clock.ts';
import type { Controlled } from '../control/controller.ts';
import type { Status } from '../observe/status.ts';
import { type Announcement, Session } from './session.ts';
import type { Surroundings } from './session-engine.ts';
import { snapshot } from './snapshot.ts';

/** How often those who pause sinks are reminded of it. */
const PAUSED_REMINDER_MS = 600_000;

export class Membership implements Controlled {
  readonly #surroundings: Surroundings;
  readonly #comesBack = new Bell();
  readonly #announcement: Announcement = { due: true };
  /** The one under way, or the last. */
  #session: Session;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    this.#session = new Session(0, surroundings, this.#announcement);
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
    log.warn({ sink }, 'the sink is paused until somebody resumes it, or the process ends');
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

  /** Until `stop` aborts. Rejects with what an operator must mend. */
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

  /** A pause that nobody remembers is a store that misses more and more. */
  #remind(): void {
    const { parts, log } = this.#surroundings;
    if (parts.paused.size === 0) return;
    const message = 'sinks are paused; they go on when resumed, or at the next start';
    log.warn({ sinks: [...parts.paused] }, message);
  }
}
