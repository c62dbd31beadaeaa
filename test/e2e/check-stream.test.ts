/** What `check` says of streams of all kinds: before `run` finds out. */
import { connect, type NatsConnection, type StreamConfig } from 'nats';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { needsNats } from '../bus/server-version.ts';
import { LIMIT_MS } from '../limits.ts';

interface Finding {
  readonly what: string;
  readonly state: string;
  readonly detail: string;
  readonly advice: string;
}

let nats: NatsServer;
let client: NatsConnection;

beforeAll(async () => {
  nats = await startNats();
  client = await connect({ servers: nats.url });
});
afterEach(async () => {
  const { streams } = await client.jetstreamManager();
  for await (const name of streams.names()) await streams.delete(name);
});
afterAll(async () => {
  await client.close();
  await nats.stop();
});

async function add(config: Partial<StreamConfig> & { name: string }): Promise<void> {
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.add(config);
}

/** Returns the exit code, and what was found by what was looked at. */
async function check(env: Record<string, string> = {}) {
  const sink = { SINK_BLACKHOLE_ENABLED: 'true' };
  const program = startProgram(['check', '--json'], { NATS_URL: nats.url, ...sink, ...env });
  const code = await program.ended;
  const findings = JSON.parse(program.output.stdout) as Finding[];
  return { code, of: (what: string) => findings.find((finding) => finding.what === what)! };
}

test('what it stores, if that is not what it captures', async (context) => {
  needsNats(context, '2.10');
  await add({
    name: 'METRICS',
    subjects: ['metrics.>'],
    subject_transform: { src: 'metrics.>', dest: 'm.>' },
  });
  const { code, of } = await check({ METRICS_SUBJECTS: 'metrics.>' });
  expect(code).toBe(0);
  expect(of('stream METRICS').detail).toMatch(/, metrics\.>, stored as m\.>$/);
  expect((await check({ METRICS_SUBJECTS: 'other.>' })).of('stream METRICS')).toMatchObject({
    state: 'failed',
    detail: 'the stream METRICS does not capture other.> (its subjects: metrics.>; it stores: m.>)',
  });
});

test('where it comes from, and how it would look if messages came in twice', async () => {
  await add({ name: 'EDGE', subjects: ['edge.>'] });
  await add({ name: 'METRICS', sources: [{ name: 'EDGE' }] });
  const single = (await check()).of('stream METRICS');
  expect(single).toMatchObject({ state: 'ok', advice: '' });
  expect(single.detail).toContain('from EDGE');
  const { streams } = await client.jetstreamManager();
  await streams.delete('METRICS');
  await add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'], sources: [{ name: 'EDGE' }] });
  const { code, of } = await check();
  expect(code).toBe(0);
  expect(of('stream METRICS').advice).toContain('one has the header Nats-Stream-Source');
});
