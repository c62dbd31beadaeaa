/** A sink that gets some names only, and other ones after a restart, beside one that gets all. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { connect } from '../bus-client.ts';
import { setBack } from '../faults/set-back.ts';
import { LIMIT_MS } from '../limits.ts';
import { verifyConfirmed, WINDOW_MS, WINDOWS } from './support.ts';

const TICKS = 100;
const TICK_MS = 30;
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

async function verifyPart() {
  const { code, report } = await verifyConfirmed(['--sink', 'part'], env(SECOND));
  return { code, ...report!.sinks[0]! };
}

/** Windows that were reopened are written again some time after the others. */
async function untilVerified(): Promise<void> {
  for (const deadline = Date.now() + LIMIT_MS; ; ) {
    const { code, stderr, report } = await verifyConfirmed([], env(SECOND));
    if (code === 0) return;
    if (Date.now() > deadline) throw new Error(`${stderr} ${JSON.stringify(report)}`);
  }
}

test('each window has what was chosen when it was first written, also if it is written again later', async () => {
  const first = await start(FIRST);
  await publish();
  await first.untilConfirmed(Date.now());
  expect((await first.status()).sinks.map(({ id, names }) => [id, names])).toEqual([
    ['part', [FIRST]],
    ['whole', null],
  ]);
  await first.stop();
  const list = startProgram(['checkpoint', 'list', '--sink', 'part', '--json'], env(FIRST));
  await list.ended;
  const [stored] = JSON.parse(list.output.stdout).checkpoints;
  expect(stored.choices).toEqual([{ from: stored.began, names: [FIRST] }]);
  changed = Date.parse(stored.next);

  const second = await start(SECOND);
  await publish();
  await second.untilConfirmed(Date.now());
  await second.stop();
  const written = rowsOf(files.part);
  expect(written).toEqual(rowsOf(files.whole, isPart()));
  expect(new Set(written.map(({ name }) => name))).toEqual(new Set(NAMES));

  // The server's clock was set back: what comes now is of windows on both sides of the change.
  const last = (await (await client.jetstreamManager()).streams.info('METRICS')).state.last_seq;
  const proxy = await setBack(new URL(nats.url), last, Date.now() - changed + (TICKS * TICK_MS) / 2);
  stops.push(proxy.stop);
  url = proxy.url;
  const third = await start(SECOND);
  await publish();
  await untilVerified();
  const rewritten = rowsOf(files.part);
  expect(rewritten).toEqual(rowsOf(files.whole, isPart()));
  const more = rewritten.filter(({ count }, i) => count !== written[i]?.count);
  expect(more.some(({ window_start: at }) => Number(at) < changed)).toBe(true);
  expect(more.some(({ window_start: at }) => Number(at) >= changed)).toBe(true);
  for (const { id, verified } of (await third.status()).sinks)
    expect([id, verified.different, verified.lastDifference]).toEqual([id, 0, null]);
  await third.stop();
}, 600_000);

test('a row that the sink was given is missed, and one that it was not given is not', async () => {
  const before = await verifyPart();
  expect(before).toMatchObject({ code: 0, rows: { missing: 0, extra: 0, notChosen: 0 } });
  expect(before.remarks.join()).toContain(
    `since ${new Date(changed).toISOString()} it gets only names that b.*, c.*`,
  );
  for (const [name, at] of [
    ['a.x', changed - WINDOW_MS],
    ['b.x', changed],
  ] as const) {
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
  expect(remarks.join()).toContain(`${changes} rows of names that it was not given`);
});
