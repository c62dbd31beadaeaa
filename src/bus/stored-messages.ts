/** Reads a part of a stream once, from one message to another, with requests of our own to a consumer of its own. */
import { createInbox, type Msg, type NatsConnection, nanos } from 'nats';
import { unlessAborted } from '../base/clock.ts';
import { apiSubject } from './jetstream-api.ts';
import { prefixLength, ReplySubject } from './read/reply-subject.ts';

/** The server ends a request after this long, and says so. */
const REQUEST_EXPIRES_MS = 5_000;
/** Without a word for this long, the reading fails. */
const SILENCE_MS = 15_000;
/** Requests in a row that bring nothing although messages are pending: then the reading fails. */
const MAX_EMPTY_REQUESTS = 3;

export interface StreamPart {
  readonly stream: string;
  readonly consumer: string;
  /** How many messages a request asks for: so many are held at once. */
  readonly batch: number;
  /** The last sequence that is wanted. */
  readonly to: number;
}

export interface StoredMsg {
  readonly sequence: number;
  readonly message: Msg;
}

interface Api {
  readonly connection: NatsConnection;
  readonly apiPrefix: string;
  readonly inboxPrefix: string;
}

/** The reading ended before it had all messages. */
export class ReadingCut extends Error {}

/** Throws a `ReadingCut` if it cannot show that it has them all. */
export async function* storedMessages(
  api: Api,
  part: StreamPart,
  signal: AbortSignal,
): AsyncGenerator<StoredMsg> {
  const { connection } = api;
  const inbox = createInbox(api.inboxPrefix);
  const arrived: Msg[] = [];
  let bell = Promise.withResolvers<void>();
  let isOver = false;
  const ring = () => bell.resolve();
  const subscription = connection.subscribe(inbox, {
    callback: (error, message) => {
      if (error) isOver = true;
      else arrived.push(message);
      ring();
    },
  });
  void connection.closed().then(() => {
    isOver = true;
    ring();
  });
  const next = async (): Promise<Msg> => {
    for (;;) {
      signal.throwIfAborted();
      const message = arrived.shift();
      if (message !== undefined) return message;
      if (isOver) throw new ReadingCut('the connection ended');
      bell = Promise.withResolvers();
      await unlessAborted(bell.promise, AbortSignal.any([signal, AbortSignal.timeout(SILENCE_MS)]));
      signal.throwIfAborted();
      if (arrived.length === 0 && !isOver) throw new ReadingCut('the server says nothing');
    }
  };
  try {
    yield* inOrder(api, part, inbox, next);
  } finally {
    if (!connection.isClosed()) subscription.unsubscribe();
  }
}

async function* inOrder(
  api: Api,
  { stream, consumer, batch, to }: StreamPart,
  inbox: string,
  next: () => Promise<Msg>,
): AsyncGenerator<StoredMsg> {
  const subject = apiSubject(api, 'CONSUMER.MSG.NEXT', stream, consumer);
  const request = JSON.stringify({ batch, expires: nanos(REQUEST_EXPIRES_MS) });
  let [delivered, empty] = [0, 0];
  while (empty < MAX_EMPTY_REQUESTS) {
    api.connection.publish(subject, request, { reply: inbox });
    const before = delivered;
    while (delivered < before + batch) {
      const message = await next();
      const place = placeOf(message);
      // A status: the request is over.
      if (place === undefined) break;
      delivered += 1;
      if (place.consumerSequence !== delivered) throw new ReadingCut('messages are missing');
      if (place.streamSequence <= to) yield { sequence: place.streamSequence, message };
      if (place.streamSequence >= to || place.pending === 0) return;
    }
    empty = delivered === before ? empty + 1 : 0;
  }
  throw new ReadingCut('messages are pending that do not come');
}

function placeOf({ reply }: Msg): ReplySubject | undefined {
  const length = reply === undefined ? undefined : prefixLength(reply);
  if (length === undefined) return undefined;
  const place = new ReplySubject(length);
  const bytes = Buffer.from(reply!);
  place.read(bytes, 0, bytes.length);
  return place;
}
