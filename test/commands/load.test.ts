/** `load` as a process of its own, against a real nats-server. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DiscardPolicy } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { readTruth, type TruthRow } from '../../src/verify/truth.ts';
import { deleteStreams } from '../bus/deleted-streams.ts';
import { needsNats } from '../bus/server-version.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';

const LAUNCHER = `
  import { loadCommand } from './src/commands/load.ts';
  await loadCommand().parseAsync(process.argv.slice(1), { from: 'user' }).catch((error) => {
    process.stderr.write(error.message + '\\n');
    process.exitCode = 1;
  });`;

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

let nats: NatsServer;
const folder = temporaryFolder('load-test');

function start(args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', LAUNCHER, '--', ...args], {
    env: { ...process.env, NATS_URL: nats.url, METRICS_STREAM_MAX_BYTES: '1GB', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const run: Run = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    run.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    run.stderr += chunk;
  });
  const ended = once(child, 'close').then(([code]) => ({ ...run, code: code as number | null }));
  return { child, ended };
}

/** How many messages the stream holds. */
async function held(): Promise<number> {
  const watch = await connect({ servers: nats.url });
  const { streams } = await watch.jetstreamManager({ timeout: LIMIT_MS });
  const info = await streams.info('METRICS').catch(() => undefined);
  await watch.close();
  return info?.state.messages ?? 0;
}

async function untilHeld(messages: number): Promise<void> {
  await expect.poll(held).toBeGreaterThanOrEqual(messages);
}

async function load(args: readonly string[], env: Record<string, string> = {}): Promise<Run> {
  return start(args, env).ended;
}

async function rowsOf(file: string): Promise<TruthRow[]> {
  const rows: TruthRow[] = [];
  for await (const row of readTruth(createInterface({ input: createReadStream(file) }))) rows.push(row);
  return rows;
}

function total(rows: readonly TruthRow[], type?: string) {
  const chosen = rows.filter(({ series }) => type === undefined || series.type === type);
  return chosen.reduce((sum, { count }) => sum + count, 0);
}

beforeAll(async () => {
  nats = await startNats();
});

afterAll(async () => {
  await nats.stop();
  folder.remove();
});

describe('load', () => {
  it('says that the stream stored all, if it did', async () => {
    await load(['--count', '1', '--truth', join(folder.path, 'makes-the-stream.jsonl')]);
    const count = ['--rate', '0', '--count', '3000'];
    const inWords = await load(count);
    expect(inWords).toMatchObject({ code: 0, stderr: '' });
    expect(inWords.stdout).toMatch(/^the stream stored all of them$/m);
    const json = JSON.parse((await load([...count, '--json'])).stdout);
    expect(json).toMatchObject({ messages: 3000, not_stored: 0, not_stored_unknown: null });
  });

  it('says what the stream did not store, with the truth and without it', async () => {
    const file = join(folder.path, 'refused.jsonl');
    const env = { METRICS_STREAM: 'SMALL', METRICS_SUBJECTS: 'small' };
    const owner = await connect({ servers: nats.url });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    await streams.add({ name: 'SMALL', subjects: ['small'], max_msgs: 200, discard: DiscardPolicy.New });
    const args = ['--subject', 'small', '--count', '150', '--rate', '0'];
    expect(await load(args, env)).toMatchObject({ code: 0 });
    const refused = await load([...args, '--json'], env);
    expect(refused).toMatchObject({ code: 1, stderr: '' });
    expect(JSON.parse(refused.stdout)).toMatchObject({ messages: 150, not_stored: 100 });
    expect((await load(args, env)).stdout).toContain('the stream did not store 150 of them');
    const read = await load([...args, '--truth', file, '--json'], env);
    expect(JSON.parse(read.stdout)).toMatchObject({ not_stored: 150 });
    // Of what it has removed, nobody knows when it came.
    await deleteStreams(nats, streams, ['SMALL']);
    await streams.add({ name: 'SMALL', subjects: ['small'], max_msgs: 100 });
    const removed = await load(args, env);
    expect(removed.stdout).toContain('is unknown: the stream has removed messages since');
    expect(removed.code).toBe(0);
    await streams.delete('SMALL');
    const gone = await load(args, env);
    expect(gone.stdout).toContain('no stream captures small: none of them was stored');
    expect(gone.code).toBe(1);
    // Another one may have it.
    await streams.add({ name: 'ANOTHER', subjects: ['small'] });
    const elsewhere = await load(args, env);
    expect(elsewhere.stdout).toContain('is unknown: there is no stream SMALL');
    expect(elsewhere.code).toBe(0);
    await streams.delete('ANOTHER');
    await owner.close();
  });

  it('says that it is unknown where the stream may not be asked, or others publish there', async () => {
    const user = '{ user: a, password: a, permissions: { publish: [ "metrics.>" ] } }';
    const server = await startNats({ extra: `authorization { users: [ ${user} ] }` });
    const env = { NATS_URL: server.url, NATS_USER: 'a', NATS_PASSWORD: 'a' };
    const forbidden = await load(['--count', '20', '--json'], env);
    expect(forbidden).toMatchObject({ code: 0, stderr: '' });
    const { not_stored, not_stored_unknown } = JSON.parse(forbidden.stdout);
    expect(not_stored).toBeNull();
    expect(not_stored_unknown).toMatch(/^looking up the stream METRICS: /);
    await server.stop();
    const other = await load(['--count', '20', '--subject', 'other'], {});
    expect(other.stdout).toContain('no stream captures other: none of them was stored');
    expect(other.code).toBe(1);
    const asJson = await load(['--count', '20', '--subject', 'other', '--json'], {});
    const none = { not_stored: 20, not_stored_unknown: null, not_stored_because: 'no stream captures other' };
    expect(JSON.parse(asJson.stdout)).toMatchObject(none);
    // Streams of other domains capture what comes through a leaf node.
    const leaf = await startNats({ domain: 'leaf' });
    const onLeaf = await load(['--count', '20'], { NATS_URL: leaf.url });
    expect(onLeaf.stdout).toContain('is unknown: there is no stream METRICS');
    expect(onLeaf.code).toBe(0);
    await leaf.stop();
    const mapped = await startNats({ extra: 'mappings = { "metrics.a": "metrics.b" }' });
    const onMapped = { NATS_URL: mapped.url };
    await load(['--count', '1', '--truth', join(folder.path, 'mapped.jsonl')], onMapped);
    const elsewhere = await load(['--count', '20', '--subject', 'metrics.a'], onMapped);
    expect(elsewhere.stdout).toContain('is unknown: what the stream got has other subjects');
    await mapped.stop();
    const core = await load(['--count', '20'], { METRICS_SOURCE: 'core' });
    expect(core.stdout).toContain('is unknown: there is no stream to ask');
    const before = await held();
    const { child, ended } = start(['--rate', '500']);
    await untilHeld(before + 50);
    await load(['--count', '50', '--rate', '0']);
    child.kill('SIGINT');
    expect((await ended).stdout).toContain('is unknown: the stream got more on that subject than was sent');
  });

  it('with --acks, knows of every message what the stream did with it', async () => {
    const env = { METRICS_STREAM: 'ACKED', METRICS_SUBJECTS: 'acked' };
    const owner = await connect({ servers: nats.url });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    const config = { name: 'ACKED', subjects: ['acked'], max_msgs: 500, discard: DiscardPolicy.New };
    await streams.add(config);
    const args = ['--subject', 'acked', '--count', '300', '--rate', '0', '--acks'];
    const all = await load([...args, '--json'], env);
    expect(all).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(all.stdout)).toMatchObject({
      messages: 300,
      not_stored: 0,
      acks: { acknowledged: 300, refused: 0, unanswered: 0, refusal: null },
    });
    const some = await load([...args, '--truth', join(folder.path, 'acked.jsonl'), '--json'], env);
    expect(some).toMatchObject({ code: 1, stderr: '' });
    expect(JSON.parse(some.stdout)).toMatchObject({
      not_stored: 100,
      acks: { acknowledged: 200, refused: 100, unanswered: 0, refusal: 'maximum messages exceeded' },
    });
    expect((await load(args, env)).stdout).toContain(
      'acknowledged: 0, refused: 300 (maximum messages exceeded), without an answer: 0',
    );
    await streams.delete('ACKED');
    await owner.close();
  });

  it('with --acks, need not ask a stream that it may not ask', async () => {
    const user = '{ user: a, password: a, permissions: { publish: [ "metrics.>" ] } }';
    const server = await startNats({
      extra: `authorization { users: [ { user: s, password: s }, ${user} ] }`,
    });
    const owner = await connect({ servers: server.url, user: 's', pass: 's' });
    const { streams } = await owner.jetstreamManager({ timeout: LIMIT_MS });
    await streams.add({ name: 'METRICS', subjects: ['metrics.>'] });
    const env = { NATS_URL: server.url, NATS_USER: 'a', NATS_PASSWORD: 'a' };
    const acked = await load(['--count', '20', '--acks', '--json'], env);
    expect(acked).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(acked.stdout)).toMatchObject({ not_stored: 0, acks: { acknowledged: 20 } });
    expect((await streams.info('METRICS')).state.messages).toBe(20);
    // Nobody acknowledges it.
    await streams.delete('METRICS');
    const gone = await load(['--count', '20', '--acks', '--json'], env);
    expect(gone.code).toBe(0);
    const { not_stored, acks } = JSON.parse(gone.stdout);
    expect(not_stored).toBeNull();
    expect(acks).toMatchObject({ acknowledged: 0, refused: 0, unanswered: 20 });
    await owner.close();
    await server.stop();
  });

  it('with --acks, loses nothing to a server that drops what comes too fast', async (context) => {
    needsNats(context, '2.11');
    const server = await startNats({ jetstreamExtra: 'max_buffered_msgs: 500' });
    const env = { NATS_URL: server.url };
    const burst = ['--count', '20000', '--rate', '0', '--json'];
    // It makes the stream.
    await load([...burst, '--truth', join(folder.path, 'first.jsonl')], env);
    const acked = await load([...burst, '--acks'], env);
    expect(acked).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(acked.stdout)).toMatchObject({
      messages: 20_000,
      not_stored: 0,
      acks: { acknowledged: 20_000, refused: 0, unanswered: 0 },
    });
    await server.stop();
  });

  it('writes the truth about what it sent, as the stream holds it', async () => {
    const file = join(folder.path, 'truth.jsonl');
    const args = ['--rate', '0', '--count', '20000', '--series', '200', '--late', '0.1', '--ahead', '0.05'];
    const run = await load([...args, '--truth', file, '--json'], { WINDOW: '200ms', LATENESS: '100ms' });
    expect(run.stderr).toBe('');
    expect(run.code).toBe(0);
    const result = JSON.parse(run.stdout);
    expect(result).toMatchObject({ messages: 20_000, unconfirmed: 0 });
    expect(result.truth).toMatchObject({ messages: 20_000, rejected: 0, differences: [] });
    expect(result.truth.late).toBeGreaterThanOrEqual(result.late);
    expect(result.truth.ahead).toBeGreaterThan(0);
    expect(result.truth.ahead).toBeLessThanOrEqual(result.ahead);
    const rows = await rowsOf(file);
    expect(total(rows)).toBe(20_000);
    expect(total(rows, 'counter')).toBe(result.types.counter.samples);
    expect(new Set(rows.map(({ windowStart }) => windowStart! % 200))).toEqual(new Set([0]));
    const keys = rows.map(({ windowStart, series }) => `${windowStart} ${series.id}`);
    expect(keys).toEqual(keys.toSorted());
  });

  it('starts where the stream ends, and reads only its own subject', async () => {
    const file = join(folder.path, 'second.jsonl');
    const common = ['--rate', '0', '--late', '0'];
    const other = load([...common, '--count', '3000', '--subject', 'metrics.other', '--seed', '2']);
    const run = await load([...common, '--count', '500', '--truth', file]);
    await other;
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toContain('the stream holds 500 messages');
    expect(total(await rowsOf(file))).toBe(500);
  });

  it('stops on Ctrl-C, with the truth about what it sent so far', async () => {
    const file = join(folder.path, 'stopped.jsonl');
    const before = await held();
    const { child, ended } = start(['--rate', '500', '--truth', file, '--json']);
    await untilHeld(before + 100);
    child.kill('SIGINT');
    const run = await ended;
    expect(run.code).toBe(0);
    expect(['', 'metrics-fanout: stopping; press Ctrl-C again to end at once\n']).toContain(run.stderr);
    const { messages } = JSON.parse(run.stdout);
    expect(messages).toBeGreaterThan(50);
    expect(total(await rowsOf(file))).toBe(messages);
  });

  it('keeps to the duration and to the rate', async () => {
    const run = await load(['--rate', '1000', '--duration', '1s', '--json']);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const { messages, elapsed_ms } = JSON.parse(run.stdout);
    expect(elapsed_ms).toBeGreaterThanOrEqual(1_000);
    expect(messages).toBeLessThanOrEqual(elapsed_ms + 1);
    expect(messages).toBeGreaterThan(0);
  });

  it('sends the same series and sums for the same seed', async () => {
    const args = ['--rate', '0', '--count', '5000', '--seed', '42', '--json'];
    const [first, second] = [await load(args), await load(args)];
    expect(JSON.parse(first.stdout).types).toEqual(JSON.parse(second.stdout).types);
  });

  it('fails, and says why, if the stream holds something else', async () => {
    const file = join(folder.path, 'disturbed.jsonl');
    const subject = ['--subject', 'metrics.shared', '--rate', '2000'];
    const before = await held();
    const { child, ended } = start([...subject, '--truth', file]);
    await untilHeld(before + 100);
    await load([...subject, '--count', '10', '--seed', '99']);
    child.kill('SIGINT');
    const run = await ended;
    expect(run.code).toBe(1);
    expect(run.stdout).toMatch(
      /the stream does not hold what was sent; \d+ series differ \(0 samples missing, 10 too many\)/,
    );
  });

  it('in core mode, writes totals per series, without windows', async () => {
    const file = join(folder.path, 'core.jsonl');
    const run = await load(['--count', '300', '--rate', '0', '--truth', file], { METRICS_SOURCE: 'core' });
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toContain('in core mode the windows cannot be known');
    const rows = await rowsOf(file);
    expect(total(rows)).toBe(300);
    expect(rows.every(({ windowStart }) => windowStart === null)).toBe(true);
  });

  it('refuses a subject that the stream would not capture', async () => {
    const run = await load([
      '--count',
      '1',
      '--subject',
      'elsewhere',
      '--truth',
      join(folder.path, 'x.jsonl'),
    ]);
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('does not cover elsewhere');
  });

  it('refuses a file that cannot be written, before it sends', async () => {
    const run = await load(['--count', '1', '--truth', join(folder.path, 'missing', 'x.jsonl')]);
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toContain('ENOENT');
  });

  it('fails, and says why, if there is no bus', async () => {
    const run = await load(['--count', '1'], { NATS_URL: 'nats://127.0.0.1:1' });
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toContain('cannot be reached');
  });

  it.each(
    [
      ['--types', 'set:1'],
      ['--types', 'counter:0'],
      ['--late', '1.5'],
      ['--late', '0.9', '--ahead', '0.2'],
      ['--series', '2'],
      ['--series', '1.5'],
      ['--duration', '10'],
      ['--subject', 'metrics.>'],
    ].map((args) => ({ args, shown: args.join(' ') })),
  )('refuses $shown', async ({ args }) => {
    const run = await load(args);
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(/^error: /);
  });

  it('refuses to send what the service would not read', async () => {
    const run = await load(['--count', '1'], { METRICS_FORMAT: 'statsd' });
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toContain('METRICS_FORMAT=statsd');
  });
});

describe('load, when the server goes away', () => {
  async function crash(): Promise<void> {
    await nats.halt('SIGKILL');
    await nats.resume();
  }

  it('goes on when the server is back, and fails only if messages are lost', async () => {
    const before = await held();
    const { child, ended } = start(['--rate', '2000', '--json']);
    await untilHeld(before + 1_500);
    await crash();
    await untilHeld((await held()) + 500);
    child.kill('SIGINT');
    const run = await ended;
    const { messages, disconnects, not_stored: lost } = JSON.parse(run.stdout);
    expect(disconnects).toBeGreaterThanOrEqual(1);
    expect(messages).toBeGreaterThan(1_000);
    expect(lost).toBe(messages - ((await held()) - before));
    expect(run.code).toBe(lost === 0 ? 0 : 1);
  });

  it('with --truth, fails only if messages are lost', async () => {
    const file = join(folder.path, 'crash.jsonl');
    const before = await held();
    const { child, ended } = start(['--rate', '20000', '--json', '--truth', file]);
    await untilHeld(before + 10_000);
    await crash();
    await untilHeld((await held()) + 500);
    child.kill('SIGINT');
    const run = await ended;
    const { messages, truth } = JSON.parse(run.stdout);
    // The differences are listed up to a bound.
    const { missing_samples: missing, differing_series: differing } = truth;
    expect(truth.differences).toHaveLength(Math.min(100, differing));
    expect(missing > 0).toBe(differing > 0);
    expect(total(await rowsOf(file))).toBe(messages - missing);
    expect(run.code).toBe(missing === 0 ? 0 : 1);
  });
});

it('fails if the bus does not permit the subject', async () => {
  const user = '{ user: a, password: a, permissions: { publish: [ "other.>" ] } }';
  const server = await startNats({ jetstream: false, extra: `authorization { users: [ ${user} ] }` });
  const env = { NATS_URL: server.url, NATS_USER: 'a', NATS_PASSWORD: 'a' };
  const refused = await start(['--count', '20', '--rate', '1000', '--json'], env).ended;
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({ messages: 20, refusals: 20 });
  const inWords = await start(['--count', '20', '--rate', '1000'], env).ended;
  expect(inWords.stdout).toContain('the bus denied permission: 20 refusals');
  expect(inWords.stderr).toContain('metrics.load');
  const good = await start(['--count', '20', '--subject', 'other.a'], env).ended;
  expect(good.code).toBe(0);
  await server.stop();
});
