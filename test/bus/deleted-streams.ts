/** Deletes streams so that others can be made right after. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { StreamAPI } from 'nats';
import type { NatsServer } from '../../src/servers/nats.ts';
import { until } from './support.ts';

/** The name of a folder begins so while the server removes it. */
const REMOVED = '.';
/** No stream can have this name; a server that starts leaves it alone. */
const KEPT = 'kept by tests';

/**
 * Newer servers answer before all files are gone, and remove in the background
 * - the stream's folder, by another name. If a stream of that name is deleted again before that is over, its folder
 *   stays, and the next one begins with its messages: see findings/nats-deleted-messages-return.sh.
 * - the folders above it, if they are empty. They are gone, then, where the next stream is about to have its own:
 *   "error creating store for stream".
 * So this waits until the folder is gone, and keeps something in those above.
 */
export async function deleteStreams(
  { storePath }: NatsServer,
  streams: StreamAPI,
  names: readonly string[],
): Promise<void> {
  const folder = join(storePath, 'jetstream', '$G', 'streams');
  mkdirSync(join(folder, KEPT), { recursive: true });
  const isGone = (name: string) =>
    until(`the files of ${name} are gone`, () => !existsSync(join(folder, `${REMOVED}${name}`)));
  for (const name of names) {
    await isGone(name);
    await streams.delete(name);
    await isGone(name);
  }
}

/** The same, of all but the buckets. */
export async function deleteAllStreams(nats: NatsServer, streams: StreamAPI): Promise<void> {
  const names: string[] = [];
  for await (const name of streams.names()) if (!name.startsWith('KV_')) names.push(name);
  await deleteStreams(nats, streams, names);
}
