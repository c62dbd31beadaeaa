/** The taps on a real bus, without a service. */

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { counted as amountOf } from '../../src/base/number-format.ts';
import { REJECTION_TEXTS } from '../../src/decode/rejection.ts';
import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import type { TruthRow } from '../../src/verify/truth.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import type { Anything } from './control-support.ts';
import { endOf, sendTraffic, WINDOWS } from './support.ts';

const folder = temporaryFolder('taps');
let nats: NatsServer;
let truth: TruthRow[];
beforeAll(async () => {
  nats = await startNats();
  // Created here because nobody can purge a stream that the service creates.
  const client = await connect({ servers: nats.url });
  const { streams } = await client.jetstreamManager({ timeout: LIMIT_MS });
  await streams.add({ name: 'METRICS', subjects: ['metrics', 'metrics.>'] });
  await client.close();
  truth = await sendTraffic({ nats, folder: folder.path }, [
    '--count',
    '12000',
    '--rate',
    '4000',
    '--series',
    '80',
    '--late',
    '0.05',
  ]);
  // `count` leaves out a window until it is complete.
  await sleep(endOf(truth) + 1500 - Date.now());
});
afterAll(async () => {
  await nats?.stop();
  folder.remove();
});

const start = (...args: string[]): Program => startProgram(args, { NATS_URL: nats.url, ...WINDOWS });
async function run(...args: string[]) {
  const program = start(...args);
  const code = await program.ended;
  return { code, ...program.output };
}

/** Enough at once that some arrive in every interval, however rarely this process gets a turn. */
const BURST = 20;

/** Publishes until the program has ended. The program is stopped when its output is enough. */
async function publishUntil(
  program: Program,
  publish: (i: number) => [subject: string, payload: string][],
  isEnough: (stdout: string) => boolean = () => false,
) {
  const connection = await connect({ servers: nats.url });
  let over = false;
  void program.ended.then(() => {
    over = true;
  });
  for (let i = 0; !over; i++) {
    for (const [subject, payload] of publish(i)) connection.publish(subject, payload);
    if (i % BURST !== 0) continue;
    await sleep(5);
    if (isEnough(program.output.stdout)) await program.stop('SIGINT');
  }
  await connection.close();
  return await program.ended;
}

/** The first wanted line. */
const lineWith = (stdout: string, isWanted: (line: Anything) => boolean): Anything =>
  stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
    .find(isWanted);

test('count gives what every store must hold, by name and dimension', async () => {
  const to = new Date(endOf(truth)).toISOString();
  const all = await run('count', '--json', '--to', to);
  expect(all.stderr).toBe('');
  const answer = JSON.parse(all.stdout);
  expect(answer).toMatchObject({ complete: true, count: 12_000, remarks: [] });
  for (const { name, type, count, sum } of answer.groups) {
    const rows = truth.filter(({ series }) => series.name === name && series.type === type);
    expect(count, name).toBe(rows.reduce((total, row) => total + row.count, 0));
    const expected = rows.reduce((total, row) => total + row.sum, 0);
    expect(Math.abs(sum - expected), name).toBeLessThanOrEqual(Math.abs(expected) * 1e-12);
  }
  const { name, dimensions } = truth[0]!.series;
  const [key, value] = dimensions[0]!;
  const middle = truth[Math.floor(truth.length / 2)]!.windowStart!;
  const from = new Date(middle).toISOString();
  const args = ['--name', name, '--by', key, '--where', `${key}=${value}`, '--from', from, '--to', to];
  const one = JSON.parse((await run('count', '--json', ...args)).stdout);
  const rows = truth.filter(
    ({ series, windowStart }) =>
      series.name === name &&
      windowStart! >= middle &&
      series.dimensions.some(([k, v]) => k === key && v === value),
  );
  expect(one.groups.map(({ dimensions: by }: { dimensions: object }) => by)).toEqual([{ [key]: value }]);
  expect(one.count).toBe(rows.reduce((total, row) => total + row.count, 0));
  expect(all.code).toBe(0);
});

test('tail --from shows every message of the stream once, in its order', async () => {
  const args = ['tail', '--json', '--from', '2020-01-01T00:00:00Z', '--limit', '12000', 'metrics.load'];
  const program = start(...args);
  let text = '';
  program.child.stdout!.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  expect(await program.ended).toBe(0);
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map(({ sequence }) => sequence)).toEqual(lines.map((_, i) => i + 1));
  const counts = (names: string[]) =>
    names.reduce(
      (counted, name) => counted.set(name, (counted.get(name) ?? 0) + 1),
      new Map<string, number>(),
    );
  const expected = new Map<string, number>();
  for (const { series, count } of truth) expected.set(series.name, (expected.get(series.name) ?? 0) + count);
  expect(counts(lines.map(({ name }) => name))).toEqual(expected);
});

test('tail shows new messages, filtered and at a limited rate, and says how many it did not show', async () => {
  const sample = (i: number) =>
    `{"name":"live.${i % 2}","type":"counter","value":${i},"dimensions":{"app":"x"}}`;
  const args = [
    'tail',
    'metrics.live',
    '--name',
    'live.1',
    '--where',
    'app=x',
    '--rate',
    '5',
    '--limit',
    '8',
  ];
  const program = start(...args);
  const code = await publishUntil(program, (i) => [
    ['metrics.live', sample(i)],
    ['metrics.other', sample(i)],
  ]);
  const lines = program.output.stdout.trimEnd().split('\n');
  expect(lines).toHaveLength(8);
  for (const line of lines) expect(line).toMatch(/^\S+Z metrics\.live counter live\.1 \d+ \{"app":"x"\}$/);
  expect(program.output.stderr).toMatch(/\([\d,]+ more lines? (was|were) not shown\)/);
  expect(code).toBe(0);
});

test('top shows rates by subject, name and dimension', async () => {
  const publish = (i: number): [string, string][] => [
    ['metrics.often', `{"name":"a","type":"counter","value":1,"dimensions":{"app":"x${i % 2}"}}`],
    ['metrics.often', `{"name":"a","type":"counter","value":1}`],
    ['metrics.seldom', '{"name":"\\u001b[2J'],
  ];
  const look = async (isEnough: (stdout: string) => boolean, ...args: string[]) => {
    const program = start('top', '--interval', '500ms', ...args);
    const code = await publishUntil(program, publish, isEnough);
    expect(code, program.output.stderr).toBe(130);
    return program.output.stdout;
  };
  const keysOf = ({ rows }: Anything): string[] => rows.map(({ key }: { key: string }) => key);
  // Many of each, so that it matters little where an interval splits a burst.
  const hasMany = ({ rows }: Anything) =>
    rows.length >= 2 && rows.every((row: Anything) => row.per_second > 100);
  const bySubject = await look((stdout) => lineWith(stdout, hasMany), '--json');
  const line = lineWith(bySubject, hasMany);
  expect(keysOf(line)).toEqual(['metrics.often', 'metrics.seldom']);
  expect(line.rows[0].per_second / line.rows[1].per_second).toBeCloseTo(2, 0);
  const hasFour = ({ rows }: Anything) => rows.length >= 4;
  const byDimension = await look((stdout) => lineWith(stdout, hasFour), '--json', '--by', 'app');
  expect(keysOf(lineWith(byDimension, hasFour)).sort()).toEqual(['(none)', '(rejected)', 'x0', 'x1']);
  const thrice = start('top', '--interval', '100ms', '--times', '3', '--json');
  expect(await thrice.ended).toBe(0);
  expect(thrice.output.stdout.trimEnd().split('\n')).toHaveLength(3);
  const plain = await look((stdout) => stdout.includes('(rejected)'), '--by', 'name');
  expect(plain).toMatch(/^name\s+samples\/s\s+bytes\/s\s+total$/m);
  expect(plain).not.toContain('\x1b');
});

test('tail --from a time that has not come is an error, not the live traffic', async () => {
  const tail = start('tail', '--from', '2999-01-01T00:00:00Z');
  expect(await tail.ended).toBe(1);
  expect(tail.output.stderr).toMatch(
    /^error: --from 2999-01-01T00:00:00\.000Z is in the future: choose a time up to now \(.*Z\), or leave it out\n$/,
  );
});

test('Ctrl-C ends a tap cleanly, and nothing is left on the bus', async () => {
  const tail = start('tail', '--from', '2020-01-01T00:00:00Z', '--name', 'nothing.*');
  const top = start('top', '--interval', '200ms');
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager({ timeout: LIMIT_MS });
  const consumers = async () =>
    (await manager.streams.list().next()).map(({ config, state }) => [config.name, state.consumer_count]);
  await once(top.child.stdout!, 'data');
  // top subscribes to new messages, tail reads the stream.
  await expect.poll(consumers).toEqual([['METRICS', 1]]);
  expect(await tail.stop('SIGINT')).toBe(130);
  expect(await top.stop('SIGINT')).toBe(130);
  const left = await consumers();
  await connection.close();
  expect(left).toEqual([['METRICS', 0]]);
});

test('a tap leaves nothing on the bus when nobody reads its output any more', async () => {
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager({ timeout: LIMIT_MS });
  const tail = start('tail', '--from', '2020-01-01T00:00:00Z');
  await once(tail.child.stdout!, 'data');
  tail.child.stdout!.destroy();
  expect(await tail.ended).toBe(0);
  const consumers = async () => (await manager.streams.info('METRICS')).state.consumer_count;
  await expect.poll(consumers).toBe(0);
  await connection.close();
});

test('a tap says what it cannot do', async () => {
  const overlap = await run('tail', 'metrics.>', 'metrics.a');
  expect(overlap).toMatchObject({ code: 1, stderr: expect.stringContaining('do not overlap') });
  // Longer than a timer can wait: it would fire without a pause.
  const seldom = await run('top', '--interval', '25d', '--times', '3');
  expect(seldom).toMatchObject({ code: 1, stderr: expect.stringContaining('from 1ms to 24h') });
  const core = startProgram(['count'], { NATS_URL: nats.url, METRICS_SOURCE: 'core' });
  expect(await core.ended).toBe(1);
  expect(core.output.stderr).toContain('keeps no messages to count');
});

test('count and replay say if the stream no longer holds a part of the range', async () => {
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager({ timeout: LIMIT_MS });
  await manager.streams.purge('METRICS', { seq: 6_000 });
  await connection.close();
  const from = new Date(truth[0]!.windowStart!).toISOString();
  const counted = await run('count', '--from', from, '--json');
  expect(counted.code).toBe(1);
  const { complete, remarks } = JSON.parse(counted.stdout);
  expect(complete).toBe(false);
  expect(remarks).toEqual([
    expect.stringMatching(/^the stream no longer holds the [\d,]+ windows? before /),
    expect.stringMatching(/^[\d,]+ messages rejected in this range \(not_json /),
  ]);
  expect((await run('count')).code).toBe(0);

  const settings = { NATS_URL: nats.url, ...WINDOWS, SINK_BLACKHOLE_ENABLED: 'true' };
  const replay = async (...args: string[]) => {
    const program = startProgram(['replay', '--sink', 'blackhole', '--from', from, ...args], settings);
    return { code: await program.ended, ...program.output };
  };
  const replayed = await replay('--json');
  expect(replayed.code).toBe(1);
  const { done, lost, gaps } = JSON.parse(replayed.stdout);
  expect({ done, gaps }).toEqual({ done: false, gaps: 0 });
  expect(lost).toBeGreaterThan(0);
  expect((await replay()).stdout).toContain(
    `not complete: the stream no longer holds the ${amountOf(lost, 'window')} before`,
  );
});

test('tail --rejected shows only what is no sample, and takes no filters of series', async () => {
  const program = start('tail', 'metrics.mixed', '--rejected', '--limit', '2', '--json');
  const code = await publishUntil(program, () => [
    ['metrics.mixed', '{"name":"good","type":"counter","value":1}'],
    ['metrics.mixed', '{"name":"bad","type":"nope","value":1}'],
  ]);
  expect(code).toBe(0);
  const lines = program.output.stdout.trimEnd().split('\n');
  expect(lines).toHaveLength(2);
  for (const line of lines)
    expect(JSON.parse(line)).toMatchObject({ rejected: 'bad_type', why: REJECTION_TEXTS.bad_type });
  const refused = start('tail', '--rejected', '--name', 'good');
  expect(await refused.ended).toBe(1);
  expect(refused.output.stderr).toContain('--rejected goes without --name and --where');
});
