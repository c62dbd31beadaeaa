/** Makes `dist/`, the content of the package and the image. */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

run('tsc', '-p', 'tsconfig.build.json');
// Only the modules that authors of sinks import come with types.
run('tsc', '-p', 'tsconfig.types.json');
cpSync(join(root, 'src/observe/page'), join(dist, 'src/observe/page'), { recursive: true });
mkdirSync(join(dist, 'man'), { recursive: true });
chmodSync(join(dist, 'src/bin.js'), 0o755);
writeFileSync(join(dist, 'man/metrics-fanout.1'), run(process.execPath, join(dist, 'src/bin.js'), 'manual'));
