import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { builtinModules, isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { shippedFromHere } from '../scripts/audit.ts';
import { loadPage } from '../src/observe/page.ts';
import { startNats } from '../src/servers/nats.ts';
import { temporaryFolder } from '../src/servers/server-process.ts';
import { startServiceProgram } from '../src/servers/service-program.ts';
import { connect } from './bus-client.ts';
import { WINDOWS } from './e2e/support.ts';
import { LIMIT_MS, TEST_LIMIT_MS } from './limits.ts';
import { linksOf } from './links.ts';

const root = join(import.meta.dirname, '..');
/**
 * Packed: three fifths are the program, a quarter is docs/. Its dependencies are another 29 MB on the disk. 700 KB were
 * enough before questions on the bus, trials and the chart's many values, 850 KB before rules on names and percentiles
 * that merge, 900 KB before the choice of names by sink, 925 KB before windows of sinks, 960 KB before series took half
 * of the memory, and sinks one thread: what makes it larger has to be worth it.
 */
const MAX_PACKED_BYTES = 965_000;
/** EX_UNAVAILABLE of sysexits.h. */
const EXIT_UNAVAILABLE = 69;

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

const folder = temporaryFolder('package');
const inPackage = join(folder.path, 'package');
let packed: Packed;

beforeAll(() => {
  const report = run('npm', ['pack', '--silent', '--json', '--pack-destination', folder.path]);
  packed = Object.values(JSON.parse(report.slice(report.search(/^[[{]/m))) as Packed[])[0]!;
  run('tar', ['-xzf', join(folder.path, packed.filename), '-C', folder.path]);
  // What npm would install with it, and nothing else of ours.
  const { dependencies, peerDependencies } = JSON.parse(
    readFileSync(join(inPackage, 'package.json'), 'utf8'),
  );
  for (const name of Object.keys({ ...dependencies, ...peerDependencies })) {
    const link = join(inPackage, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), link);
  }
});
afterAll(() => folder.remove());

/** Modules of others that the package's own files load: all but Node.js's. */
function loadedPackages(): string[] {
  const files = packed.files
    .map(({ path }) => path)
    .filter((path) => /^dist\/(src|test)\/(?!observe\/page\/).*\.js$/.test(path));
  const names = files.flatMap((path) =>
    [...readFileSync(join(inPackage, path), 'utf8').matchAll(LOADING)].map(([, module]) => module!),
  );
  return [...new Set(names.map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)![0]))].sort();
}
const LOADING =
  /(?:\bfrom ?|^import ?|\bimport\(|\brequire\(|import\.meta\.url\)\()["'`](?!\.|node:)([\w@][\w@./-]*)["'`]/gm;

test('it loads no package but those that are installed with it', () => {
  const { dependencies, peerDependencies } = JSON.parse(
    readFileSync(join(inPackage, 'package.json'), 'utf8'),
  );
  const installed = Object.keys({ ...dependencies, ...peerDependencies });
  const others = loadedPackages().filter((name) => !builtinModules.includes(name));
  expect(others).toEqual(
    expect.arrayContaining(['nats', 'pg', '@aws-sdk/client-dynamodb', '@influxdata/influxdb-client']),
  );
  // The SDK for S3 asks for one of these if an access point spans regions, which no setting here can name.
  const optional = ['@aws-sdk/signature-v4-crt', '@aws-sdk/signature-v4a'];
  expect(others.filter((name) => ![...installed, ...optional].includes(name))).toEqual([]);
});

/** Of packages that are not installed with it, or have no types, a declaration would be an error to its readers. */
test('its declarations read no types but its own and those of Node.js', () => {
  const files = packed.files.map(({ path }) => path).filter((path) => path.endsWith('.d.ts'));
  expect(files.length).toBeGreaterThan(0);
  const read = files.flatMap((path) => [...readFileSync(join(inPackage, path), 'utf8').matchAll(READING)]);
  expect(read.map(([, module]) => module!).filter((module) => !isBuiltin(module))).toEqual([]);
});
const READING = /\b(?:from|import)\s*\(?\s*['"]([^.'"][^'"]*)['"]/g;

test(
  'a service runs from it: it writes rows, and shows the same dashboard as a clone',
  async () => {
    const nats = await startNats();
    const env = {
      NATS_URL: nats.url,
      ...WINDOWS,
      SINK_SQLITE_ENABLED: 'true',
      SINK_SQLITE_PATH: join(folder.path, 'x.db'),
    };
    const service = await startServiceProgram(env, join(inPackage, 'dist/src/bin.js'));
    try {
      expect(await (await fetch(`${service.url}/`, { headers: { accept: 'text/html' } })).text()).toBe(
        Buffer.from(loadPage().html).toString(),
      );
      const client = await connect({ servers: nats.url });
      const end = Date.now();
      client.publish('metrics.a', '{"name":"a","type":"counter","value":1}');
      await client.drain();
      await service.untilConfirmed(end);
      await expect
        .poll(async () => (await service.status()).sinks[0]?.written, { timeout: LIMIT_MS })
        .toBe(1);
    } finally {
      await service.stop();
      await nats.stop();
    }
  },
  TEST_LIMIT_MS,
);

test('it contains the parts of the AWS SDK that are used, and they find what they share with the installed ones', async () => {
  const parts = packed.files.map(({ path }) => path).filter((path) => /\/(aws|s3)-sdk-[^/]+\.js$/.test(path));
  expect(parts).toHaveLength(2);
  for (const part of parts) {
    const { S3Client } = await import(pathToFileURL(join(inPackage, part)).href);
    expect(await new S3Client({ region: 'eu-north-1' }).config.region()).toBe('eu-north-1');
  }
});

test('it says whose code it contains, and under which licenses', () => {
  const notices = readFileSync(join(inPackage, 'dist/NOTICES'), 'utf8');
  for (const name of ['@aws-sdk/client-s3', 'commander', 'hyparquet', 'pino', 'uplot'])
    expect(notices).toMatch(new RegExp(`^${name} \\d`, 'm'));
  const contained = [...notices.matchAll(/^(\S+) \d+\.\d+\.\d+\S*$/gm)].map(([, name]) => name!);
  const audited = shippedFromHere();
  expect(contained.filter((name) => !audited.has(name))).toEqual([]);
  expect(notices).toContain('Permission is hereby granted');
  expect(notices).toContain('Apache License');
});

test('it contains what is needed and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  expect(paths).toContain('dist/src/bin.js');
  // Threads begin in files that nothing imports.
  expect(paths).toContain('dist/src/deliver/thread/sink-thread.js');
  expect(paths).toContain('dist/src/observe/thread/http-thread.js');
  expect(paths.filter((path) => !/^(dist|docs|helm)\//.test(path)).sort()).toEqual([
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'README.md',
    // A command in the README reads it.
    'examples/nats/metrics-fanout.conf',
    // docs/operations.md links to it.
    'examples/systemd/metrics-fanout.service',
    'package.json',
  ]);
  // No sources and no tests, except the suite that authors of sinks run.
  const odd = paths.filter((path) => path.startsWith('dist/') && !/^dist\/((src|man)\/|NOTICES$)/.test(path));
  expect(odd.filter((path) => !/^dist\/test\/(conformance|faults\/proxy\.)/.test(path))).toEqual([]);
  expect(paths.filter((path) => /(?<!\.d)\.ts$|\.map$|\.test\./.test(path))).toEqual([]);
  expect(packed.size).toBeLessThan(MAX_PACKED_BYTES);
});

test('it contains what its documents link to', () => {
  const documents = packed.files.map(({ path }) => path).filter((path) => path.endsWith('.md'));
  expect(documents).toContain('docs/how-it-works.md');
  const links = documents.flatMap((path) =>
    linksOf(readFileSync(join(inPackage, path), 'utf8')).map((target) => ({
      path,
      to: target.split('#')[0]!,
    })),
  );
  const toFiles = links.filter(({ to }) => to !== '');
  expect(toFiles.length).toBeGreaterThan(20);
  expect(toFiles.filter(({ path, to }) => !existsSync(join(inPackage, dirname(path), to)))).toEqual([]);
});

test('on a Node.js that is too old, its bin says what it needs, and loads nothing before that', () => {
  const old =
    "data:text/javascript,Object.defineProperty(process, 'versions', { value: { node: '20.20.2' } })";
  const bin = join(inPackage, 'dist/src/bin.js');
  const { status, stderr } = spawnSync(process.execPath, ['--import', old, bin], { encoding: 'utf8' });
  expect(stderr).toBe(
    'metrics-fanout: needs Node.js 22.18 or newer; this is 20.20.2\n  npm install node@24, in the same folder, gets one beside this package: npx metrics-fanout uses it, or put node_modules/.bin first on the PATH.\n',
  );
  expect(status).toBe(EXIT_UNAVAILABLE);
  expect(readFileSync(bin, 'utf8')).not.toMatch(/^import |\bawait\b|\?\./m);
  expect(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node).toBe('>=22.18');
});

test('its manual page passes the lint of mandoc', () => {
  const { man } = JSON.parse(readFileSync(join(inPackage, 'package.json'), 'utf8'));
  // npm links manual pages only if they are in a list.
  expect(man).toHaveLength(1);
  const page = join(inPackage, man[0]);
  run('mandoc', ['-T', 'lint', '-W', 'warning', page]);
  const text = run('mandoc', ['-T', 'ascii', page]).replace(/.[\b]/g, '');
  expect(text).toMatch(/^NAME\n\s+metrics-fanout - /m);
  for (const word of ['ctl pause', '--truth <file>', 'SINK_INFLUXDB_TOKEN', 'EXIT STATUS'])
    expect(text).toContain(word);
});
