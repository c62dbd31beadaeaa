/** `partitions` of the chart, and docs/scale-out.md: subjects spread over streams, with a pipeline for each. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { freePort, temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { type Rendered, startRenderer } from '../helm/chart.ts';
import { clusterOf, podOf } from '../helm/pod.ts';
import { verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const PARTITIONS = 4;
const APPS = 16;
const MESSAGES_EACH = 25;
const DATABASE = 'fanout_partitions';
const folder = temporaryFolder('partitions');

let nats: NatsServer;
let postgres: Postgres;
let rendered: Rendered;
const pods: { readonly env: Readonly<Record<string, string>>; readonly service: ServiceProgram }[] = [];

function renderedWith(url: string): Rendered {
  const renderer = startRenderer();
  try {
    const [result] = renderer.render([
      { partitions: PARTITIONS, sinks: { postgres: { enabled: true, secrets: { url } } } },
    ]);
    if (typeof result !== 'object') throw new Error(result);
    return result;
  } finally {
    renderer.remove();
  }
}

/** What the notes say that somebody has to do. */
function noted(pattern: RegExp): string {
  const [text] = pattern.exec(rendered.notes) ?? [];
  if (text === undefined) throw new Error(rendered.notes);
  return text;
}

beforeAll(async () => {
  postgres = await startPostgres();
  rendered = renderedWith(await postgres.createDatabase(DATABASE));
  nats = await startNats({ extra: noted(/mappings = \{[\s\S]*?\n +\}\n/) });
  const sets = rendered.objects.filter(({ kind }) => kind === 'StatefulSet');
  const cluster = clusterOf(rendered.objects);
  const started = sets.map(async (set, partition) => {
    const pod = podOf(set, 0, cluster, join(folder.path, String(partition)));
    // Here all pods share one network.
    const own = { NATS_URL: nats.url, HTTP_HOST: '127.0.0.1', HTTP_PORT: String(await freePort()) };
    const env = { ...pod.env, ...WINDOWS, ...own };
    return { env, service: await startServiceProgram(env) };
  });
  pods.push(...(await Promise.all(started)));
});
afterAll(async () => {
  await Promise.all(pods.map(({ service }) => service.stop('SIGKILL')));
  await Promise.all([nats?.stop(), postgres?.stop()]);
  folder.remove();
});

const select = async (sql: string) =>
  (await postgres.execute(sql, DATABASE)).rows as Record<string, string>[];
const totalOf = async (table: string, name: string) =>
  Number((await select(`SELECT sum(count) AS sum FROM ${table} WHERE name = '${name}'`))[0]!.sum);

test('four partitions as the chart makes them: every sample once, and a view that adds them up', async () => {
  const bus = await connect({ servers: nats.url });
  for (let i = 0; i < MESSAGES_EACH; i += 1) {
    for (let app = 0; app < APPS; app += 1) {
      // One series for each subject, and one that all of them have.
      bus.publish(`metrics.app${app}`, `own:1|c|#app:${app}\nshared:1|c\n`);
    }
  }
  await bus.drain();
  const end = Date.now() + WINDOW_MS;
  await Promise.all(pods.map(({ service }) => service.untilConfirmed(end)));

  const totals = await Promise.all(pods.map((_, i) => totalOf(`fanout_points_${i}`, 'own')));
  expect(totals.filter((total) => total > 0).length).toBeGreaterThan(1);
  expect(totals.reduce((sum, total) => sum + total)).toBe(APPS * MESSAGES_EACH);

  await postgres.execute(noted(/CREATE VIEW [\s\S]*?;/), DATABASE);
  for (const name of ['own', 'shared'])
    expect(await totalOf('fanout_points_all', name)).toBe(APPS * MESSAGES_EACH);
  const rows = await select(
    "SELECT window_start, count(*) AS rows FROM fanout_points_all WHERE name = 'shared' GROUP BY 1",
  );
  expect(rows.length).toBeGreaterThan(0);
  // A series in several partitions is one row for each window.
  for (const row of rows) expect(row.rows).toBe('1');
  expect(await verifyConfirmed([], pods[0]!.env)).toMatchObject({ code: 0 });
});
