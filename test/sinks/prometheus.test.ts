import { startPrometheusReceiver } from '../../src/servers/prometheus.ts';
import type { Server } from '../../src/servers/server-process.ts';
import { describeConformance } from '../conformance.ts';

/** The suite's points are in the past, and come in any order. */
const OUT_OF_ORDER = '3650d';

let server: Server | undefined;

describeConformance('prometheus', {
  async start() {
    server = await startPrometheusReceiver({ outOfOrder: OUT_OF_ORDER });
    return server.port;
  },
  async stop() {
    await server?.stop();
  },
  variables: (namespace, port) => ({
    URL: `http://127.0.0.1:${port}/api/v1/write`,
    HEADERS: 'authorization=Bearer s3cret',
    LABELS: `job=${namespace}`,
  }),
  missing: (variables) => ({ ...variables, URL: variables.URL!.replace('/api', '/elsewhere/api') }),
  secrets: ['s3cret'],
  differs: { keepsFirst: true, forgetsNothing: true, answersNothing: true },
});
