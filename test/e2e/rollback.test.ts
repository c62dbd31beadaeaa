/** A server comes back with an older copy of its files: the stream takes back messages that it delivered. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { sample, verifyConfirmed, WINDOWS } from './support.ts';

const WINDOW_MS = 3_000;
const PAUSE_MS = 20;
/** How long messages are published: some windows. */
const SPAN_MS = 2 * WINDOW_MS;

/** For one attempt. There are several. */
const ANSWER_MS = 2_000;

/** The files of the whole server, or only those of the stream: then the checkpoints stay as they are. */
const PARTS = { server: '', stream: join('jetstream', '$G', 'streams', 'METRICS') } as const;

// They wait most of their time, and do so side by side, each with a bus of its own.
describe.concurrent.for(['runs', 'is stopped', 'is killed'] as const)('while the service %s', (meanwhile) => {
  const folder = temporaryFolder('rollback');
  const file = join(folder.path, 'a.db');
  let nats: NatsServer;
  let client: NatsConnection;
  let env: Record<string, string>;
  let service: ServiceProgram | undefined;

  beforeAll(async () => {
    nats = await startNats();
    client = await connect({ servers: nats.url, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
    const sqlite = { SINK_SQLITE_ENABLED: 'true', SINK_SQLITE_PATH: file };
    env = { NATS_URL: nats.url, ...WINDOWS, WINDOW: `${WINDOW_MS}ms`, ...sqlite };
    service = await startServiceProgram(env);
  });
  afterAll(async () => {
    await client?.close();
    await service?.stop('SIGKILL');
    await nats?.stop();
    folder.remove();
  });

  /** Publishes to a series of its own, and to one that is always there. Resolves when the stream holds the messages. */
  async function publish(name: string, forMs = SPAN_MS): Promise<void> {
    const until = performance.now() + forMs;
    for (let i = 0; performance.now() < until; i++) {
      for (const one of [name, 'always'])
        client.publish('metrics', JSON.stringify({ name: one, type: 'counter', value: i }));
      await sleep(PAUSE_MS);
    }
    const last = JSON.stringify({ name, type: 'counter', value: 1 });
    await client.jetstream().publish('metrics', last, { timeout: LIMIT_MS });
  }

  function rows(name: string): number {
    const database = new DatabaseSync(file, { readOnly: true, timeout: LIMIT_MS });
    try {
      const { count } = database.prepare('SELECT count(*) AS count FROM points WHERE name = ?').get(name)!;
      return Number(count);
    } finally {
      database.close();
    }
  }

  async function withServerDown(work: () => void): Promise<void> {
    await nats.halt('SIGTERM');
    work();
    await nats.resume();
    await eventually('the client is back', async () => {
      // A request to the old server is never answered.
      const manager = await client.jetstreamManager({ checkAPI: false, timeout: ANSWER_MS });
      return (await manager.streams.info('METRICS').catch(() => undefined)) !== undefined;
    });
  }

  test.for(['stream', 'server'] as const)(
    'the files of the %s are set back',
    { concurrent: false },
    async (part) => {
      const id = `${part}-${meanwhile.replace(' ', '-')}`;
      const [at, copy] = [join(nats.storePath, PARTS[part]), join(folder.path, 'copy')];
      const before = (await service!.status()).source.rollbacks;
      await publish(`kept-${id}`);
      await withServerDown(() => cpSync(at, copy, { recursive: true }));
      await publish(`taken-back-${id}`);
      await service!.untilConfirmed(Date.now());
      expect(rows(`taken-back-${id}`)).toBeGreaterThan(0);
      // Some rows are written but not confirmed yet.
      if (meanwhile === 'is killed') await publish(`taken-back-${id}`, 1.5 * WINDOW_MS);
      if (meanwhile !== 'runs') await service!.stop(meanwhile === 'is killed' ? 'SIGKILL' : 'SIGTERM');
      await withServerDown(() => {
        rmSync(at, { recursive: true });
        cpSync(copy, at, { recursive: true });
        rmSync(copy, { recursive: true });
      });
      if (meanwhile === 'runs') await publish(`new-${id}`);
      else {
        await publish(`new-${id}`, WINDOW_MS);
        service = await startServiceProgram(env);
        await publish(`new-${id}`);
      }
      await service!.untilConfirmed(Date.now());
      await eventually('the rows of removed messages are gone', async () => rows(`taken-back-${id}`) === 0);
      expect(rows(`kept-${id}`)).toBeGreaterThan(0);
      expect(rows(`new-${id}`)).toBeGreaterThan(0);
      const { code, report, stderr } = await verifyConfirmed([], env);
      expect({ code, report }, stderr).toMatchObject({
        code: 0,
        report: { sinks: [{ rows: { missing: 0, extra: 0, different: 0 } }] },
      });
      const { source, sinks } = await service!.status();
      expect(sinks[0]!.verified.different).toBe(0);
      expect(source.gaps).toBe(0);
      // If the checkpoints are set back too, only an instance that was running knows that something was taken back.
      const isKnown = part === 'stream' || meanwhile === 'runs';
      expect(source.rollbacks - (meanwhile === 'runs' ? before : 0)).toBe(isKnown ? 1 : 0);
      await eventually('the metric says so', async () => {
        const text = await (await fetch(`${service!.url}/metrics`)).text();
        return sample(text, 'fanout_source_rollbacks_total') === source.rollbacks;
      });
      for (const { from, to, after, through } of source.latestRollbacks) {
        expect(Date.parse(from)).toBeLessThan(Date.parse(to));
        expect(after).toBeLessThan(through);
      }
    },
  );
});
