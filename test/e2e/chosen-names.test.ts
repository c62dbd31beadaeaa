/** A sink that gets some names only, and other ones after a restart, beside one that gets all. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { counted as amountOf } from '../../src/base/number-format.ts';
import type { Report } from '../../src/commands/verify-report.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { setBack } from '../faults/set-back.ts';
import { LIMIT_MS } from '../limits.ts';
import { untilFilled, WINDOW_MS, WINDOWS } from './support.ts';

const TICKS = 100;
const TICK_MS = 30;
/** More messages than the reader takes at once: windows are closed in between. */
const FILLERS = 24_000;
const NAMES = ['a.x', 'b.x', 'c.x'];
const FIRST = 'a.*';
const SECOND = 'b.*, c.*';

const folder = temporaryFolder('chosen-names');
const files = { part: join(folder.path, 'part.db'), whole: join(folder.path, 'whole.db') };
let nats: NatsServer;
let client: Awaited<ReturnType<typeof connect>>;
let service: ServiceProgram | undefined;
const stops: (() => void)[] = [];
let url: string;
/** The first window of the second choice. */
let changed: number;

beforeAll(async () => {
  nats = await startNats();
  url = nats.url;
  client = await connect({ servers: nats.url });
});
afterAll(async () => {
  await service?.stop('SIGKILL');
  await client?.close();
  for (const stop of stops) stop();
  await nats?.stop();
  folder.remove();
});

const env = (names: string): Record<string, string> => ({
  ...WINDOWS,
  NATS_URL: url,
  VERIFY_SHARE: '1',
  VERIFY_REPLAY_SHARE: '1',
  VERIFY_DELAY: '100ms',
  PROBE_INTERVAL: '500ms',
  SINK_PART_ENABLED: 'true',
  SINK_PART_KIND: 'sqlite',
  SINK_PART_PATH: files.part,
  SINK_PART_NAMES: names,
  SINK_WHOLE_ENABLED: 'true',
  SINK_WHOLE_KIND: 'sqlite',
  SINK_WHOLE_PATH: files.whole,
});

async function start(names: string): Promise<ServiceProgram> {
  service = await startServiceProgram(env(names));
  return service;
}

async function publish(): Promise<void> {
  for (let tick = 0; tick < TICKS; tick++) {
    for (const name of NAMES) client.publish('metrics', `{"name":"${name}","type":"counter","value":1}`);
    await client.flush();
    await sleep(TICK_MS);
  }
}

function inStore(file: string, sql: string): readonly Record<string, unknown>[] {
  const database = new DatabaseSync(file, { timeout: LIMIT_MS });
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

const rowsOf = (file: string, where = 'true') =>
  inStore(
    file,
    `SELECT window_start, name, count, sum FROM points WHERE ${where} ORDER BY window_start, name`,
  );
const isPart = () => `name LIKE 'a.%' = (window_start < ${changed})`;

async function verified(args: readonly string[]) {
  const program = startProgram(['verify', '--json', ...args], env(SECOND));
  const code = await program.ended;
  const report: Report = JSON.parse(program.output.stdout);
  return { code, stderr: program.output.stderr, report };
}

async function verifyPart() {
  const { code, report } = await verified(['--sink', 'part']);
  return { code, ...report.sinks[0]! };
}

test('each window has what was chosen when it was first written, whatever is chosen since', async () => {
  const first = await start(FIRST);
  await publish();
  await first.untilConfirmed(Date.now());
  expect((await first.status()).sinks.map(({ id, names }) => [id, names])).toEqual([
    ['part', [FIRST]],
    ['whole', null],
  ]);
  // Both are asked about what both get.
  const asked = async ({ status }: ServiceProgram) =>
    (await status()).sinks.map(({ queries: { sums, windows, notAsked } }) =>
      notAsked === null ? [sums?.question.split(' ')[2], sums?.rows, windows?.rows === 0] : 'not asked',
    );
  const both = ['a.x', 1, false];
  await expect.poll(() => asked(first), { timeout: LIMIT_MS }).toEqual([both, both]);
  await first.stop();
  const list = startProgram(['checkpoint', 'list', '--sink', 'part', '--json'], env(FIRST));
  await list.ended;
  const [stored] = JSON.parse(list.output.stdout).checkpoints;
  expect(stored.choices).toEqual([{ from: stored.began, names: [FIRST] }]);
  changed = Date.parse(stored.next);

  const second = await start(SECOND);
  await publish();
  await second.untilConfirmed(Date.now());
  const written = rowsOf(files.part);
  expect(written).toEqual(rowsOf(files.whole, isPart()));
  expect(new Set(written.map(({ name }) => name))).toEqual(new Set(NAMES));

  for (const { id, verified } of (await second.status()).sinks)
    expect([id, verified.different, verified.lastDifference]).toEqual([id, 0, null]);
  // In the last hour, it got each name for a part of the time.
  const other = [expect.stringMatching(/^[abc]\.x$/), 1, false];
  await expect.poll(() => asked(second), { timeout: LIMIT_MS }).toEqual(['not asked', other]);
  await second.stop();
});

test('a store that was lost gets of each window what it had', async () => {
  const before = rowsOf(files.part);
  rmSync(files.part);
  const third = await start(SECOND);
  await untilFilled(third, 'part');
  await third.untilConfirmed(Date.now());
  await third.stop();
  expect(rowsOf(files.part)).toEqual(before);
});

test('a row that the sink was given is missed, and one that it was not given is not', async () => {
  const before = await verifyPart();
  expect(before).toMatchObject({ code: 0, rows: { missing: 0, extra: 0, notChosen: 0 } });
  expect(before.remarks.join()).toContain(
    `since ${new Date(changed).toISOString()} it gets only names that b.*, c.*`,
  );
  for (const name of ['a.x', 'b.x']) {
    const [last] = inStore(files.part, `SELECT max(window_start) AS at FROM points WHERE name = '${name}'`);
    const at = Number(last!.at);
    inStore(files.part, `DELETE FROM points WHERE name = '${name}' AND window_start = ${at}`);
    const { code, rows, examples } = await verifyPart();
    expect({ code, ...rows }).toMatchObject({ code: 1, missing: 1, extra: 0, different: 0 });
    expect(examples).toMatchObject([{ kind: 'missing', name }]);
    const range = ['--from', new Date(at).toISOString(), '--to', new Date(at + WINDOW_MS).toISOString()];
    // By the setting that was in force then, whatever it says now.
    const replay = startProgram(['replay', '--sink', 'part', ...range], env(''));
    expect(await replay.ended, replay.output.stderr).toBe(0);
    expect(await verifyPart()).toMatchObject({ code: 0, rows: { notChosen: 0 } });
  }
});

test('a row of a name that it was not given is counted, and left alone', async () => {
  const database = new DatabaseSync(files.part);
  database.exec(`ATTACH '${files.whole}' AS whole`);
  const { changes } = database
    .prepare(`INSERT INTO points SELECT * FROM whole.points WHERE name = 'b.x' AND window_start < ${changed}`)
    .run();
  database.close();
  expect(Number(changes)).toBeGreaterThan(0);
  const { code, rows, remarks } = await verifyPart();
  expect({ code, ...rows }).toMatchObject({ code: 0, missing: 0, extra: 0, notChosen: Number(changes) });
  expect(remarks.join()).toContain(
    amountOf(
      Number(changes),
      'row of names that it was not given is',
      'rows of names that it was not given are',
    ),
  );
});

test('late samples reopen windows on both sides of the change: each still has what was chosen for it', async () => {
  // Not those that were put there by hand.
  const before = rowsOf(files.part, isPart());
  for (let i = 0; i < FILLERS; i++) client.publish('metrics', 'not a metric');
  await client.flush();
  const last = (await (await client.jetstreamManager()).streams.info('METRICS')).state.last_seq;
  // The server's clock was set back. (A service would also notice that the stream itself has other times.)
  const proxy = await setBack(new URL(nats.url), last, Date.now() - changed + (TICKS * TICK_MS) / 2);
  stops.push(proxy.stop);
  url = proxy.url;
  await publish();
  for (const sink of ['part', 'whole']) {
    const range = ['--from', new Date(Number(before[0]!.window_start)).toISOString()];
    const replay = startProgram(['replay', '--sink', sink, ...range], env(''));
    expect(await replay.ended, replay.output.stderr).toBe(0);
  }
  const after = rowsOf(files.part, isPart());
  expect(after).toEqual(rowsOf(files.whole, isPart()));
  const more = after.filter(({ count }, i) => count !== before[i]?.count);
  expect(more.some(({ window_start: at }) => Number(at) < changed)).toBe(true);
  expect(more.some(({ window_start: at }) => Number(at) >= changed)).toBe(true);
});
