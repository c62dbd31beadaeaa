/**
 * What a server says when a request for messages ends other than by its last message: a status without content. The
 * words are those of nats-server 2.9 to 2.15.
 */

/** A closed list: it labels a Prometheus counter. */
export const ANSWERS = [
  'request_timeout',
  'requests_pending',
  'interest_expired',
  'no_messages',
  'batch_completed',
  'message_size',
  'leadership_change',
  'server_shutdown',
  'max_waiting',
  'limit_exceeded',
  'bad_request',
  'push_based',
  'consumer_deleted',
  'no_responders',
  'unknown',
] as const;

export type Answer = (typeof ANSWERS)[number];

/** What follows from an answer. */
export type Consequence =
  /** Another request may be made. */
  | 'over'
  /** The count showed it, and the inbox has been reused since. */
  | 'counted'
  /** The next message exceeds the byte limit of the request. */
  | 'oversized'
  /** Only a new consumer helps. */
  | 'lost'
  /** Another request would most likely get the same answer: it is made after a pause that grows. */
  | 'pause';

const HEARTBEAT = 100;

const KNOWN: readonly (readonly [code: number, words: RegExp, answer: Answer])[] = [
  [404, /^(no messages)?$/i, 'no_messages'],
  [408, /^request timeout/i, 'request_timeout'],
  [408, /^requests pending/i, 'requests_pending'],
  [408, /^interest expired/i, 'interest_expired'],
  // From 2.10 on.
  [409, /^batch completed/i, 'batch_completed'],
  [409, /^message size exceeds/i, 'message_size'],
  [409, /^leadership change/i, 'leadership_change'],
  [409, /^server shutdown/i, 'server_shutdown'],
  [409, /^exceeded maxwaiting/i, 'max_waiting'],
  [409, /^exceeded maxrequest(batch|expires|maxbytes)/i, 'limit_exceeded'],
  [409, /^consumer is push based/i, 'push_based'],
  [409, /^consumer deleted/i, 'consumer_deleted'],
  [400, /^/, 'bad_request'],
  [503, /^/, 'no_responders'],
];

const CONSEQUENCES: Readonly<Record<Answer, Consequence>> = {
  request_timeout: 'over',
  requests_pending: 'over',
  interest_expired: 'over',
  no_messages: 'over',
  leadership_change: 'over',
  batch_completed: 'counted',
  message_size: 'oversized',
  // A new consumer tells the limits of the server as they are now.
  limit_exceeded: 'lost',
  bad_request: 'lost',
  push_based: 'lost',
  consumer_deleted: 'lost',
  no_responders: 'lost',
  server_shutdown: 'pause',
  max_waiting: 'pause',
  unknown: 'pause',
};

/** Returns undefined for a status that ends nothing. */
export function answerOf(code: number, words: string): Answer | undefined {
  if (code === HEARTBEAT) return undefined;
  return KNOWN.find(([known, pattern]) => known === code && pattern.test(words))?.[2] ?? 'unknown';
}

export function consequenceOf(answer: Answer): Consequence {
  return CONSEQUENCES[answer];
}
