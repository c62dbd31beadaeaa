/** Every format over a real bus, compressed or not, live and read back. */
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { headers } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bus, connect } from '../../src/bus/connect.ts';
import { loadConfig } from '../../src/config/config.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Sent, WRITERS } from '../decode/writers.ts';
import { storedPoints, WINDOW_MS, WINDOWS } from './support.ts';

const SAMPLES = 3000;
const PER_MESSAGE = 10;
const PACKED = [
  ['plain', undefined],
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const;
/** The kinds of messages. The id is the first part of the name. */
const KINDS = (['json', 'jsonLines', 'influx', 'statsd', 'otlp', 'otlpJson'] as const).flatMap((format) =>
  PACKED.map(([encoding, pack]) => ({ id: `${format}-${encoding}`, format, encoding, pack })),
);

const folder = temporaryFolder('formats');
let nats: NatsServer;
let service: ServiceProgram;
let bus: Bus;
let env: Record<string, string>;

beforeAll(async () => {
  nats = await startNats();
  env = {
    ...WINDOWS,
    // Long enough that all samples fall into one window.
    LATENESS: '30s',
    NATS_URL: nats.url,
    METRICS_COUNTERS: '*.hits',
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: join(folder.path, 'fanout.db'),
  };
  service = await startServiceProgram(env);
  bus = await connect((await loadConfig(env)).core, { debug() {}, info() {}, warn() {}, error() {} });
});
afterAll(async () => {
  await bus?.close();
  await service?.stop('SIGKILL');
  await nats?.stop();
  folder.remove();
});

/** The same samples for every kind, except for their names. */
function samplesOf(id: string, seconds: number): Sent[] {
  return Array.from({ length: SAMPLES }, (_, i) => ({
    name: `${id}.${i % 3 === 0 ? 'level' : 'hits'}`,
    type: i % 3 === 0 ? 'gauge' : 'counter',
    value: (i * 37) % 101,
    dimensions: { app: `app ${i % 7}`, zone: 'a,b=c'.slice(0, 1 + (i % 2)).replace(',', '-') },
    seconds,
  }));
}

test('the same samples give the same rows in every format, and they are read back equal', async () => {
  const seconds = Math.floor(Date.now() / 1000);
  for (const { id, format, encoding, pack } of KINDS) {
    const samples = samplesOf(id, seconds);
    for (let i = 0; i < samples.length; i += PER_MESSAGE) {
      const text = WRITERS[format](samples.slice(i, i + PER_MESSAGE));
      const options = pack === undefined ? {} : { headers: headers() };
      options.headers?.set('Content-Encoding', encoding);
      bus.connection.publish('metrics.formats', pack === undefined ? text : pack(text), options);
    }
    await bus.flush();
  }
  const bomb = headers();
  bomb.set('Content-Encoding', 'gzip');
  bus.connection.publish('metrics.formats', gzipSync(Buffer.alloc(50_000_000, ' ')), { headers: bomb });
  await bus.flush();
  await service.untilConfirmed((seconds + 1) * 1000);

  const { messages, samples } = await service.status();
  const sent = (KINDS.length * SAMPLES) / PER_MESSAGE;
  expect(messages.received).toBe(sent + 1);
  expect(messages.rejected).toMatchObject({ too_large: 1, not_json: 0, bad_encoding: 0 });
  expect(samples.byType).toMatchObject({ counter: (KINDS.length * SAMPLES * 2) / 3, timer: 0 });
  expect(Object.values(samples.rejected).reduce((sum, count) => sum + count, 0)).toBe(0);

  const points = await storedPoints(env, 'sqlite');
  expect(new Set(points.map(({ windowStart }) => windowStart))).toEqual(new Set([seconds * WINDOW_MS]));
  const rows = KINDS.map(({ id }) =>
    points
      .filter(({ series }) => series.name.startsWith(`${id}.`))
      .map(({ series, count, sum, min, max, last }) => {
        const { name, type, dimensionsJson } = series;
        return JSON.stringify([name.slice(id.length), type, dimensionsJson, count, sum, min, max, last]);
      })
      .sort(),
  );
  expect(rows[0]!.length).toBe(28);
  for (const [i, { id }] of KINDS.entries()) expect(rows[i], id).toEqual(rows[0]);
});

test('verify and count read every format as the service does', async () => {
  const run = async (...args: string[]) => {
    const program = startProgram(args, env);
    expect(await program.ended, program.output.stderr).toBe(0);
    return JSON.parse(program.output.stdout);
  };
  const verified = await run('verify', '--json');
  expect(JSON.stringify(verified)).toContain('"sqlite"');
  const counted = await run('count', '--name', 'influx-zstd.hits', '--json');
  expect(JSON.stringify(counted)).toContain(`"count":${(SAMPLES * 2) / 3}`);
});
