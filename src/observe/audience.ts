/** The pages that are open: server-sent events to a bounded number of them, and none may hold the service up. */
import type { ServerResponse } from 'node:http';

/** Each holds a connection. */
const MAX_LISTENERS = 32;
/** A page that has so much still to read is let go: it comes back by itself. */
const MAX_UNREAD_BYTES = 1_000_000;
/** How long a page waits before it comes back. */
const RETRY_MS = 2_000;

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  // Proxies are not to collect what is live.
  'x-accel-buffering': 'no',
};

export class Audience {
  readonly #listeners = new Set<ServerResponse>();

  get size(): number {
    return this.#listeners.size;
  }

  /** Keeps the connection, and tells it `first` at once. False where there is no room: the caller answers. */
  join(response: ServerResponse, event: string, first: unknown): boolean {
    if (this.#listeners.size >= MAX_LISTENERS) return false;
    const text = `retry: ${RETRY_MS}\n\n${encode(event, first)}`;
    response.writeHead(200, HEADERS);
    response.write(text);
    this.#listeners.add(response);
    response.on('close', () => this.#listeners.delete(response));
    return true;
  }

  /** `data` is made only where somebody listens. */
  tell(event: string, data: () => unknown): void {
    if (this.#listeners.size === 0) return;
    const text = encode(event, data());
    for (const response of this.#listeners) {
      if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
      else response.write(text);
    }
  }
}

/** JSON has no line feed: one line of data. */
function encode(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
