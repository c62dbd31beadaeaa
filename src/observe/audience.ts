/** The open pages: sends events to a bounded number of them, none of which may hold up the service. */
import type { ServerResponse } from 'node:http';

/** Each holds a connection. */
const MAX_LISTENERS = 32;
/** A page with more unread bytes than this is disconnected. It reconnects on its own. */
const MAX_UNREAD_BYTES = 1_000_000;
/** How long a page waits before it reconnects. */
const RETRY_MS = 2_000;

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  // Proxies must not buffer live events.
  'x-accel-buffering': 'no',
};

export class Audience {
  readonly #listeners = new Set<ServerResponse>();

  get size(): number {
    return this.#listeners.size;
  }

  /**
   * Keeps the connection and sends it the `opening`, an encoded event, at once. Returns false if there is no room; then
   * nothing is made, and the caller answers.
   */
  join(response: ServerResponse, opening: () => string): boolean {
    if (this.#listeners.size >= MAX_LISTENERS) return false;
    const text = `retry: ${RETRY_MS}\n\n${opening()}`;
    response.writeHead(200, HEADERS);
    response.write(text);
    this.#listeners.add(response);
    response.on('close', () => this.#listeners.delete(response));
    return true;
  }

  /** Sends the event to every page. Calls `data` only if a page listens. */
  tell(event: string, data: () => unknown): void {
    if (this.#listeners.size === 0) return;
    const text = encodeEvent(event, data());
    for (const response of this.#listeners) {
      if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
      else response.write(text);
    }
  }
}

/** JSON contains no line feeds, so the data fits in one line. */
export function encodeEvent(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
