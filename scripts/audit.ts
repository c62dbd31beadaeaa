/**
 * `npm audit` of what ships. `--omit=dev` would leave out the packages of which the build takes parts into `dist/`.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const SERIOUS = ['high', 'critical'];

interface Locked {
  readonly dev?: true;
  readonly dependencies?: Readonly<Record<string, string>>;
}

export type Lock = Readonly<Record<string, Locked>>;

/** Returns what is installed with the package, and what the sources import, with all that these depend on. */
export function shippedPackages(lock: Lock, sources: readonly string[]): Set<string> {
  const shipped = new Set<string>();
  const add = (name: string) => {
    const locked = lock[`node_modules/${name}`];
    if (locked === undefined || shipped.has(name)) return;
    shipped.add(name);
    for (const each of Object.keys(locked.dependencies ?? {})) add(each);
  };
  for (const [path, { dev }] of Object.entries(lock))
    if (path !== '' && !dev) add(path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length));
  for (const text of sources)
    for (const [, name] of text.matchAll(
      /^(?:import|export|\}) (?!type )[^;]*?from '((?:@[^/']+\/)?[^/'.][^/']*)/gm,
    ))
      if (!name!.startsWith('node:')) add(name!);
  return shipped;
}

function readSources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('servers'))
    .map((name) => readFileSync(join(root, folder, name), 'utf8'));
}

/** The same of this clone. */
export function shippedFromHere(): Set<string> {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  // The charts are read as files.
  return shippedPackages(packages, [
    ...readSources('src'),
    ...readSources('sinks'),
    "import 'x' from 'uplot';",
  ]);
}

function audit(): void {
  const shipped = shippedFromHere();
  const { stdout } = spawnSync('npm', ['audit', '--package-lock-only', '--json'], {
    cwd: root,
    encoding: 'utf8',
  });
  const { vulnerabilities, message } = JSON.parse(stdout);
  if (vulnerabilities === undefined) throw new Error(`npm audit has no answer: ${message}`);
  const found = Object.entries<{ severity: string }>(vulnerabilities).filter(
    ([name, { severity }]) => SERIOUS.includes(severity) && shipped.has(name),
  );
  for (const [name, { severity }] of found) process.stdout.write(`${name}: ${severity}\n`);
  process.stdout.write(
    `${shipped.size} packages ship, ${found.length} of them with serious vulnerabilities\n`,
  );
  if (found.length > 0) process.exitCode = 1;
}

if (import.meta.main) audit();
