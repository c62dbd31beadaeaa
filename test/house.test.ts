/** The rules of the house (docs/architecture.md), as far as a machine can check them. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SINKS } from '../sinks/index.ts';
import { VERSION } from '../src/base/version.ts';
import { commandsMarkdown } from '../src/commands/manual.ts';
import { createProgram } from '../src/commands/program.ts';
import { settingsMarkdown } from '../src/commands/work/config.ts';
import { floorPlan } from './house/floor-plan.ts';

/** The floors from the ground up, and what is on them. Each imports only itself and those before it. */
const FLOORS = [
  ['base', 'clock, log, HTTP client, text: nothing of metrics'],
  ['settings', 'how a setting is parsed, documented and masked'],
  ['aggregate', 'samples to series, windows and points; pure'],
  ['decode', 'bytes to samples, by format; pure'],
  ['sink', 'the contract of sinks, and what they share'],
  ['sinks', 'a folder for each kind of store'],
  ['tap', 'what people hear on the bus'],
  ['config', 'environment to one frozen, typed configuration'],
  ['bus', 'NATS: connection, stream, sources, checkpoints, control'],
  ['deliver', 'windows to stores: lanes, threads, replay'],
  ['verify', 'the truth of a range, and what stores differ in'],
  ['probe', 'questions that the stores are asked'],
  ['recent', 'the windows of the last hour, and questions about them'],
  ['trial', 'stores tried on real traffic, side by side'],
  ['load', 'traffic with a known truth'],
  ['observe', 'status, Prometheus, HTTP, dashboard'],
  ['control', 'what operators ask of an instance'],
  ['servers', 'real servers and programs for demo and tests'],
  ['service', 'the running service, put together'],
  ['commands', 'a file for each command'],
  ['main', 'src/bin.ts and src/main.ts: arguments to a command'],
] as const;

const root = join(import.meta.dirname, '..');
const MAX_COMMENT_COLUMNS = 120;

interface File {
  readonly path: string;
  readonly text: string;
  /** Modules as written, and those of ours as paths from the root. */
  readonly imports: readonly string[];
}

function load(folder: string): File[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs|js|css|html)$/.test(name))
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

const floorOf = (path: string) => /^src\/(\w+)\/|^(sinks)\//.exec(path)?.slice(1).find(Boolean) ?? 'main';
const level = (path: string) => FLOORS.findIndex(([name]) => name === floorOf(path));
const isOurs = (module: string) => /^(src|sinks)\//.test(module);

describe('floors', () => {
  test('every folder is a floor, and every floor a folder', () => {
    const floors = new Set(sources.map(({ path }) => floorOf(path)));
    expect([...floors].sort()).toEqual(FLOORS.map(([name]) => name).sort());
  });

  test('the root of src/ holds bin.ts and main.ts only', () => {
    const loose = sources.map(({ path }) => path).filter((path) => /^src\/[^/]+$/.test(path));
    expect(loose.sort()).toEqual(['src/bin.ts', 'src/main.ts']);
  });

  test('no import goes up', () => {
    const up = sources.flatMap(({ path, imports }) =>
      imports
        .filter((module) => isOurs(module) && level(module) > level(path))
        .map((module) => `${path} -> ${module}`),
    );
    expect(up).toEqual([]);
  });

  test('no files import each other in a circle', () => {
    expect(circles(new Map(sources.map(({ path, imports }) => [path, imports])))).toEqual([]);
  });

  test('the picture in docs/ shows these floors (npx vitest run -u draws it again)', async () => {
    await expect(floorPlan(FLOORS)).toMatchFileSnapshot('../docs/floors.svg');
  });
});

/** Each circle as the files on it, found by walking depth first. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, above: readonly string[]) => {
    if (above.includes(path)) found.push([...above.slice(above.indexOf(path)), path].join(' -> '));
    if (done.has(path)) return;
    done.add(path);
    for (const next of graph.get(path) ?? []) walk(next, [...above, path]);
  };
  for (const path of graph.keys()) walk(path, []);
  return found;
}

describe('imports', () => {
  // node:crypto and node:zlib are allowed for functions that only map bytes to bytes: hashes, and decompression in one
  // call.
  test('decode/ and aggregate/ do no I/O: they import each other, node:crypto and node:zlib', () => {
    for (const { path, imports } of [...within('src/decode/'), ...within('src/aggregate/')]) {
      const others = imports.filter(
        (module) => !/^src\/(decode|aggregate)\/|^node:(crypto|zlib)$/.test(module),
      );
      expect(others, path).toEqual([]);
    }
  });

  test('decode/ and aggregate/ read no clock, use no randomness and await nothing', () => {
    for (const { path, text } of [...within('src/decode/'), ...within('src/aggregate/')]) {
      expect(
        text.match(/Date\.now|new Date\(\)|performance\.|Math\.random|\bawait\b|setTimeout/),
        path,
      ).toBeNull();
    }
  });

  test("one file loads Node.js's HTTP, without what an import of it would load as well", () => {
    const importing = sources.filter((file) =>
      loadedWith(file).some((module) => /^node:https?$/.test(module)),
    );
    expect(importing.map(({ path }) => path)).toEqual([]);
    expect(
      within('src/base/')
        .map(({ text }) => text)
        .join(),
    ).toContain("getBuiltinModule('node:http')");
  });

  test("one file knows how the subjects of JetStream's API begin", () => {
    const knowing = sources.filter(({ text }) => text.includes('$JS.API')).map(({ path }) => path);
    expect(knowing).toEqual(['src/bus/jetstream-api.ts']);
  });

  test('nothing but bus/ imports nats', () => {
    const users = sources.filter(({ imports }) =>
      imports.some((module) => /^(nats|nkeys\.js)(\/|$)/.test(module)),
    );
    expect(users.map(({ path }) => path).filter((path) => !path.startsWith('src/bus/'))).toEqual([]);
  });

  test('tests connect to nats with their own limits, because those of the client are too short for a busy machine', () => {
    const short = /import \{[^}]*\bconnect\b[^}]*\} from 'nats'/;
    const tests = load('test').filter(({ path }) => !path.startsWith('test/bench/'));
    const wrong = tests.filter(({ path, text }) => path !== 'test/bus-client.ts' && short.test(text));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  test('a sink imports the contract, its own folder and packages', () => {
    for (const { path, imports } of within('sinks/').filter((file) => file.path !== 'sinks/index.ts')) {
      const folder = `${dirname(path)}/`;
      const ours = imports.filter((module) => /^(src|sinks)\//.test(module));
      expect(
        ours.filter((module) => module !== 'src/sink/index.ts' && !module.startsWith(folder)),
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

  test('help loads no package but commander: the work of a command is loaded when it runs', () => {
    const { files: reached, builtIns, packages } = loadedFrom('src/main.ts');
    expect(packages).toEqual(['commander']);
    // node:http alone takes as long to load as all that help needs.
    expect(builtIns.filter((module) => /^node:(https?|worker_threads)$/.test(module))).toEqual([]);
    expect(reached.filter((path) => /^src\/(bus|deliver|observe|service)\//.test(path))).toEqual([]);
    expect(reached).toContain('src/commands/run.ts');
    expect(reached).not.toContain('src/commands/work/run.ts');
  });

  // Each thread has its own copy of all that it loads: TLS takes 0.5 MB, the settings of the service 0.6 MB.
  test('a thread loads neither TLS nor the settings of the service', () => {
    for (const thread of ['src/observe/thread/http-thread.ts', 'src/deliver/thread/sink-thread.ts']) {
      const { files, builtIns } = loadedFrom(thread);
      expect(files, thread).toContain('src/base/garbage.ts');
      expect(
        files.filter((path) => /core-settings|sink-config/.test(path)),
        thread,
      ).toEqual([]);
      expect(
        builtIns.filter((module) => /^node:(https|tls)$/.test(module)),
        thread,
      ).toEqual([]);
    }
    expect(loadedFrom('src/observe/thread/http-thread.ts').builtIns).not.toContain('node:crypto');
  });

  // The main thread asks what each sink is: the client of the store is for the thread that writes.
  test.each(['dynamodb', 'postgres', 'redshift'])('the module of %s loads no package', (kind) => {
    expect(loadedFrom(`sinks/${kind}/sink.ts`).packages).toEqual([]);
  });
});

/** What loading a file loads: files of ours, and modules of Node.js and of packages. */
function loadedFrom(path: string) {
  const byPath = new Map(sources.map((file) => [file.path, file]));
  const files = new Set<string>();
  const others = new Set<string>();
  const walk = (from: string) => {
    if (files.has(from)) return;
    files.add(from);
    for (const module of loadedWith(byPath.get(from)!)) {
      if (isOurs(module)) walk(module);
      else others.add(module);
    }
  };
  walk(path);
  const isBuiltIn = (module: string) => module.startsWith('node:');
  return {
    files: [...files],
    builtIns: [...others].filter(isBuiltIn),
    packages: [...others].filter((module) => !isBuiltIn(module)),
  };
}

/** What a file imports besides types, and not only when it calls `import()`. */
function loadedWith({ path, text }: File): string[] {
  const written = text.matchAll(/^(?:import|export) (?!type )[^;]*?from '([^']+)'|^import '([^']+)'/gm);
  return [...written].map(([, from, bare]) => {
    const module = (from ?? bare)!;
    return module.startsWith('.') ? relative(root, join(root, dirname(path), module)) : module;
  });
}

/** A sink's folder has names of its own: nothing outside of it sees them, except those of the module. */
test('an exported name is defined in one file', () => {
  const places = new Map<string, string[]>();
  for (const { path, text } of sources.filter((file) => file.path !== 'sinks/index.ts')) {
    const scope = path.startsWith('sinks/') ? `${dirname(path)} ` : '';
    const names = text.matchAll(
      /^export (?:abstract |async |declare )*(?:const|let|function\*?|class|interface|type|enum) (\w+)/gm,
    );
    for (const [, name] of names) places.set(scope + name, [...(places.get(scope + name) ?? []), path]);
  }
  expect(places.size).toBeGreaterThan(300);
  expect([...places].filter(([, paths]) => paths.length > 1)).toEqual([]);
});

// The limit of 65 lines a function is a rule of the linter: biome.json.
test(`comments have at most ${MAX_COMMENT_COLUMNS} columns`, () => {
  const wide = [...sources, ...load('test'), ...load('scripts')].flatMap(({ path, text }) =>
    text
      .split('\n')
      .flatMap((line, index) =>
        /^\s*(\/\/|\/?\*)/.test(line) && line.length > MAX_COMMENT_COLUMNS ? `${path}:${index + 1}` : [],
      ),
  );
  expect(wide).toEqual([]);
});

test('every sink has a test that runs the conformance suite', () => {
  for (const kind of Object.keys(SINKS)) {
    expect(read(`test/sinks/${kind}.test.ts`), kind).toContain('describeConformance');
  }
});

test('the tables of settings match the schema', async () => {
  const text = read('docs/settings.md');
  const [, block] = /<!-- settings -->\n([\s\S]*?)<!-- \/settings -->/.exec(text) ?? [];
  expect(block?.trim()).toBe((await settingsMarkdown()).trim());
});

test('the table of commands matches the commands', () => {
  const [, block] = /<!-- commands -->\n([\s\S]*?)<!-- \/commands -->/.exec(read('docs/commands.md')) ?? [];
  expect(block?.trim()).toBe(commandsMarkdown(createProgram()).trim());
});

test('every dependency has a reason, and the version is that of package.json', () => {
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
