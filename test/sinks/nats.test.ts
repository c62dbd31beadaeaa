import { RetentionPolicy, type StreamConfig } from 'nats';
import nats from '../../sinks/nats/sink.ts';
import { connectSinkBus } from '../../src/bus/sink-bus.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { setting } from '../../src/settings/builders.ts';
import type { Settings } from '../../src/settings/setting.ts';
import { defineSink, type SinkModule } from '../../src/sink/contract.ts';
import { connect } from '../bus-client.ts';
import { describeConformance, type Harness } from '../conformance.ts';

const auth = { kind: 'user', user: 'fanout', password: 's3cret' } as const;
let server: NatsServer | undefined;

/** The service says where the bus is. Here, a setting does. */
const withUrl = defineSink<Settings>({
  ...(nats as SinkModule),
  settings: { ...nats.settings, url: setting.text({ meaning: 'where the bus is', required: true }) },
  create: (config, context) =>
    (nats as SinkModule).create(config, {
      ...context,
      connectBus: () => connectSinkBus({ NATS_URL: config.url as string }),
    }),
});

async function addStream(namespace: string, more: Partial<StreamConfig> = {}): Promise<void> {
  const connection = await connect({ servers: server!.url, user: auth.user, pass: auth.password });
  try {
    const { streams } = await connection.jetstreamManager();
    const isThere = (await streams.names(`windows.${namespace}.>`).next()).length > 0;
    if (!isThere) await streams.add({ name: namespace, subjects: [`windows.${namespace}.>`], ...more });
  } finally {
    await connection.close();
  }
}

const harness = (format: string): Harness => ({
  async start() {
    server = await startNats({ auth });
    return server.port;
  },
  async stop() {
    await server?.stop();
  },
  async variables(namespace, port) {
    await addStream(namespace);
    return {
      URL: `nats://${auth.user}:${auth.password}@127.0.0.1:${port}`,
      SUBJECT: `windows.${namespace}`,
      FORMAT: format,
    };
  },
  wrongCredentials: (variables) => ({ ...variables, URL: variables.URL!.replace(auth.password, 'wrong') }),
  missing: (variables) => ({ ...variables, SUBJECT: 'nowhere' }),
  unusable: (namespace) => addStream(namespace, { retention: RetentionPolicy.Workqueue }),
  secrets: [auth.password],
  differs: { answersNothing: true },
});

describeConformance('nats', harness('json'), async () => withUrl);
