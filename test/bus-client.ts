/** The NATS client as tests use it: with their limits instead of its own, which a busy machine exceeds. */
import { type ConnectionOptions, connect as connectNats, type NatsConnection } from 'nats';
import { LIMIT_MS } from './limits.ts';

/** Connecting, and what is asked of JetStream, may take the time of a test, unless a call says otherwise. */
export async function connect(options: ConnectionOptions): Promise<NatsConnection> {
  const connection = await connectNats({ timeout: LIMIT_MS, ...options });
  const jetstream = connection.jetstream.bind(connection);
  const jetstreamManager = connection.jetstreamManager.bind(connection);
  connection.jetstream = (more) => jetstream({ timeout: LIMIT_MS, ...more });
  connection.jetstreamManager = (more) => jetstreamManager({ timeout: LIMIT_MS, ...more });
  return connection;
}
