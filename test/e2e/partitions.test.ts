/** docs/scale-out.md: the server spreads subjects over several streams, with a pipeline for each. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const MESSAGES = 1000;
/** One subject for each partition. */
const SUBJECTS = ['metrics.a', 'metrics.b'];
const folder = temporaryFolder('partitions');

let nats: NatsServer;
const running: ServiceProgram[] = [];
beforeAll(async () => {
  nats = await startNats({
    extra: 'mappings = { "metrics.*": "part.{{partition(2,1)}}.{{wildcard(1)}}" }',
  });
});
afterAll(async () => {
  await Promise.all(running.map((service) => service.stop('SIGKILL')));
  await nats?.stop();
  folder.remove();
});

function environment(partition: number): Record<string, string> {
  return {
    ...WINDOWS,
    NATS_URL: nats.url,
    PIPELINE: `p${partition}`,
    METRICS_STREAM: `METRICS_${partition}`,
    METRICS_SUBJECTS: `part.${partition}.>`,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: fileOf(partition),
  };
}

function fileOf(partition: number): string {
  return join(folder.path, `part${partition}.db`);
}

function countsIn(partition: number): number {
  const database = new DatabaseSync(fileOf(partition), { readOnly: true });
  try {
    return Number(database.prepare('SELECT total(count) AS sum FROM points').get()?.sum);
  } finally {
    database.close();
  }
}

test('two partitions with a stream, a pipeline and a file each: every sample once, every row equal', async () => {
  running.push(
    ...(await Promise.all([0, 1].map((partition) => startServiceProgram(environment(partition))))),
  );
  const args = (subject: string) => ['load', '--subject', subject, '--count', `${MESSAGES}`, '--rate', '0'];
  const loads = SUBJECTS.map((subject) => startProgram(args(subject), { NATS_URL: nats.url }));
  expect(await Promise.all(loads.map((load) => load.ended))).toEqual(SUBJECTS.map(() => 0));
  const end = Date.now() + WINDOW_MS;
  await Promise.all(running.map((service) => service.untilConfirmed(end)));
  for (const partition of [0, 1]) {
    expect(countsIn(partition), `partition ${partition}`).toBe(MESSAGES);
    expect(await verifyConfirmed([], environment(partition))).toMatchObject({ code: 0 });
  }
});
