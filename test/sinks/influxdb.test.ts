import { describe } from 'vitest';
import type { Point } from '../../src/aggregate/point.ts';
import type { Server } from '../../src/servers/server-process.ts';
import { describeConformance, type Harness, type Variables } from '../conformance.ts';
import { ADMIN, influxQl, speaksV2, startSignedIn, startV2Front, TOKEN } from './influxdb-servers.ts';

/** Near the server's limit on a series key. No point of the suite is between the two. */
const LARGE_BYTES = 65_000;

/** What both APIs share. `serve` puts in front of the server what the API needs. */
function harness(
  serve: (server: Server) => Promise<Server>,
  variables: (namespace: string, url: string) => Variables,
): Harness {
  let server: Server | undefined;
  let front: Server | undefined;
  return {
    async start() {
      server = await startSignedIn();
      front = await serve(server);
      return front.port;
    },
    async stop() {
      await front?.stop();
      await server?.stop();
    },
    async variables(namespace, port) {
      const made = variables(namespace, `http://127.0.0.1:${port}`);
      if (made.API === 'v2') await influxQl(server!.url, `CREATE DATABASE "${namespace}"`);
      return made;
    },
    async drop(namespace) {
      await influxQl(server!.url, `DROP DATABASE "${namespace}"`);
    },
    secrets: [ADMIN.password, encodeURIComponent(ADMIN.password), Buffer.from(TOKEN).toString('base64')],
    differs: {
      refuses: ({ series }: Point) =>
        Buffer.byteLength(series.dimensionsJson) > LARGE_BYTES ? 'too_large' : undefined,
    },
  };
}

const v1 = harness(
  async (server) => server,
  (namespace, url) => ({
    URL: url,
    API: 'v1',
    DATABASE: namespace,
    USER: ADMIN.user,
    PASSWORD: ADMIN.password,
  }),
);
const v2 = harness(
  async (server) => ((await speaksV2(server.url)) ? server : await startV2Front(server)),
  (namespace, url) => ({ URL: url, API: 'v2', TOKEN, ORG: '-', BUCKET: `${namespace}/autogen` }),
);

describe('the v1 API', () => {
  describeConformance('influxdb', {
    ...v1,
    wrongCredentials: (variables) => ({ ...variables, PASSWORD: 'another' }),
  });
});

describe('the v2 API', () => {
  const { drop: _, ...kept } = v2;
  describeConformance('influxdb', {
    ...kept,
    wrongCredentials: (variables) => ({ ...variables, TOKEN: `${ADMIN.user}:another` }),
    missing: (variables) => ({ ...variables, BUCKET: 'missing' }),
  });
});
