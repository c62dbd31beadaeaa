/** The rules of the house (docs/architecture.md), as far as a machine can hold them. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { SINKS } from '../sinks/index.ts';
import { settingsMarkdown } from '../src/commands/config.ts';
import { commandsMarkdown } from '../src/commands/manual.ts';
import { createProgram } from '../src/program.ts';
import { VERSION } from '../src/version.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const MAX_LINES = 400;

interface File {
  readonly path: string;
  readonly text: string;
  /** Modules as written, and those of ours as paths from the root. */
  readonly imports: readonly string[];
}

function load(folder: string): File[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|js|css|html)$/.test(name))
    .map((name) => {
      const path = join(folder, name);
      const text = readFileSync(join(root, path), 'utf8');
      const written = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!);
      const imports = written.map((module) =>
        module.startsWith('.') ? relative(root, join(root, dirname(path), module)) : module,
      );
      return { path, text, imports };
    });
}

const sources = [...load('src'), ...load('sinks')];
const within = (folder: string) => sources.filter(({ path }) => path.startsWith(folder));
const read = (path: string) => readFileSync(join(root, path), 'utf8');

test('there is something to check', () => {
  expect(sources.length).toBeGreaterThan(30);
  expect(sources.flatMap(({ imports }) => imports)).toContain('nats');
});

describe('imports', () => {
  // node:crypto and node:zlib are there for functions that only map bytes to bytes: hashes, and decompression in one call.
  test('decode/ and aggregate/ do no I/O: they import each other, node:crypto and node:zlib', () => {
    for (const { path, imports } of [...within('src/decode/'), ...within('src/aggregate/')]) {
      const others = imports.filter(
        (module) => !/^src\/(decode|aggregate)\/|^node:(crypto|zlib)$/.test(module),
      );
      expect(others, path).toEqual([]);
    }
  });

  test('decode/ and aggregate/ read no clock, know no chance and await nothing', () => {
    for (const { path, text } of [...within('src/decode/'), ...within('src/aggregate/')]) {
      expect(
        text.match(/Date\.now|new Date\(\)|performance\.|Math\.random|\bawait\b|setTimeout/),
        path,
      ).toBeNull();
    }
  });

  test('nothing but bus/ imports nats', () => {
    const users = sources.filter(({ imports }) =>
      imports.some((module) => /^(nats|nkeys\.js)$/.test(module)),
    );
    expect(users.map(({ path }) => path).filter((path) => !path.startsWith('src/bus/'))).toEqual([]);
  });

  test('a sink imports the contract, its own folder and packages', () => {
    for (const { path, imports } of within('sinks/').filter((file) => file.path !== 'sinks/index.ts')) {
      const folder = `${dirname(path)}/`;
      const ours = imports.filter((module) => /^(src|sinks)\//.test(module));
      expect(
        ours.filter((module) => module !== 'src/sink.ts' && !module.startsWith(folder)),
        path,
      ).toEqual([]);
    }
  });

  test('nothing but sinks/index.ts names a sink', () => {
    for (const { path, imports } of within('src/')) {
      expect(
        imports.filter((module) => module.startsWith('sinks/') && module !== 'sinks/index.ts'),
        path,
      ).toEqual([]);
    }
  });

  test('commands do not import each other', () => {
    const commands = within('src/commands/').filter(({ text }) => /export function \w+Command\(/.test(text));
    const paths = commands.map(({ path }) => path);
    expect(paths.length).toBeGreaterThanOrEqual(5);
    for (const { path, imports } of commands) {
      expect(
        imports.filter((module) => paths.includes(module)),
        path,
      ).toEqual([]);
    }
  });
});

test('files stay under 400 lines', () => {
  const long = [...sources, ...load('test')].filter(({ text }) => text.split('\n').length > MAX_LINES);
  expect(long.map(({ path }) => path)).toEqual([]);
});

test('every sink has a test that runs the conformance suite', () => {
  for (const kind of Object.keys(SINKS)) {
    expect(read(`test/sinks/${kind}.test.ts`), kind).toContain('describeConformance');
  }
});

test('the tables of settings are those of the schema', async () => {
  const text = read('docs/settings.md');
  const [, block] = /<!-- settings -->\n([\s\S]*?)<!-- \/settings -->/.exec(text) ?? [];
  expect(block?.trim()).toBe((await settingsMarkdown()).trim());
});

test('the table of commands is that of the commands themselves', () => {
  const [, block] = /<!-- commands -->\n([\s\S]*?)<!-- \/commands -->/.exec(read('docs/commands.md')) ?? [];
  expect(block?.trim()).toBe(commandsMarkdown(createProgram()).trim());
});

test("the dependencies' reasons are complete", () => {
  const { dependencies, devDependencies, version } = JSON.parse(read('package.json'));
  const reasons = read('docs/dependencies.md');
  const named = (name: string) =>
    reasons.includes(`\`${name}\``) || (name.startsWith('@types/') && reasons.includes('`@types/*`'));
  expect(Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !named(name))).toEqual([]);
  expect(VERSION).toBe(version);
});

test('the lock file names no host', () => {
  expect(read('package-lock.json').match(/"resolved": "https?:/)).toBeNull();
});
