/**
 * `npm run release -- minor` is a dry run. It checks, then makes the whole release in a temporary clone: version,
 * changelog, commit, tag, package. With --execute it does the same here. It pushes and publishes nothing: at the end it
 * prints the commands for that.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { EDITS, isBefore, nextVersion, parseVersion, type Release, unreleased } from './release-plan.ts';

const USAGE = `usage: npm run release -- major|minor|patch|VERSION [--execute] [--tested]
  --execute, --yes  make the release here; without it, all of it is done in a temporary clone
  --tested          the tests of this commit have passed elsewhere; without it, --execute runs them first
`;
const BRANCH = 'main';
const EXIT_USAGE = 64; // EX_USAGE of sysexits.h
const root = join(import.meta.dirname, '..');

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function run(program: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): string {
  const options = { cwd, encoding: 'utf8', env: { ...process.env, ...env } } as const;
  return execFileSync(program, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] }).trimEnd();
}

const git = (...args: readonly string[]) => run('git', args, root);

function giveUp(text: string, code = 1): never {
  process.stderr.write(text);
  process.exit(code);
}

/** Each check, with whether it holds, and what to do if it does not. */
function checks({ before, version }: Release): readonly [what: string, holds: boolean, todo: string][] {
  const [old, next] = [parseVersion(before)!, parseVersion(version)!];
  const branch = git('branch', '--show-current');
  const isTagged = git('tag', '--list', `v${version}`) !== '';
  const isNew = isBefore(old, next) || (before === version && !isTagged);
  const changes = unreleased(readFileSync(join(root, 'CHANGELOG.md'), 'utf8'));
  return [
    ['nothing is uncommitted', git('status', '--porcelain') === '', 'Commit it, or stash it.'],
    [`the branch is ${BRANCH}`, branch === BRANCH, `It is ${branch || 'none'}: git switch ${BRANCH}.`],
    [`${version} comes after ${before}`, isNew, 'Give a later version.'],
    [`there is no tag v${version}`, !isTagged, 'Give a later version, or delete that tag.'],
    [
      'the changelog says what is new',
      changes !== undefined && changes !== '',
      'Write it under [Unreleased].',
    ],
  ];
}

/** Makes version, changelog, commit, tag and package in the given folder. Returns npm's report on the package. */
function release(folder: string, made: Release, env: NodeJS.ProcessEnv): Packed {
  for (const [path, edit] of Object.entries(EDITS)) {
    const file = join(folder, path);
    if (existsSync(file)) writeFileSync(file, edited(path, readFileSync(file, 'utf8'), edit, made));
  }
  const { version } = made;
  run('git', ['commit', '--quiet', '--all', '--message', `release: ${version}`], folder, env);
  run('git', ['tag', '--annotate', `v${version}`, '--message', `metrics-fanout ${version}`], folder, env);
  // Files of an earlier build would be packed as well.
  rmSync(join(folder, 'dist'), { recursive: true, force: true });
  const report = run('npm', ['pack', '--json', '--foreground-scripts=false'], folder);
  const [packed] = Object.values(JSON.parse(jsonOf(report))) as Packed[];
  return packed!;
}

function show(folder: string, { files, size, unpackedSize }: Packed): void {
  say(`\nThe commit:\n${run('git', ['show', '--unified=0', '--format=%s', 'HEAD'], folder)}`);
  say(`\nThe tag: ${run('git', ['describe', '--exact-match'], folder)}\n\nThe package:`);
  for (const { path, size } of files) say(`  ${String(size).padStart(8)}  ${path}`);
  say(`  ${files.length} files, ${size} bytes packed, ${unpackedSize} unpacked`);
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

/** Cuts off the output of the build, which comes before the JSON. */
function jsonOf(text: string): string {
  return text.slice(text.search(/^[[{]$/m));
}

function edited(
  path: string,
  text: string,
  edit: (text: string, made: Release) => string,
  made: Release,
): string {
  try {
    return edit(text, made);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

/** Shows the whole release and keeps nothing. If a step fails, it fails here, before anything is changed. */
function rehearse(made: Release): Packed {
  const folder = mkdtempSync(join(tmpdir(), 'fanout-release-'));
  try {
    git('clone', '--quiet', '--shared', root, folder);
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const packed = release(folder, made, {
      GIT_AUTHOR_NAME: 'dry run',
      GIT_AUTHOR_EMAIL: 'dry-run@localhost',
      GIT_COMMITTER_NAME: 'dry run',
      GIT_COMMITTER_EMAIL: 'dry-run@localhost',
    });
    show(folder, packed);
    return packed;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function publishing({ version }: Release, tarball: string): string {
  return `To publish it:
  git push origin ${BRANCH} v${version}
  npm publish ${tarball}
  docker build --build-arg VERSION=${version} --build-arg REVISION=$(git rev-parse v${version}) --tag metrics-fanout:${version} .
`;
}

function main(): void {
  const options = {
    execute: { type: 'boolean' },
    yes: { type: 'boolean' },
    tested: { type: 'boolean' },
  } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    giveUp(`${(error as Error).message}\n${USAGE}`, EXIT_USAGE);
  }
  const { execute, yes, tested } = parsed.values;
  const before = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version as string;
  const version = nextVersion(parseVersion(before)!, parsed.positionals[0] ?? '')?.join('.');
  if (version === undefined || parsed.positionals.length !== 1) giveUp(USAGE, EXIT_USAGE);
  const made: Release = { before, version, day: new Date().toISOString().slice(0, 10) };

  const found = checks(made);
  for (const [what, holds, todo] of found)
    say(`${holds ? 'ok    ' : 'FAILED'}  ${what}${holds ? '' : `. ${todo}`}`);
  const isReal = execute || yes;
  if (found.some(([, holds]) => !holds)) giveUp('Nothing was done.\n');
  if (tested) say('ok      the tests have passed elsewhere, according to --tested');
  else if (!isReal) say('--      the tests: --execute runs them');
  else if (spawnSync('npm', ['test'], { cwd: root, stdio: 'inherit' }).status !== 0)
    giveUp('Nothing was done.\n');

  const { filename } = rehearse(made);
  if (isReal) release(root, made, {});
  say(
    `\n${isReal ? 'Done, in this clone only.' : 'Nothing was done. Give --execute to do it.'} ${publishing(made, filename)}`,
  );
}

main();
