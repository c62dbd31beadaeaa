/** How much of what was sent a stream has not stored. */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/error-text.ts';
import type { Log } from '../base/log.ts';
import { counted } from '../base/number-format.ts';
import { type Bus, connect } from '../bus/connect.ts';
import { StoredCount, type StoredSince } from '../bus/read/stored-count.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { onceAnswered } from './once-answered.ts';

/** If it has stored nothing more for this long, what is missing is lost. */
const IDLE_MS = 5_000;
const MIN_POLL_MS = 50;
const MAX_POLL_MS = 1_000;
/** Whether it may be asked is no trouble of those who send. */
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };

export type NotStored =
  | {
      readonly messages: number;
      readonly unknown?: undefined;
      /** Why no stream can have stored any; absent if one can. */
      readonly never?: string;
    }
  /** Why nobody knows. */
  | { readonly messages: undefined; readonly unknown: string };

/** Counts what the stream stores from now on. It has a connection of its own. */
export interface StoredWatch {
  /** Resolves when the stream has what was sent, or will not have it. */
  finish(sent: number): Promise<NotStored>;
  close(): Promise<void>;
}

/** Never rejects: where the stream cannot be asked, nobody knows. */
export async function watchStored(core: CoreConfig, subject: string, clock: Clock): Promise<StoredWatch> {
  if (core.metricsSource === 'core') return notWatched('there is no stream to ask (METRICS_SOURCE=core)');
  let bus: Bus | undefined;
  try {
    bus = await connect(core, SILENT, { name: 'metrics-fanout load, counting' });
    return watching(bus, await StoredCount.begin(bus, core, subject), clock);
  } catch (error) {
    await bus?.close();
    return notWatched(errorText(error));
  }
}

function notWatched(unknown: string): StoredWatch {
  return { finish: async () => ({ messages: undefined, unknown }), close: async () => {} };
}

function watching(bus: Bus, count: StoredCount, clock: Clock): StoredWatch {
  return {
    finish: (sent) =>
      untilStored(() => onceAnswered(() => count.read(), true), sent, clock).catch((error: unknown) => ({
        messages: undefined,
        unknown: errorText(error),
      })),
    close: () => bus.close(),
  };
}

/** A server may take messages long before it stores them: it is asked until it has all, or no more come. */
export async function untilStored(
  read: () => Promise<StoredSince>,
  sent: number,
  clock: Pick<Clock, 'steady' | 'sleep'>,
): Promise<NotStored> {
  const { signal } = new AbortController();
  let before = -1;
  let grownAt = clock.steady();
  for (let pauseMs = MIN_POLL_MS; ; pauseMs = Math.min(MAX_POLL_MS, 2 * pauseMs)) {
    const { messages, doubt, never } = await read();
    if (never !== undefined) return { messages: sent, never };
    if (messages > before) grownAt = clock.steady();
    before = messages;
    if (messages >= sent || clock.steady() - grownAt >= IDLE_MS) return notStored(sent, messages, doubt);
    await clock.sleep(pauseMs, signal);
  }
}

/** `doubt`: why there may have been more than it holds. */
export function notStored(sent: number, held: number, doubt?: string): NotStored {
  if (held > sent)
    return { messages: undefined, unknown: 'the stream got more on that subject than was sent' };
  if (held < sent && doubt !== undefined) return { messages: undefined, unknown: doubt };
  return { messages: sent - held };
}

/** What a broken connection means. Whether anything is lost is the stream's to say, if it can be asked. */
export function brokenInWords(unconfirmed: number, { messages }: NotStored): string {
  const lacks = unconfirmed > 0 ? `: the server did not confirm ${counted(unconfirmed, 'message')}` : '';
  if (messages !== undefined) return `the connection broke${lacks}`;
  return `the connection broke${lacks}${unconfirmed > 0 ? `; ${unconfirmed === 1 ? 'it' : 'they'}, and more, may be lost` : ', so messages may be lost'}`;
}
