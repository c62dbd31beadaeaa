/** The messages between the HTTP thread and the main thread. */
import type { HttpReply, ServiceCall } from '../http-routes.ts';
import type { WebPage } from '../page.ts';

/** How long a request waits for the main thread, in milliseconds. */
export interface WaitLimits {
  /** Kubernetes gives up after 3 s with the chart's probe: the words of the answer should get there before that. */
  readonly readyMs: number;
  /** Of any other: less than the 30 s after which a silent connection is closed. */
  readonly otherMs: number;
}
export const WAIT_LIMITS: WaitLimits = { readyMs: 2_500, otherMs: 20_000 };

/** What the thread is started with. */
export interface HttpThreadData {
  readonly host: string;
  readonly port: number;
  /** HTTP_ALLOWED_HOSTS. */
  readonly allowedHosts: ReadonlySet<string> | undefined;
  readonly page: WebPage;
  /** Of a request to control; undefined if control is off. */
  readonly maxBodyBytes: number | undefined;
  readonly waitLimits: WaitLimits;
  /** Of the main thread's `Heartbeat`. */
  readonly heartbeat: SharedArrayBuffer;
  /** How many events the thread has taken so far. */
  readonly taken: Int32Array<SharedArrayBuffer>;
}

export type ToHttpThread =
  /** Without a reply: the same as the last one to a call of this kind that had bytes as its body. */
  | { readonly kind: 'reply'; readonly number: number; readonly reply: HttpReply | undefined }
  | { readonly kind: 'event'; readonly event: string };

export type FromHttpThread =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'cannot_listen'; readonly reason: string }
  | { readonly kind: 'call'; readonly number: number; readonly call: ServiceCall }
  /** Nobody waits for the answer to this question any longer. Something is still replied. */
  | { readonly kind: 'left'; readonly number: number }
  /** Events are posted only while pages are open. */
  | { readonly kind: 'subscribe' | 'unsubscribe' };
