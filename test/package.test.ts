import { spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { loadPage } from '../src/observe/page.ts';
import { temporaryFolder } from '../src/servers/process.ts';

const root = join(import.meta.dirname, '..');

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

test('what npm packs has the dashboard, and it is that of the clone', async () => {
  const folder = temporaryFolder('package');
  try {
    const packed = run('npm', ['pack', '--silent', '--pack-destination', folder.path])
      .trim()
      .split('\n')
      .at(-1)!;
    run('tar', ['-xzf', join(folder.path, packed), '-C', folder.path]);
    symlinkSync(join(root, 'node_modules'), join(folder.path, 'package', 'node_modules'));
    const built = await import(pathToFileURL(join(folder.path, 'package/dist/src/observe/page.js')).href);
    expect((built.loadPage as typeof loadPage)()).toEqual(loadPage());
  } finally {
    folder.remove();
  }
}, 60_000);
