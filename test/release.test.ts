/** `npm run release`, in a repository of its own that holds the files of this one. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { parse } from 'yaml';
import { isBefore, nextVersion, unreleased } from '../scripts/release-plan.ts';
import { temporaryFolder } from '../src/servers/server-process.ts';

const root = join(import.meta.dirname, '..');
const folder = temporaryFolder('release');
const repository = join(folder.path, 'metrics-fanout');
const identity = {
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@b',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@b',
};
const env = { ...process.env, ...identity };

const git = (...args: string[]) =>
  execFileSync('git', args, { cwd: repository, env, encoding: 'utf8' }).trim();
const read = (path: string) => readFileSync(join(repository, path), 'utf8');
const write = (path: string, text: string) => {
  mkdirSync(dirname(join(repository, path)), { recursive: true });
  writeFileSync(join(repository, path), text);
};
const release = (...args: string[]) =>
  spawnSync(process.execPath, ['scripts/release.ts', ...args], { cwd: repository, env, encoding: 'utf8' });

beforeAll(() => {
  const listed = ['ls-files', '--cached', '--others', '--exclude-standard', '-z'];
  const paths = execFileSync('git', listed, { cwd: root, encoding: 'utf8' }).split('\0');
  for (const path of paths.filter((path) => path !== '' && existsSync(join(root, path)))) {
    mkdirSync(dirname(join(repository, path)), { recursive: true });
    cpSync(join(root, path), join(repository, path));
  }
  write('helm/Chart.yaml', 'apiVersion: v2\nname: metrics-fanout\nversion: 0.1.0\nappVersion: 0.1.0\n');
  write('package.json', read('package.json').replace(/"version": ".*"/, '"version": "0.1.0"'));
  write('src/base/version.ts', read('src/base/version.ts').replace(/VERSION = '.*'/, "VERSION = '0.1.0'"));
  write('Dockerfile', read('Dockerfile').replace(/ARG VERSION=.*/, 'ARG VERSION=0.1.0'));
  for (const path of ['README.md', 'examples/acme-sink/README.md'])
    write(path, read(path).replace(/metrics-fanout-[\d.]+\.tgz/g, 'metrics-fanout-0.1.0.tgz'));
  // package.test.ts tests the build itself.
  write(
    'scripts/build.ts',
    "import fs from 'node:fs';\nfs.cpSync('src/bin.ts', 'dist/src/bin.js', { recursive: true });\n",
  );
  write('CHANGELOG.md', '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- All of it.\n');
  symlinkSync(join(root, 'node_modules'), join(repository, 'node_modules'));
  git('init', '--quiet', '--initial-branch', 'main');
  git('add', '--all');
  git('commit', '--quiet', '--message', 'all');
});
afterAll(() => folder.remove());

test('finds the next version, which of two comes first, and what the changelog says is unreleased', () => {
  expect(nextVersion([1, 2, 3], 'major')).toEqual([2, 0, 0]);
  expect(nextVersion([1, 2, 3], 'minor')).toEqual([1, 3, 0]);
  expect(nextVersion([1, 2, 3], 'patch')).toEqual([1, 2, 4]);
  expect(nextVersion([1, 2, 3], '3.0.0')).toEqual([3, 0, 0]);
  expect(nextVersion([1, 2, 3], '3.0')).toBeUndefined();
  expect([
    isBefore([1, 2, 3], [1, 10, 0]),
    isBefore([1, 2, 3], [1, 2, 3]),
    isBefore([2, 0, 0], [1, 9, 9]),
  ]).toEqual([true, false, false]);
  expect(unreleased('## [Unreleased]\n\n- a\n\n## [1.0.0]\n\n- b\n')).toBe('- a');
  expect(unreleased('## [Unreleased]\n\n## [1.0.0]\n')).toBe('');
});

describe('a release', () => {
  it('needs to be told which one, and refuses unknown options', () => {
    for (const args of [[], ['big'], ['minor', '--exceute']]) {
      const { status, stderr } = release(...args);
      expect(status).toBe(64);
      expect(stderr).toContain('usage: npm run release');
    }
  });

  it('is only shown by default', () => {
    const head = git('rev-parse', 'HEAD');
    const { status, stdout, stderr } = release('minor');
    expect(status, stderr).toBe(0);
    for (const line of [
      '+  "version": "0.2.0",',
      '+appVersion: "0.2.0"',
      'The tag: v0.2.0',
      '  dist/src/bin.js',
    ])
      expect(stdout).toContain(line);
    expect(stdout).toContain('npm publish metrics-fanout-0.2.0.tgz');
    expect([git('rev-parse', 'HEAD'), git('tag'), git('status', '--porcelain')]).toEqual([head, '', '']);
  });

  it('is refused if anything is amiss, and lists all of it', () => {
    git('switch', '--quiet', '--create', 'other');
    git('tag', 'v0.1.1');
    write('CHANGELOG.md', '# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- All of it.\n');
    const { status, stdout, stderr } = release('patch', '--execute', '--tested');
    expect(status).toBe(1);
    expect(stdout.match(/^FAILED .*$/gm)).toEqual([
      'FAILED  nothing is uncommitted. Commit it, or stash it.',
      'FAILED  the branch is main. It is other: git switch main.',
      'FAILED  there is no tag v0.1.1. Give a later version, or delete that tag.',
      'FAILED  the changelog says what is new. Write it under [Unreleased].',
    ]);
    expect(stderr).toBe('Nothing was done.\n');
    git('tag', '--delete', 'v0.1.1');
    git('checkout', '--quiet', 'CHANGELOG.md');
    git('switch', '--quiet', 'main');
    expect(release('0.0.9', '--execute').stdout).toContain('FAILED  0.0.9 comes after 0.1.0');
  });

  it('is a commit, a tag and a package, and is not pushed', () => {
    const { status, stdout, stderr } = release('minor', '--execute', '--tested');
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('git push origin main v0.2.0');
    expect(git('log', '-1', '--format=%s')).toBe('release: 0.2.0');
    expect(git('rev-parse', 'v0.2.0^{commit}')).toBe(git('rev-parse', 'HEAD'));
    expect(git('status', '--porcelain')).toBe('');
    expect(JSON.parse(read('package-lock.json'))).toMatchObject({
      version: '0.2.0',
      packages: { '': { version: '0.2.0' } },
    });
    expect(parse(read('helm/Chart.yaml'))).toMatchObject({ version: '0.2.0', appVersion: '0.2.0' });
    expect(read('src/base/version.ts')).toContain("VERSION = '0.2.0'");
    expect(read('CHANGELOG.md')).toMatch(
      /^## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added$/m,
    );
    const listed = execFileSync('tar', ['-tzf', join(repository, 'metrics-fanout-0.2.0.tgz')], {
      encoding: 'utf8',
    });
    expect(listed).toContain('package/dist/src/bin.js');
    expect(unreleased(read('CHANGELOG.md'))).toBe('');
  });
});
