/** The open pages: sends events to a bounded number of them, none of which may hold up the service. */
import type { ServerResponse } from 'node:http';
import { EVENT_STREAM, type HttpReply, NO_ROOM } from './http-routes.ts';

/** Each holds a connection. */
const MAX_LISTENERS = 32;
/** A page with more unread bytes than this is disconnected. It reconnects on its own. */
const MAX_UNREAD_BYTES = 1_000_000;
/** How long a page waits before it reconnects. */
const RETRY_MS = 2_000;

const HEADERS = {
  'content-type': EVENT_STREAM,
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  // Proxies must not buffer live events.
  'x-accel-buffering': 'no',
};

/** Where the events come from, encoded. */
export interface EventFeed {
  /** The first event of a page, with code 200. Otherwise what to answer instead. Never rejects. */
  opening(left: AbortSignal): Promise<HttpReply>;
  /** Has all later events sent, until the function that it returns is called. */
  subscribe(send: (event: string) => void): () => void;
}

export class Audience {
  readonly #feed: EventFeed;
  /** And whether it has had its opening: events before that are part of it. */
  readonly #listeners = new Map<ServerResponse, boolean>();
  #unsubscribe: (() => void) | undefined;

  /** Is subscribed to the feed while there is a listener. */
  constructor(feed: EventFeed) {
    this.#feed = feed;
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** Keeps the connection and sends events over it; or returns what to answer instead. */
  async join(response: ServerResponse, left: AbortSignal): Promise<HttpReply | 'kept'> {
    if (this.#listeners.size >= MAX_LISTENERS) return NO_ROOM;
    if (left.aborted) return 'kept';
    this.#listeners.set(response, false);
    left.addEventListener('abort', () => this.#leave(response), { once: true });
    this.#unsubscribe ??= this.#feed.subscribe((event) => this.#tell(event));
    const opening = await this.#feed.opening(left);
    if (!this.#listeners.has(response)) return 'kept';
    if (opening.code !== 200) {
      this.#leave(response);
      return opening;
    }
    response.writeHead(200, HEADERS);
    response.write(`retry: ${RETRY_MS}\n\n`);
    response.write(opening.body);
    this.#listeners.set(response, true);
    return 'kept';
  }

  #leave(response: ServerResponse): void {
    this.#listeners.delete(response);
    if (this.#listeners.size > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  #tell(event: string): void {
    for (const [response, isOpen] of this.#listeners) {
      if (!isOpen) continue;
      if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
      else response.write(event);
    }
  }
}

/** JSON contains no line feeds, so the data fits in one line. */
export function encodeEvent(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
