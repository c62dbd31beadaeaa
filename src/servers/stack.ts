/** Starts the bus and all stores, empty, and provides the settings with which the service finds them. */
import { join } from 'node:path';
import { startDynamoDb } from './dynamodb.ts';
import { startInfluxDb } from './influxdb.ts';
import { type NatsOptions, type NatsServer, startNats } from './nats.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { type RestartableServer, type Server, temporaryFolder } from './server-process.ts';

export interface Stack {
  readonly nats: NatsServer;
  readonly influxdb: RestartableServer;
  readonly postgres: Postgres;
  readonly dynamodb: RestartableServer;
  /** A temporary folder that contains the SQLite file. It is removed at the end. */
  readonly folder: string;
  /** NATS_URL, and SINK_* with all four stores enabled. */
  readonly env: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** Calls `onReady` for each server when it is ready, with the time that it took. */
export async function startStack(
  onReady: (name: string, url: string, ms: number) => void = () => {},
  natsOptions: NatsOptions = {},
): Promise<Stack> {
  const folder = temporaryFolder('stack');
  const started: Server[] = [];
  const timed = async <S extends Server>(name: string, start: () => Promise<S>): Promise<S> => {
    const before = performance.now();
    const server = await start();
    started.push(server);
    // No credentials in what is shown.
    onReady(name, server.url.replace(/\/\/[^@/]*@/, '//'), performance.now() - before);
    return server;
  };
  const stop = async () => {
    await Promise.all(started.map((server) => server.stop()));
    folder.remove();
  };
  try {
    const nats = await timed('nats-server', () => startNats(natsOptions));
    const influxdb = await timed('InfluxDB', startInfluxDb);
    const postgres = await timed('PostgreSQL (as redshift)', startPostgres);
    const dynamodb = await timed('dynalite (as dynamodb)', startDynamoDb);
    const redshiftUrl = await postgres.createDatabase('fanout');
    const env = {
      NATS_URL: nats.url,
      SINK_INFLUXDB_ENABLED: 'true',
      SINK_INFLUXDB_API: 'v1',
      SINK_INFLUXDB_URL: influxdb.url,
      SINK_INFLUXDB_DATABASE: 'fanout',
      SINK_REDSHIFT_ENABLED: 'true',
      SINK_REDSHIFT_URL: redshiftUrl,
      SINK_DYNAMODB_ENABLED: 'true',
      SINK_DYNAMODB_ENDPOINT: dynamodb.url,
      SINK_DYNAMODB_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'emulator',
      AWS_SECRET_ACCESS_KEY: 'emulator',
      SINK_SQLITE_ENABLED: 'true',
      SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
    };
    return { nats, influxdb, postgres, dynamodb, folder: folder.path, env, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
