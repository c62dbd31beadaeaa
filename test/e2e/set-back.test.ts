/** Commands that recompute windows from a stream in which the server's clock was set back. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { connect } from '../bus-client.ts';
import { setBack } from '../faults/set-back.ts';

/** More messages than the reader takes at once: windows are closed in between. */
const HALF = 24_000;
const BURSTS = 40;
const SAMPLE = '{"name":"a","type":"counter","value":1}';

const folder = temporaryFolder('set-back');
let env: Record<string, string>;
const stops: (() => unknown)[] = [];
beforeAll(async () => {
  const nats = await startNats();
  stops.push(() => nats.stop());
  const client = await connect({ servers: nats.url });
  await (await client.jetstreamManager()).streams.add({
    name: 'METRICS',
    subjects: ['metrics', 'metrics.>'],
  });
  const began = Date.now();
  let halfAt = began;
  for (let burst = 0; burst < 2 * BURSTS; burst++) {
    for (let i = 0; i < HALF / BURSTS; i++) client.publish('metrics', SAMPLE);
    await client.flush();
    await sleep(30);
    if (burst === BURSTS - 1) halfAt = Date.now();
  }
  await client.close();
  // Into the first half, however long either took: not to before the first message.
  const proxy = await setBack(new URL(nats.url), HALF, Math.round((halfAt - began) / 2));
  stops.push(() => proxy.stop());
  const path = join(folder.path, 'fanout.db');
  env = {
    NATS_URL: proxy.url,
    WINDOW: '500ms',
    LATENESS: '0s',
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: path,
  };
  await sleep(1_500);
});
afterAll(async () => {
  for (const stop of stops) await stop();
  folder.remove();
});

test('replay writes windows with all of their samples', async () => {
  const program = startProgram(
    ['replay', '--sink', 'sqlite', '--from', '2026-01-01T00:00:00Z', '--json'],
    env,
  );
  expect(await program.ended, program.output.stderr).toBe(0);
  const database = new DatabaseSync(env.SINK_SQLITE_PATH!, { readOnly: true });
  const { samples } = database.prepare('SELECT sum(count) AS samples FROM points').get()!;
  database.close();
  expect(samples).toBe(2 * HALF);
});

test('count says that samples are missing', async () => {
  const program = startProgram(['count', '--json'], env);
  expect(await program.ended).toBe(1);
  const { count, remarks } = JSON.parse(program.output.stdout);
  expect(count).toBeLessThan(2 * HALF);
  expect(remarks[0]).toContain('clock was set back');
});
