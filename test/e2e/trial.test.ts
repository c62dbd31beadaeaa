/** A trial with real stores: what it finds, what it leaves behind, and what it does not touch. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type Postgres, startPostgres } from '../../src/servers/postgres.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { FORMAT, type StoreResult, type TrialResult } from '../../src/trial/result.ts';
import { connect } from '../bus-client.ts';
import { LIMIT_MS } from '../limits.ts';
import { sendTraffic, WINDOWS } from './support.ts';

/** Spoils the counters of every table that is made in the database, as somebody might by hand. */
const SPOIL = `
CREATE FUNCTION spoil_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.type = 'counter' THEN NEW.sum := NEW.sum + 1; END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION spoil_table() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
  FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
    EXECUTE format('CREATE TRIGGER spoil BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION spoil_row()', made.object_identity);
  END LOOP;
END $$;
CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil_table()`;

const LIVE_ROWS = "CREATE TABLE fanout_points AS SELECT 'live' AS name, n FROM generate_series(1, 1000) AS n";
const LIVE_SUM = 'SELECT count(*) AS rows, sum(hashtext(row::text)) AS hash FROM fanout_points AS row';
const TRIAL_TABLES = "SELECT relname FROM pg_class WHERE relname LIKE 'trial%'";

const ALL_NAMES = 'SINK_NOTHING_NAMES is left out of account: it is tried with all names';

let nats: NatsServer;
let postgres: Postgres;
let env: Record<string, string>;
const folder = temporaryFolder('trial');
const live = join(folder.path, 'fanout.db');

beforeAll(async () => {
  [nats, postgres] = await Promise.all([startNats(), startPostgres()]);
  const url = await postgres.createDatabase('fanout');
  const wrong = await postgres.createDatabase('wrong');
  await postgres.execute(SPOIL, 'wrong');
  await postgres.execute(LIVE_ROWS, 'fanout');
  writeFileSync(live, 'the live file');
  writeFileSync(join(folder.path, 'half.json'), JSON.stringify({ format: FORMAT, stores: [{}] }));
  env = {
    ...WINDOWS,
    NATS_URL: nats.url,
    SINK_SQLITE_ENABLED: 'true',
    SINK_SQLITE_PATH: live,
    SINK_POSTGRES_ENABLED: 'true',
    SINK_POSTGRES_URL: url,
    SINK_POSTGRES_PRICE_MONTH: '73',
    SINK_WRONG_ENABLED: 'true',
    SINK_WRONG_KIND: 'postgres',
    SINK_WRONG_URL: wrong,
    SINK_NOTHING_ENABLED: 'true',
    SINK_NOTHING_KIND: 'blackhole',
    SINK_NOTHING_NAMES: 'none.*',
  };
  await sendTraffic({ nats, folder: folder.path }, ['--duration', '3s', '--rate', '1000', '--series', '60']);
});
afterAll(async () => {
  await postgres?.stop();
  await nats?.stop();
  folder.remove();
});

async function trial(...args: string[]) {
  const inFolder = args.map((arg) => (arg === 'half.json' ? join(folder.path, arg) : arg));
  const program = startProgram(['trial', ...inFolder], env);
  const code = await program.ended;
  return { code, ...program.output };
}

async function trialTables(): Promise<string[]> {
  const found = await Promise.all(['fanout', 'wrong'].map((name) => postgres.execute(TRIAL_TABLES, name)));
  const files = readdirSync(folder.path).filter((name) => name.startsWith('trial_'));
  return [...found.flatMap(({ rows }) => rows.map(({ relname }) => String(relname))), ...files];
}

async function liveState(): Promise<unknown> {
  return [(await postgres.execute(LIVE_SUM, 'fanout')).rows, readFileSync(live, 'utf8')];
}

async function busState(): Promise<unknown> {
  const connection = await connect({ servers: nats.url });
  try {
    const jsm = await connection.jetstreamManager();
    const streams = [];
    for await (const { config, state } of jsm.streams.list())
      streams.push([config.name, state.messages, state.consumer_count]);
    return streams.sort();
  } finally {
    await connection.close();
  }
}

test('finds the truth, names the store that was made wrong by hand, and leaves nothing behind', async () => {
  const before = [await liveState(), await busState()];
  const report = join(folder.path, 'report.html');
  const { code, stdout, stderr } = await trial('--json', '--seconds', '0.1', '--report', report);
  const result = JSON.parse(stdout) as TrialResult;
  expect(code, stderr).toBe(1);
  // Before the first stage.
  expect(stderr).toMatch(/The trial takes [^\n]* by the clock \(ingest .*\n(.*\n)*ingest ceiling/);
  const of = (id: string) => result.stores.find((store) => store.id === id)!;
  const asked = (store: StoreResult) => store.questions.map(({ asked }) => asked.kind);

  for (const id of ['sqlite', 'postgres']) {
    const store = of(id);
    expect(store.remarks, id).toEqual([]);
    expect(new Set(asked(store)), JSON.stringify(store.questions)).toEqual(new Set(['equal']));
    // More clients are not let loose on a store that is too slow for fewer: how many are depends on the machine.
    for (const { asked } of store.questions)
      if (asked.kind === 'equal')
        expect([1, 8, 32].slice(0, Math.max(1, asked.hot.length))).toEqual(
          asked.hot.map(({ clients }) => clients),
        );
    expect(store.proof).toMatchObject({ equal: result.traffic.points, missing: 0, extra: 0, different: 0 });
    expect(store.room).toMatchObject({ rows: result.traffic.points });
    expect(store.room!.bytesPerRow).toBeGreaterThan(10);
    expect(store.freshness).toMatchObject({ missed: 0 });
    expect(store.ingest!.ceiling).toBeGreaterThan(0);
    expect(store.backfill!.hourSeconds).toBeGreaterThan(0);
  }
  expect(of('postgres').money).toMatchObject({ usdPerMonth: 73 });
  expect(of('postgres').version).toMatch(/^PostgreSQL \d/);

  const wrong = of('wrong');
  const sums = wrong.questions.filter(({ id }) => id !== 'highest-p99' && id !== 'live-series');
  expect(sums.length).toBeGreaterThan(5);
  for (const { asked } of sums) {
    expect(asked.kind).toBe('different');
    expect(JSON.stringify(asked)).not.toMatch(/cold|hot|p50/);
  }
  expect(wrong.questions.find(({ id }) => id === 'live-series')!.asked.kind).toBe('equal');
  expect(wrong.proof).toMatchObject({ missing: 0, extra: 0 });
  expect(wrong.proof!.different).toBeGreaterThan(0);
  expect(new Set(asked(of('nothing')))).toEqual(new Set(['not_asked']));
  expect(of('nothing').proof).toBeNull();
  expect(of('nothing').remarks).toContain(ALL_NAMES);
  // Said once, and not beside each question.
  const mute = 'this kind of sink answers no questions';
  expect(of('nothing').remarks).toContain(`not asked: ${mute}`);
  expect(of('nothing').remarks.join()).not.toContain('left in the store');
  expect([of('nothing').isReadable, of('sqlite').isReadable]).toEqual([false, true]);

  const html = readFileSync(report, 'utf8');
  expect(html).toContain(`nothing: ${ALL_NAMES}.`);
  expect(html.split(mute)).toHaveLength(2);
  expect(html).toContain(`wrong answers ${sums.length} questions wrongly`);
  expect(html + stdout + stderr).not.toContain(postgres.password);
  expect(await trialTables()).toEqual([]);
  expect([await liveState(), await busState()]).toEqual(before);

  const file = join(folder.path, 'trial.json');
  writeFileSync(file, stdout);
  const same = await trial('diff', file, file);
  // Too few rounds in that time: nothing was compared, which is not the same as nothing changed.
  expect(same.stdout).toContain('no figure that both trials measured often enough');
  expect(same.code).toBe(1);
});

test('says in its text too that a store is tried with all names, whatever it gets in the service', async () => {
  const { stdout } = await trial('--seconds', '0.1', '--sinks', 'nothing', '--without', 'ingest');
  expect(stdout).toContain(`nothing: ${ALL_NAMES}.`);
});

test('fills its tables without the stage backfill only if something else needs the rows, and says what it does', async () => {
  const args = ['--seconds', '0.1', '--sinks', 'nothing'];
  const asked = await trial(...args, '--without', 'ingest,backfill,freshness,room,proof');
  expect(asked.stderr).toContain('filling the tables ...');
  const priced = await trial(...args, '--without', 'ingest,backfill,questions,freshness,room,proof');
  expect(priced.stderr).not.toContain('filling the tables');
  for (const { stderr } of [asked, priced]) expect(stderr).not.toContain('backfill ...');
});

test('of one window, nothing is held back for freshness, and nothing is said that was not measured', async () => {
  const args = ['--seconds', '0.1', '--sinks', 'sqlite', '--json'];
  const { stdout } = await trial(...args, '--memory', '1B', '--without', 'ingest,questions,money');
  const { stores, traffic } = JSON.parse(stdout) as TrialResult;
  expect(traffic.windows).toBe(1);
  const [{ backfill, freshness, remarks }] = stores as [StoreResult];
  expect(backfill!.points).toBe(traffic.points);
  expect([freshness, remarks]).toEqual([null, ['freshness: one window is too few']]);
});

test('a file that cannot be written or read is told before the work', async () => {
  const lost = join(folder.path, 'nowhere/report.html');
  for (const args of [
    ['--report', lost],
    ['--report', folder.path],
    ['--report', ''],
    ['--report', `${live}/report.html`],
    ['--report', join(folder.path, 'new/')],
    ['diff', lost, 'half.json'],
    ['diff', folder.path, 'half.json'],
  ]) {
    const { code, stdout, stderr } = await trial(...args);
    expect([code, stdout], stderr).toEqual([1, '']);
    expect(stderr).toMatch(
      /^error: .*(ENOENT: .*nowhere|is a folder|is no folder|is no name of a file|EISDIR).*\. Give /,
    );
    expect(stderr).not.toContain('reading the stream');
  }
});

test('the report is there, even if nobody reads the output to its end', async () => {
  const report = join(folder.path, 'unread.html');
  const args = [
    '--seconds',
    '0.1',
    '--sinks',
    'nothing',
    '--json',
    '--without',
    'ingest',
    '--report',
    report,
  ];
  const program = startProgram(['trial', ...args], env);
  program.child.stdout!.destroy();
  await program.ended;
  expect(readFileSync(report, 'utf8')).toContain('<html');
});

test('deletes its tables when it is stopped', async () => {
  const args = ['trial', '--json', '--seconds', '60', '--sinks', 'postgres,sqlite', '--without', 'ingest'];
  const program = startProgram(args, env);
  await expect.poll(async () => (await trialTables()).length, { timeout: LIMIT_MS }).toBeGreaterThan(1);
  await expect.poll(() => program.output.stderr, { timeout: LIMIT_MS }).toContain('questions ...');
  program.child.kill('SIGINT');
  expect(await program.ended, program.output.stderr).toBe(130);
  const result = JSON.parse(program.output.stdout) as TrialResult;
  expect(result).toMatchObject({ complete: false, without: ['ingest'] });
  expect(result.stores.map(({ ingest }) => ingest)).toEqual([null, null]);
  expect(await trialTables()).toEqual([]);
});

test('what a killed trial leaves is found and deleted, and nothing else', async () => {
  const args = ['trial', '--json', '--seconds', '60', '--sinks', 'postgres,sqlite', '--without', 'ingest'];
  const program = startProgram(args, env);
  await expect.poll(async () => (await trialTables()).length, { timeout: LIMIT_MS }).toBeGreaterThan(1);
  await expect.poll(() => program.output.stderr, { timeout: LIMIT_MS }).toContain('questions ...');
  program.child.kill('SIGKILL');
  await program.ended;
  await postgres.execute('CREATE TABLE trial_261130101010123456 (mine int)', 'fanout');
  writeFileSync(join(folder.path, 'trial_mine.db'), 'mine');
  const before = await liveState();
  const left = (await trialTables()).filter((name) => !/-(wal|shm)$/.test(name));
  const clean = async (...more: string[]) => {
    const { code, stdout } = await trial('clean', '--sinks', 'postgres,sqlite,nothing', ...more);
    return { code, stdout };
  };
  const young = await clean();
  expect(young.stdout.match(/left alone/g)).toHaveLength(2);
  // A kind that keeps nothing has nothing to list; of one that cannot list, nobody knows, and that is not well.
  expect([young.code, young.stdout]).toEqual([0, expect.not.stringContaining('nobody knows')]);
  const lake = {
    SINK_LAKE_ENABLED: 'true',
    SINK_LAKE_KIND: 'parquet',
    SINK_LAKE_URL: `file://${folder.path}/lake`,
  };
  const unlisted = startProgram(['trial', 'clean', '--sinks', 'postgres,lake'], { ...env, ...lake });
  expect([await unlisted.ended, unlisted.output.stdout]).toEqual([
    1,
    expect.stringContaining('lake: nobody knows'),
  ]);
  const old = JSON.parse((await clean('--older', '1ms', '--json')).stdout);
  expect(old.tables.map(({ fate }: { fate: string }) => fate)).toEqual(['found', 'found']);
  expect((await trialTables()).filter((name) => !/-(wal|shm)$/.test(name))).toEqual(left);
  const done = await trial('clean', '--sinks', 'postgres,sqlite', '--older', '1ms', '--yes', '--json');
  expect(JSON.parse(done.stdout)).toMatchObject({
    tables: [
      { sink: 'postgres', fate: 'deleted' },
      { sink: 'sqlite', fate: 'deleted' },
    ],
    unknown: [],
  });
  expect(done.code).toBe(0);
  expect(await trialTables()).toEqual(['trial_261130101010123456', 'trial_mine.db']);
  expect(await liveState()).toEqual(before);
  await postgres.execute('DROP TABLE trial_261130101010123456', 'fanout');
});

test.each([
  [['--sinks', 'nope'], 'no sink nope is enabled'],
  [['diff', 'half.json', 'half.json'], 'is not the whole of a trial'],
])('%j is an error that says what to do', async (args, message) => {
  const { code, stderr } = await trial(...args);
  expect([code, stderr]).toEqual([1, expect.stringContaining(message)]);
});
