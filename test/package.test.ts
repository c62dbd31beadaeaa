import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadPage } from '../src/observe/page.ts';
import { temporaryFolder } from '../src/servers/server-process.ts';
import { linksOf } from './links.ts';

const root = join(import.meta.dirname, '..');
/** Packed; its production dependencies are another 40 MB. */
const MAX_PACKED_BYTES = 700_000;
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
  symlinkSync(join(root, 'node_modules'), join(inPackage, 'node_modules'));
});
afterAll(() => folder.remove());

test('the package has the same dashboard as the clone', async () => {
  const built = await import(pathToFileURL(join(inPackage, 'dist/src/observe/page.js')).href);
  expect((built.loadPage as typeof loadPage)()).toEqual(loadPage());
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
    'package.json',
  ]);
  // No sources and no tests, except the suite that authors of sinks run.
  const odd = paths.filter((path) => path.startsWith('dist/') && !/^dist\/(src|sinks|man)\//.test(path));
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
    'metrics-fanout: needs Node.js 22.18 or newer; this is 20.20.2\n  npm install node@24, in the same folder, gets one beside this package: npx metrics-fanout uses it.\n',
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
