/** The column `sketch`, written by the service, looked at by itself, by `verify` and by `replay`. */
import { join } from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readSketchText } from '../../src/aggregate/sketch-text.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { LIMIT_MS } from '../limits.ts';
import { endOf, expectEqual, sendTraffic, verifyConfirmed, WINDOWS } from './support.ts';

let nats: NatsServer;
let service: ServiceProgram;
let truth: TruthRow[];
const folder = temporaryFolder('sketches');
const fileOf = (sink: string) => join(folder.path, `${sink}.db`);
const env = () => ({
  ...WINDOWS,
  NATS_URL: nats.url,
  VERIFY_SHARE: '1',
  VERIFY_DELAY: '1s',
  SINK_SQLITE_ENABLED: 'true',
  SINK_SQLITE_PATH: fileOf('sqlite'),
  SINK_SQLITE_SKETCH: 'true',
  SINK_PLAIN_ENABLED: 'true',
  SINK_PLAIN_KIND: 'sqlite',
  SINK_PLAIN_PATH: fileOf('plain'),
});

beforeAll(async () => {
  nats = await startNats();
  service = await startServiceProgram(env());
  truth = await sendTraffic({ nats, folder: folder.path }, [
    '--count',
    '12000',
    '--rate',
    '4000',
    '--series',
    '90',
  ]);
  await service.untilConfirmed(endOf(truth));
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

function run(sink: string, statement: string): Record<string, SQLOutputValue>[] {
  const database = new DatabaseSync(fileOf(sink), { timeout: LIMIT_MS });
  try {
    return database.prepare(statement).all();
  } finally {
    database.close();
  }
}

async function verify() {
  const { code, report } = await verifyConfirmed(['--to', new Date(endOf(truth)).toISOString()], env());
  return { code, sinks: new Map(report!.sinks.map((sink) => [sink.sink, sink])) };
}

test('every timer has its sketch, with all that it counts, and the sink beside it has no such column', async () => {
  await expectEqual(env(), truth);
  const rows = run('sqlite', 'SELECT type, count, sketch FROM points');
  expect(rows).toHaveLength(truth.length);
  for (const { type, count, sketch } of rows) {
    expect(sketch === null).toBe(type !== 'timer');
    if (sketch === null) continue;
    const { scale, zero, positive, negative } = readSketchText(String(sketch));
    expect(scale).toBe(6);
    expect([...positive, ...negative].reduce((sum, [, each]) => sum + each, zero)).toBe(count);
  }
  expect(rows.filter(({ type }) => type === 'timer').length).toBeGreaterThan(20);
  // The service compares them too.
  for (let seen = 0; seen < 3; ) {
    const { sinks } = await service.status();
    expect(sinks.map(({ verified }) => verified.different)).toEqual([0, 0]);
    seen = Math.min(...sinks.map(({ verified }) => verified.equal));
  }
  const columns = run('plain', "SELECT name FROM pragma_table_info('points')").map(({ name }) => name);
  expect(columns).not.toContain('sketch');
});

test('verify compares it, passes over a row without one, and a replay puts both right', async () => {
  expect(await verify()).toMatchObject({ code: 0 });
  const some =
    "(SELECT min(series_id) FROM points WHERE type = 'timer') AND window_start = (SELECT min(window_start) FROM points)";
  run('sqlite', `UPDATE points SET sketch = NULL WHERE series_id = ${some}`);
  expect(await verify()).toMatchObject({ code: 0 });
  const other = "(SELECT series_id, window_start FROM points WHERE sketch LIKE '%,1]%' LIMIT 1)";
  run(
    'sqlite',
    `UPDATE points SET sketch = replace(sketch, ',1]', ',2]') WHERE (series_id, window_start) = ${other}`,
  );
  const { code, sinks } = await verify();
  expect(code).toBe(1);
  expect(sinks.get('plain')!.rows).toMatchObject({ different: 0 });
  expect(sinks.get('sqlite')!.rows).toMatchObject({ different: 1 });
  expect(sinks.get('sqlite')!.examples[0]!.fields.map(({ field }) => field)).toEqual(['sketch']);
  const first = new Date(Math.min(...truth.map(({ windowStart }) => windowStart!))).toISOString();
  const replay = startProgram(['replay', '--sink', 'sqlite', '--from', first], env());
  expect([await replay.ended, replay.output.stderr]).toEqual([0, expect.any(String)]);
  expect(await verify()).toMatchObject({ code: 0 });
  expect(run('sqlite', "SELECT count(*) AS n FROM points WHERE type = 'timer' AND sketch IS NULL")).toEqual([
    { n: 0 },
  ]);
});
