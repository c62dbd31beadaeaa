/**
 * Which test files need no server: `unit`. All others are `servers`. One rule says it, so that nobody keeps a list: a
 * file starts processes if it imports, itself or through helpers of tests, `node:child_process`, anything of
 * `src/servers/`, or a source file that imports `node:child_process`.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');
const TESTS = 'test';
const SERVERS = 'src/servers/';
const STARTS_PROCESSES = 'node:child_process';
/** As they stand at the beginning of a line, and wherever one is made while it runs. */
const IMPORT = /(?:^(?:import|export)\b[^;'"`]*?|\bimport\(\s*)['"]([^'"]+)['"]/gm;

/** The text of a file, by its path from the root; undefined where there is none. */
export type ReadFile = (path: string) => string | undefined;

/** What decides that a test file starts processes, as the way of imports to it; undefined where it starts none. */
export function wayToProcesses(file: string, read: ReadFile): readonly string[] | undefined {
  const seen = new Set<string>();
  const look = (path: string): readonly string[] | undefined => {
    if (seen.has(path)) return undefined;
    seen.add(path);
    for (const module of importsOf(path, read(path) ?? '')) {
      if (module === STARTS_PROCESSES || module.startsWith(SERVERS)) return [path, module];
      // What tests share is part of them. What they test they call, or not: it counts if it is about processes itself.
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
 * Packages as they are named, files of ours as paths from the root; those of types, too: who knows a server has one.
 */
function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(IMPORT)].map(([, module]) =>
    module!.startsWith('.') ? join(dirname(path), module!) : module!,
  );
}

/** Of this project; each file is read once. */
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

/** Those that start processes. */
export function serverTests(): string[] {
  const read = sourceReader();
  return testFiles().filter((file) => wayToProcesses(file, read) !== undefined);
}
