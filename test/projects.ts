/**
 * Test files that start no processes are `unit`; all others are `servers`. A rule decides, so that nobody has to keep a
 * list: a file starts processes if it imports, directly or through helpers of tests, `node:child_process`, anything in
 * `src/servers/`, or a source file that imports `node:child_process`.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');
const TESTS = 'test';
const SERVERS = 'src/servers/';
const STARTS_PROCESSES = 'node:child_process';
/** Static imports and exports at the beginning of a line, and dynamic imports anywhere. */
const IMPORT = /(?:^(?:import|export)\b[^;'"`]*?|\bimport\(\s*)['"]([^'"]+)['"]/gm;

/** The text of a file, by its path from the root; undefined if there is none. */
export type ReadFile = (path: string) => string | undefined;

/** Why a test file counts as one that starts processes: the chain of imports. Undefined if it starts none. */
export function wayToProcesses(file: string, read: ReadFile): readonly string[] | undefined {
  const seen = new Set<string>();
  const look = (path: string): readonly string[] | undefined => {
    if (seen.has(path)) return undefined;
    seen.add(path);
    for (const module of importsOf(path, read(path) ?? '')) {
      if (module === STARTS_PROCESSES || module.startsWith(SERVERS)) return [path, module];
      // A helper is part of the test. Sources count only if they import it themselves: a test may not call the rest.
      if (module.startsWith(`${TESTS}/`)) {
        const way = look(module);
        if (way !== undefined) return [path, ...way];
      } else if (importsOf(module, read(module) ?? '').includes(STARTS_PROCESSES)) {
        return [path, module, STARTS_PROCESSES];
      }
    }
    return undefined;
  };
  return look(file);
}

/**
 * Packages by name, our files as paths from the root. Imports of types count too: a test that names a server has one.
 */
function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(IMPORT)].map(([, module]) =>
    module!.startsWith('.') ? join(dirname(path), module!) : module!,
  );
}

/** Reads files of this project, each of them once. */
export function sourceReader(): ReadFile {
  const texts = new Map<string, string | undefined>();
  return (path) => {
    if (!texts.has(path)) texts.set(path, existsSync(join(ROOT, path)) ? textOf(path) : undefined);
    return texts.get(path);
  };
}

function textOf(path: string): string | undefined {
  return statSync(join(ROOT, path)).isFile() ? readFileSync(join(ROOT, path), 'utf8') : undefined;
}

export function testFiles(): string[] {
  return readdirSync(join(ROOT, TESTS), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(TESTS, name))
    .sort();
}

/** The test files that start processes. */
export function serverTests(): string[] {
  const read = sourceReader();
  return testFiles().filter((file) => wayToProcesses(file, read) !== undefined);
}

/** Of these, the tests of the bus, which `npm test` runs on a second nats-server too. */
export function busTests(files: readonly string[]): string[] {
  const { always } = JSON.parse(readFileSync(join(ROOT, TESTS, 'bus-tests.json'), 'utf8')) as {
    always: string[];
  };
  return files.filter((file) => always.some((path) => file.startsWith(path)));
}
