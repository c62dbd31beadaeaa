/** The first window of a sink with longer windows, which begins before the first message of the stream. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { eventually } from './control-support.ts';
import { verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const OWN_MS = 10 * WINDOW_MS;

const folder = temporaryFolder('first-own-window');
const file = join(folder.path, 'long.db');
let nats: NatsServer;
let client: Awaited<ReturnType<typeof connect>>;
let service: ServiceProgram | undefined;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await client?.close();
  await nats?.stop();
  folder.remove();
});

const env = () => ({
  ...WINDOWS,
  NATS_URL: nats.url,
  VERIFY_SHARE: '1',
  VERIFY_REPLAY_SHARE: '1',
  VERIFY_DELAY: '100ms',
  SINK_LONG_ENABLED: 'true',
  SINK_LONG_KIND: 'sqlite',
  SINK_LONG_PATH: file,
  SINK_LONG_WINDOW: '10s',
});

const iso = (time: number) => new Date(time).toISOString();

async function run(...args: string[]) {
  const program = startProgram(args, env());
  const code = await program.ended;
  return { code, ...program.output };
}

test('is verified by the service, by verify whatever the range, and mended by a replay', async () => {
  service = await startServiceProgram(env());
  // Not in the first windows of the pipeline that one is made of, nor in the last one.
  const phase = () => Date.now() % OWN_MS;
  while (phase() < 3 * WINDOW_MS || phase() > 8 * WINDOW_MS) await sleep(50);
  client.publish('metrics', '{"name":"x","type":"counter","value":1}');
  await client.flush();
  const { streams } = await client.jetstreamManager();
  await eventually('it is stored', async () => (await streams.info('METRICS')).state.messages === 1);
  const { state } = await streams.info('METRICS');
  const first = Math.floor(Date.parse(String(state.first_ts)) / OWN_MS) * OWN_MS;
  await service.untilConfirmed(first + OWN_MS);
  await eventually('all that was confirmed is verified', async () => {
    const { verified } = (await service!.status()).sinks[0]!;
    return verified.confirmed > 0 && verified.equal === verified.confirmed;
  });
  const whole = ['--to', iso(first + OWN_MS)];
  const { code, report } = await verifyConfirmed(whole, env());
  expect({ code, report }).toMatchObject({
    code: 0,
    report: { sinks: [{ from: iso(first), windows: { equal: 1 }, rows: { equal: 1 } }] },
  });

  const database = new DatabaseSync(file, { timeout: LIMIT_MS });
  database.exec('UPDATE points SET sum = sum + 1');
  database.close();
  for (const from of [[], ['--from', iso(first)], ['--from', iso(first - OWN_MS / 2)]]) {
    const found = await run('verify', ...from, ...whole);
    expect(found).toMatchObject({ code: 1, stdout: expect.stringContaining('sum is 2, not 1') });
    expect(found.stdout).toMatch(/\n1 window is DIFFERENT, in 1 of 1 sink\.\n$/);
  }
  const part = await run('verify', '--from', iso(first + WINDOW_MS), ...whole);
  expect(part.code).toBe(1);
  const range = `${iso(first + WINDOW_MS)} to ${iso(first + OWN_MS)}`;
  expect(part.stdout).toContain(`long: no whole window of this sink is in the range ${range}`);
  expect(part.stdout).not.toContain('confirmed');

  const replayed = await run('replay', '--sink', 'long', '--from', iso(first), ...whole);
  expect(replayed).toMatchObject({ code: 0, stdout: expect.stringContaining('1 point written') });
  expect(await run('verify', ...whole)).toMatchObject({ code: 0 });

  // Once the stream no longer holds it, nobody can judge it, and that is said.
  await streams.update('METRICS', { max_msgs: 1 });
  client.publish('metrics', '{"name":"x","type":"counter","value":1}');
  await client.flush();
  const judged = async (...args: string[]) => {
    const { code: ended, stdout } = await run('verify', '--json', ...args);
    return stdout.startsWith('{') ? { code: ended, sink: JSON.parse(stdout).sinks[0] } : undefined;
  };
  const asked = ['--from', iso(first)];
  await eventually('there is a whole window', async () => (await judged(...asked)) !== undefined);
  const lost = (await judged(...asked))!;
  expect(lost.code).toBe(1);
  expect(lost.sink.windows).toMatchObject({ different: 0 });
  expect(lost.sink.windows.unknown).toBeGreaterThan(0);
  expect(lost.sink.remarks).toContainEqual(expect.stringContaining('the stream no longer holds the'));
  const { sink } = (await judged())!;
  // The sink had begun before there was a message.
  expect(sink.windows.notHeld).toBeGreaterThanOrEqual((Date.parse(sink.from) - first) / OWN_MS);
  expect(sink.remarks).toContainEqual(expect.stringContaining('(retention): they are not judged'));
  await service.stop();
});
