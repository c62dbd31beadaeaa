/**
 * Makes `dist/`, the content of the package and the image. What starts is one file for each way to begin (the command,
 * the thread of a sink, the thread of HTTP, the modules that authors of sinks import) and the parts that these share or
 * load later. So Node.js has a dozen files to find and read in place of hundreds, and the package contains of its
 * libraries only what is used.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type OutputChunk, rolldown } from 'rolldown';
import { minifySync } from 'rolldown/utils';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const CHART_LIBRARY = ['uPlot.iife.min.js', 'uPlot.min.css'];

/** Where something begins. Each is a file of the same name in `dist/`. */
const ENTRIES = [
  'src/bin',
  'src/main',
  'src/deliver/thread/sink-thread',
  'src/observe/thread/http-thread',
  'src/sink/index',
  'test/conformance',
];

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

async function bundle(): Promise<OutputChunk[]> {
  const installed = Object.keys({ ...dependencies, ...peerDependencies });
  const bundled = await rolldown({
    cwd: root,
    platform: 'node',
    input: Object.fromEntries(ENTRIES.map((name) => [name, `${name}.ts`])),
    external: (id) => installed.some((name) => id === name || id.startsWith(`${name}/`)),
    // Modules, of which the parts that are not used can be left out, in place of CommonJS.
    resolve: { mainFields: ['module', 'main'] },
    onLog(level, log) {
      if (level === 'warn') throw new Error(log.message);
    },
  });
  const { output } = await bundled.write({
    dir: dist,
    format: 'esm',
    entryFileNames: '[name].js',
    // All of them one folder below src/: see src/base/own-program.ts.
    chunkFileNames: ({ name }) => `src/parts/${name.split('~')[0]}-[hash].js`,
    comments: false,
    codeSplitting: {
      groups: [
        { name: 'own-program', test: /src\/base\/own-program\.ts$/, priority: 2 },
        // A part for each set of beginnings that need it.
        {
          name: 'library',
          test: /node_modules/,
          priority: 1,
          entriesAware: true,
          entriesAwareMergeThreshold: 8_000,
        },
      ],
    },
  });
  return output.filter((file) => file.type === 'chunk');
}

/** Makes the code of others as short as it gets. Ours stays as it is, so that a stack says where it failed. */
function shortenLibraries(chunks: readonly OutputChunk[]): void {
  const isOurs = (id: string) => !id.includes('node_modules') && !id.startsWith('\0');
  for (const { fileName, moduleIds, code } of chunks) {
    if (moduleIds.some(isOurs)) continue;
    const short = minifySync(fileName, code, { module: true });
    if (short.errors.length > 0) throw new Error(`${fileName}: ${short.errors[0]!.message}`);
    writeFileSync(join(dist, fileName), short.code);
  }
}

/** The licenses of what the package contains of others. */
function notices(chunks: readonly OutputChunk[]): string {
  const modules = chunks.flatMap(({ moduleIds }) => moduleIds);
  const folders = new Set(
    modules.flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0] ?? []),
  );
  folders.add(join(root, 'node_modules/uplot'));
  const packages = Map.groupBy([...folders].sort(), (folder) => {
    const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
    const { license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return file === undefined ? String(license) : readFileSync(join(folder, file), 'utf8').trim();
  });
  const parts = [...packages].map(([text, of]) => {
    const names = of.map((folder) => {
      const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      return `${name} ${version}`;
    });
    return `${names.join('\n')}\n\n${text}\n`;
  });
  return `The package contains parts of these packages.\n\n${parts.join(`\n${'-'.repeat(80)}\n\n`)}`;
}

rmSync(dist, { recursive: true, force: true });
const chunks = await bundle();
shortenLibraries(chunks);
writeFileSync(join(dist, 'NOTICES'), notices(chunks));
// Only the modules that authors of sinks import come with types.
run('tsc', '-p', 'tsconfig.types.json');
// What they import mentions no sink of ours.
rmSync(join(dist, 'sinks'), { recursive: true });
const page = join(dist, 'src/observe/page');
cpSync(join(root, 'src/observe/page'), page, {
  recursive: true,
  filter: (path) => !/\.d\.ts$|tsconfig/.test(path),
});
for (const name of CHART_LIBRARY) cpSync(join(root, 'node_modules/uplot/dist', name), join(page, name));
mkdirSync(join(dist, 'man'), { recursive: true });
chmodSync(join(dist, 'src/bin.js'), 0o755);
writeFileSync(join(dist, 'man/metrics-fanout.1'), run(process.execPath, join(dist, 'src/bin.js'), 'manual'));
