/**
 * What is installed is what was reviewed: the lock file pins every package by its hash, and the bill of materials
 * lists all of them.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
/** The first version that has `npm sbom`. */
const NPM_WITH_SBOM = 10;

interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly dev?: true;
  readonly link?: true;
}

interface Component {
  readonly group?: string;
  readonly name: string;
  readonly version: string;
  readonly properties: readonly { readonly name: string }[];
  readonly hashes?: readonly { readonly content: string }[];
}

const read = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8'));
const locked = Object.entries(read('package-lock.json').packages as Record<string, Locked>).filter(
  ([path]) => path !== '',
);

function npm(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

test('every package is pinned by its hash, and comes from a registry', () => {
  expect(locked.length).toBeGreaterThan(100);
  for (const [path, { integrity, link }] of locked) {
    expect(integrity, path).toMatch(/^sha512-/);
    expect(link, path).toBeUndefined();
  }
  const { dependencies, devDependencies, peerDependencies } = read('package.json');
  const ranges = Object.values<string>({ ...dependencies, ...devDependencies, ...peerDependencies });
  // No URL, file or tag: tomorrow it may mean something else.
  expect(ranges.filter((range) => !/^[\^~]?\d+\.\d+\.\d+(-[\w.]+)?$/.test(range))).toEqual([]);
});

test('npm ci accepts the lock file', () => {
  npm('ci', '--dry-run', '--offline', '--ignore-scripts', '--no-audit');
});

test.skipIf(Number(npm('--version').split('.')[0]) < NPM_WITH_SBOM)(
  'the bill of materials lists the packages of the lock file with their hashes, and marks those for development',
  () => {
    const { components } = JSON.parse(npm('run', '-s', 'sbom')) as { components: Component[] };
    const listed = components.map(({ group, name, version, properties, hashes }) => ({
      name: `${group === undefined ? '' : `${group}/`}${name}@${version}`,
      dev: properties.some((property) => property.name === 'cdx:npm:package:development'),
      hash: hashes?.[0]?.content,
    }));
    // The lock file lists a package once for each folder that has it, the bill of materials only once.
    const expected = new Map<string, { name: string; dev: boolean; hash: string }>();
    for (const [path, { version, integrity = '', dev = false }] of locked) {
      const name = `${path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)}@${version}`;
      const hash = Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex');
      expected.set(name, { name, dev: dev && expected.get(name)?.dev !== false, hash });
    }
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(listed.sort(byName)).toEqual([...expected.values()].sort(byName));
  },
);
