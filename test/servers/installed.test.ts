import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../src/servers/server-process.ts';

const root = join(import.meta.dirname, '../..');
const CHECK = 'src/servers/installed.mjs';
const EXIT_UNAVAILABLE = 69;
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** As if by that Node.js. */
function check(folder: string, version = process.versions.node) {
  const other = `data:text/javascript,Object.defineProperty(process, 'versions', { value: { node: '${version}' } })`;
  return spawnSync(process.execPath, ['--import', other, join(folder, CHECK)], { encoding: 'utf8' });
}

test('every script that does not install what it needs checks first that it is there', () => {
  const names = Object.keys(scripts).filter((name) => !name.startsWith('pre'));
  const checked = names.filter((name) => scripts[`pre${name}`] === `node ${CHECK}`);
  const others = names.filter((name) => !checked.includes(name));
  expect(checked).toContain('start');
  for (const name of others) expect(scripts[name], name).toMatch(/^node src\/servers\/bootstrap\.mjs |^npm /);
});

test('where all is there, it says nothing', () => {
  expect(check(root)).toMatchObject({ status: 0, stdout: '', stderr: '' });
});

test.each([
  ['an old Node.js', root, '20.20.2', 'this is Node.js 20.20.2, and 22.18 or newer is needed'],
  ['a fresh clone', undefined, '20.20.2', 'the npm packages are not installed'],
  ['a fresh clone, and a current Node.js', undefined, undefined, 'the npm packages are not installed'],
])('npm start with %s says what to do', (_, given, version, problem) => {
  const empty = temporaryFolder('installed');
  try {
    const folder = given ?? empty.path;
    if (given === undefined) {
      mkdirSync(join(folder, 'src/servers'), { recursive: true });
      cpSync(join(root, CHECK), join(folder, CHECK));
    }
    const { status, stderr } = check(folder, version);
    expect(stderr).toBe(
      `metrics-fanout: ${problem}\n  Run npm ci first, in this folder: it installs the packages, and a current Node.js beside them.\n`,
    );
    expect(status).toBe(EXIT_UNAVAILABLE);
  } finally {
    empty.remove();
  }
});

test('npm shows these words, and starts nothing', () => {
  const folder = temporaryFolder('installed');
  try {
    mkdirSync(join(folder.path, 'src/servers'), { recursive: true });
    for (const file of ['package.json', CHECK]) cpSync(join(root, file), join(folder.path, file));
    writeFileSync(join(folder.path, 'src/main.ts'), 'console.error("started")');
    const { status, stderr } = spawnSync('npm', ['start', '-s'], { cwd: folder.path, encoding: 'utf8' });
    expect(stderr).toContain('Run npm ci first');
    expect(stderr).not.toContain('started');
    expect(status).toBe(EXIT_UNAVAILABLE);
  } finally {
    folder.remove();
  }
});
