import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SinkStatus } from '../../src/observe/status.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { freePort } from '../../src/servers/server-process.ts';
import { type ServiceProgram, startServiceProgram } from '../../src/servers/service-program.ts';
import { type Stack, startStack } from '../../src/servers/stack.ts';
import { endOf, sendTraffic, WINDOWS } from '../e2e/support.ts';
import { FaultProxy } from '../faults/proxy.ts';

/** More than a write takes on the busiest machine. */
const ADDED_MS = 1_000;
const TRAFFIC = ['--duration', '8s', '--rate', '500', '--series', '30'];
const KINDS = ['dynamodb', 'influxdb', 'redshift', 'sqlite'];

let stack: Stack;
let proxy: FaultProxy;
let env: Record<string, string>;
beforeAll(async () => {
  stack = await startStack();
  proxy = await FaultProxy.start(stack.influxdb.port);
  env = {
    ...stack.env,
    ...WINDOWS,
    PROBE_INTERVAL: '2s',
    SINK_INFLUXDB_URL: `http://127.0.0.1:${proxy.port}`,
    SINK_REDSHIFT_PRICE_MONTH: '180',
  };
});
afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

function compare(...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return compareWith({}, ...args);
}

async function compareWith(settings: Readonly<Record<string, string>>, ...args: string[]) {
  const program = startProgram(['compare', ...args], settings);
  return { code: await program.ended, ...program.output };
}

/** A service that had traffic for some seconds, and what `compare` then says about its sinks. */
async function measured(
  pipeline: string,
): Promise<{ service: ServiceProgram; sinks: Map<string, SinkStatus> }> {
  const service = await startServiceProgram({ ...env, PIPELINE: pipeline, METRICS_START: 'now' });
  const truth = await sendTraffic(stack, TRAFFIC);
  await service.untilConfirmed(endOf(truth));
  const unasked = async () =>
    (await service.status()).sinks.filter(({ queries }) => !queries.windows?.seconds).length;
  await expect.poll(unasked).toBe(0);
  const { code, stdout } = await compare('--url', service.url, '--json');
  expect(code).toBe(0);
  const { services } = JSON.parse(stdout) as { services: { sinks: SinkStatus[] }[] };
  return { service, sinks: new Map(services[0]!.sinks.map((sink) => [sink.id, sink])) };
}

describe('compare', () => {
  let service: ServiceProgram;
  afterAll(async () => void (await service?.stop('SIGKILL')));

  test('a delay in front of one store shows in its column, and in no other', async () => {
    const before = await measured('before');
    await before.service.stop();
    proxy.delay(ADDED_MS);
    const after = await measured('after');
    service = after.service;
    const p50 = ({ sinks }: typeof after, kind: string) => 1000 * sinks.get(kind)!.writeSeconds!.p50;
    // A busy machine delays every store. What is added to one comes on top.
    expect(p50(after, 'influxdb')).toBeGreaterThan(ADDED_MS * 0.95);
    expect(p50(after, 'influxdb')).toBeGreaterThan(p50(before, 'influxdb'));
    for (const kind of KINDS.filter((each) => each !== 'influxdb'))
      expect(p50(after, kind), kind).toBeLessThan(p50(after, 'influxdb'));
    expect([...after.sinks.values()].map(({ retries }) => Object.keys(retries))).toEqual([[], [], [], []]);
    const query = (kind: string) => after.sinks.get(kind)!.queries.windows!.seconds!;
    expect(query('influxdb')).toBeGreaterThan((ADDED_MS * 0.95) / 1000);
    expect(query('sqlite')).toBeLessThan(query('influxdb'));
  });

  test('agrees with what the stores say about themselves', async () => {
    const { sinks } = await service.status();
    const path = env.SINK_SQLITE_PATH!;
    const database = new DatabaseSync(path, { readOnly: true });
    const { rows } = database.prepare('SELECT count(*) AS rows FROM points').get() as { rows: number };
    database.close();
    const sqlite = sinks.find(({ id }) => id === 'sqlite')!;
    // The first service wrote about as many, of other windows.
    expect(rows).toBeGreaterThan(sqlite.written);
    // The file grows meanwhile, by a receipt too: both are read until they are of about the same moment.
    const difference = async () => {
      const { storedBytes } = (await service.status()).sinks.find(({ id }) => id === 'sqlite')!;
      const wal = statSync(`${path}-wal`, { throwIfNoEntry: false });
      return storedBytes! - (statSync(path).size + (wal?.size ?? 0));
    };
    await expect.poll(difference).toBe(0);
    // The emulator of DynamoDB does not count what it stores.
    const sizes = sinks.filter(({ id }) => id !== 'dynamodb').map(({ storedBytes }) => storedBytes);
    for (const bytes of sizes) expect(bytes).toBeGreaterThan(10_000);
    // The table grows meanwhile: both are read until they are of about the same moment.
    const ratio = async () => {
      const { rows: found } = await stack.postgres.execute(
        "SELECT pg_total_relation_size('fanout_points') AS bytes",
        'fanout',
      );
      const redshift = (await service.status()).sinks.find(({ id }) => id === 'redshift')!;
      return Number(found[0].bytes) / redshift.storedBytes!;
    };
    await expect.poll(ratio).toBeCloseTo(1, 1);
  });

  test('every store answers the same two questions, with the same number of rows', async () => {
    for (const kind of ['sums', 'windows'] as const) {
      const asked = async () => (await service.status()).sinks.map(({ queries }) => queries[kind]!);
      const countsOf = (results: Awaited<ReturnType<typeof asked>>) => results.map(({ rows }) => rows!);
      let results = await asked();
      // They are not asked at the same moment: this waits until they are about level.
      await expect
        .poll(async () => {
          results = await asked();
          const counts = countsOf(results);
          return Math.max(...counts) - Math.min(...counts);
        })
        .toBeLessThanOrEqual(3);
      expect(results.map(({ error }) => error)).toEqual([null, null, null, null]);
      expect(new Set(results.map(({ question }) => question)).size).toBe(1);
      const counts = countsOf(results);
      expect(Math.min(...counts)).toBeGreaterThan(kind === 'sums' ? 0 : 5);
    }
  });

  test('prints a table with a column for each sink, without colours if the output is not a terminal', async () => {
    // With the delay, a receipt takes so long on a busy machine that the store counts as one without.
    proxy.delay(0);
    let printed: Awaited<ReturnType<typeof compare>> | undefined;
    const print = async () => {
      printed = await compare('--url', service.url);
      return printed.stdout;
    };
    // On a busy machine, it says too that samples came late.
    await expect.poll(print).toMatch(/^http:\S+: All 4 sinks are healthy\.( .*)? \S+ messages\/s\.$/m);
    const { code, stdout } = printed!;
    expect(code).toBe(0);
    const lines = stdout.split('\n');
    expect(lines[2]!.trim().split(/\s+/)).toEqual(KINDS);
    const rows = lines.slice(3, lines.indexOf('', 3)).map((line) => line.split(/ {2,}/)[0]);
    for (const row of [
      'state',
      'lag',
      'points',
      'bytes',
      'write p50',
      'write p99',
      'errors',
      'retries',
      'backlog',
    ])
      expect(rows).toContain(row);
    for (const row of ['points rejected', 'verified equal', 'query: sums', 'storage', 'cost per month'])
      expect(rows).toContain(row);
    expect(stdout).toContain('cost of redshift: 180 USD for the instance');
    expect(stdout).toContain('cost of influxdb, sqlite: no price set');
    expect(stdout).toContain('0.625 USD for a million write units');
    expect(stdout).not.toContain('\x1b');
  });

  test('without --url, asks the service of the same environment', async () => {
    const { port } = new URL(service.url);
    const print = () => compareWith({ HTTP_HOST: 'localhost', HTTP_PORT: port });
    await expect.poll(print).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^http://localhost:${port}: All 4 sinks are healthy\\.`)),
    });
    const wrong = await compareWith({ HTTP_PORT: 'many' });
    expect(wrong).toMatchObject({ code: 78, stderr: expect.stringContaining('HTTP_PORT') });
  });

  test('on a terminal, keeps to its width and uses a screen of its own, which Ctrl-C leaves', async () => {
    const main = join(import.meta.dirname, '../../src/main.ts');
    const command = `stty cols 60 rows 50; exec ${process.execPath} --no-warnings ${main} compare --url ${service.url}`;
    const { CI, NO_COLOR, NODE_DISABLE_COLORS, ...env } = process.env;
    const child = spawn('script', ['-qefc', command, '/dev/null'], {
      env: { ...env, TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let shown = '';
    child.stdout.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
    });
    await expect.poll(() => shown.split('All 4 sinks are healthy.').length).toBeGreaterThan(2);
    child.stdin.write('\x03');
    const [code] = await once(child, 'exit');
    expect(code).toBe(130);
    expect(shown.startsWith('\x1b[?1049h')).toBe(true);
    const [live, left] = shown.split('\x1b[?1049l');
    expect(live).toContain('\x1b[32mhealthy');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
    const lines = left!.replace(/\x1b\[\d+m/g, '').split('\r\n');
    expect(lines.filter((line) => line.length > 60)).toEqual([]);
    for (const kind of KINDS) expect(left).toContain(kind);
  });

  test('shows two services side by side; names one that is not there, and exits with 1', async () => {
    const both = await compare('--url', service.url, '--url', `${service.url}/`);
    expect(both.stdout.split('\n')[3]).toContain(`sqlite@${new URL(service.url).host}`);
    const nowhere = `http://127.0.0.1:${await freePort()}`;
    const gone = await compare('--url', nowhere, '--url', service.url);
    expect(gone.code).toBe(1);
    expect(gone.stdout).toContain(`${nowhere}: ECONNREFUSED. Is the service running there?`);
    expect(gone.stdout).toContain('sqlite@');
    expect((await compare('--url', 'ftp://x')).stderr).toContain('Expected a URL such as');
    expect((await compare('--report', 'x.html')).stderr).toContain('--report needs --for');
    const lost = await compare('--for', '10m', '--report', join(stack.folder, 'nowhere/x.html'));
    expect(lost.stderr).toMatch(/ENOENT: .*nowhere.*\. Give the name of a file/);
  });

  test('a report has the figures of the whole time, in one file; Ctrl-C writes what there is so far', async () => {
    const file = join(stack.folder, 'report.html');
    const { code, stdout } = await compare('--url', service.url, '--for', '3s', '--report', file);
    expect(code).toBe(0);
    expect(stdout).toContain('dynamodb');
    const html = readFileSync(file, 'utf8');
    expect(html.length).toBeLessThan(400_000);
    expect(html).not.toMatch(/(?:src|href)="https?:/);
    const [, json] = /<script type="application\/json" id="report">(.*?)<\/script>/.exec(html) ?? [];
    const report = JSON.parse(json!);
    expect(report.charts.times.length).toBeGreaterThanOrEqual(3);
    expect(report.view.comparison.rows.map(({ what }: { what: string }) => what)).toContain(
      'points, overall',
    );

    const cut = join(stack.folder, 'cut.html');
    const between = await FaultProxy.start(Number(new URL(service.url).port));
    const url = `http://127.0.0.1:${between.port}`;
    const program = startProgram(['compare', '--url', url, '--for', '10m', '--report', cut], {});
    // Until it has had two answers.
    for (let looks = 0; looks < 2; looks++) {
      const before = between.passed.response;
      await expect.poll(() => between.passed.response).toBeGreaterThan(before);
    }
    expect(await program.stop('SIGINT')).toBe(130);
    await between.stop();
    expect(readFileSync(cut, 'utf8')).toContain('id="report"');
  });
});
