/** A cluster of three nats-servers that share a stream. */
import { setTimeout as sleep } from 'node:timers/promises';
import { nanos, StorageType, type StreamConfig } from 'nats';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';

const SERVERS = 3;
const POLL_MS = 250;
/** For one attempt. There may be several. */
const API_TIMEOUT_MS = 20_000;
const MAX_AGE_MS = 24 * 3_600_000;

export interface Cluster {
  readonly servers: readonly NatsServer[];
  /** The URLs of all servers, separated by commas. */
  readonly url: string;
  /** Creates the stream on all servers. The service never changes an existing stream. */
  addStream(name: string, subjects: readonly string[]): Promise<void>;
  /** The current leader of a stream; undefined while there is none. */
  leaderOf(stream: string): Promise<NatsServer | undefined>;
  /** How many messages a stream holds; undefined while this is unknown. */
  messagesOf(stream: string): Promise<number | undefined>;
  /** The number of servers that hold a stream. */
  replicasOf(stream: string): Promise<number>;
  stop(): Promise<void>;
}

/** `extra`: lines of configuration of every server. */
export async function startCluster(extra = ''): Promise<Cluster> {
  const routes = await Promise.all(Array.from({ length: SERVERS }, freePort));
  const listed = routes.map((port) => `"nats://127.0.0.1:${port}"`).join(', ');
  const started = await Promise.allSettled(
    routes.map((port) =>
      startNats({
        extra: `cluster { name: chaos, listen: "127.0.0.1:${port}", routes: [ ${listed} ] }\n${extra}`,
      }),
    ),
  );
  const servers = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const stop = async () => void (await Promise.all(servers.map((server) => server.stop())));
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  const url = servers.map((server) => server.url).join(',');
  return {
    servers,
    url,
    stop,
    async addStream(name, subjects) {
      const config: Partial<StreamConfig> & { name: string } = {
        name,
        subjects: [...subjects],
        storage: StorageType.File,
        num_replicas: SERVERS,
        max_age: nanos(MAX_AGE_MS),
      };
      // Retries, as there may be no leader yet.
      for (const deadline = Date.now() + LIMIT_MS; ; await sleep(POLL_MS)) {
        const made = await asking(url, (jsm) => jsm.streams.add(config)).catch((error) => error);
        if (!(made instanceof Error)) return;
        if (Date.now() > deadline) throw made;
      }
    },
    async leaderOf(stream) {
      const info = await asking(url, (jsm) => jsm.streams.info(stream)).catch(() => undefined);
      return servers.find(({ port }) => info?.cluster?.leader === `fanout-${port}`);
    },
    async messagesOf(stream) {
      return (await asking(url, (jsm) => jsm.streams.info(stream)).catch(() => undefined))?.state.messages;
    },
    async replicasOf(stream) {
      return (await asking(url, (jsm) => jsm.streams.info(stream))).config.num_replicas;
    },
  };
}

type Ask<T> = (
  jsm: Awaited<ReturnType<Awaited<ReturnType<typeof connect>>['jetstreamManager']>>,
) => Promise<T>;

async function asking<T>(url: string, ask: Ask<T>): Promise<T> {
  const connection = await connect({ servers: url.split(','), timeout: API_TIMEOUT_MS });
  try {
    return await ask(await connection.jetstreamManager({ checkAPI: false, timeout: API_TIMEOUT_MS }));
  } finally {
    await connection.close();
  }
}
