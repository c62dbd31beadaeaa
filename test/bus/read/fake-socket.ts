/** A socket with messages that wait in it while nobody reads. */
import type { SocketReading } from '../../../src/bus/socket-reading.ts';

export class FakeSocket {
  isStopped = false;
  waiting = 0;
  mostWaiting = 0;
  longestWaitMs = 0;
  reads = 0;
  onRead: (messages: number) => void = () => {};
  #since = 0;

  get reading(): Pick<SocketReading, 'pause' | 'resume'> {
    return {
      pause: () => {
        this.isStopped = true;
        return true;
      },
      resume: () => {
        this.isStopped = false;
        // As the event loop does: after what runs now, and before what waits for `setImmediate`.
        queueMicrotask(() => this.#read());
      },
    };
  }

  arrive(messages: number): void {
    if (this.waiting === 0) this.#since = Date.now();
    this.waiting += messages;
    this.mostWaiting = Math.max(this.mostWaiting, this.waiting);
    this.#read();
  }

  #read(): void {
    if (this.isStopped || this.waiting === 0) return;
    this.longestWaitMs = Math.max(this.longestWaitMs, Date.now() - this.#since);
    const messages = this.waiting;
    this.waiting = 0;
    this.reads += 1;
    this.onRead(messages);
  }
}
