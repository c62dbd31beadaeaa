import type { Instance } from './instance.ts';

/** One instance's connection to the bus. */
export class Connection {
  connected = true;
  /** Virtual time since which it has been healthy. */
  goodSince: number;
  #waiting: (() => void)[] = [];
  readonly #onLoss = new Set<() => void>();

  constructor(now: number) {
    this.goodSince = now;
  }

  /** Resolves when there is a connection, or the signal aborts. */
  async whenConnected(signal: AbortSignal, onAbort: Instance['onAbort']): Promise<void> {
    if (this.connected || signal.aborted) return;
    await new Promise<void>((resolve) => {
      onAbort(signal, resolve);
      this.#waiting.push(resolve);
    });
  }

  onLoss(lose: () => void): void {
    this.#onLoss.add(lose);
  }

  offLoss(lose: () => void): void {
    this.#onLoss.delete(lose);
  }

  /** All its consumers are lost. The connection itself may be fine. */
  loseConsumers(now: number): void {
    this.goodSince = now;
    for (const lose of [...this.#onLoss]) lose();
  }

  disconnect(now: number): void {
    this.connected = false;
    this.loseConsumers(now);
  }

  reconnect(now: number): void {
    this.connected = true;
    this.goodSince = now;
    for (const go of this.#waiting.splice(0)) go();
  }

  forget(): void {
    this.#waiting = [];
    this.#onLoss.clear();
  }
}
