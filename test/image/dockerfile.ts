/**
 * The Dockerfile, instruction by instruction, and what it builds: in plain folders, without a container engine.
 */

import { type ChildProcess, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DockerfileParser } from 'dockerfile-ast';
import { spawnTied } from '../../src/base/tied-process.ts';

export interface Instruction {
  readonly keyword: string;
  /** Without flags. What is copied from another stage has an absolute path. */
  readonly text: string;
}

/** The instructions of each stage, FROM first. */
export function stagesOf(file: string): Instruction[][] {
  const stages: Instruction[][] = [];
  for (const instruction of DockerfileParser.parse(readFileSync(file, 'utf8')).getInstructions()) {
    const keyword = instruction.getKeyword();
    if (keyword === 'FROM') stages.push([]);
    const text = instruction.getRawArgumentsContent() ?? '';
    stages.at(-1)?.push({ keyword, text: text.replace(/\\\n\s*/g, '') });
  }
  return stages;
}

export function allOf(stage: readonly Instruction[], keyword: string): string[] {
  return stage.filter((instruction) => instruction.keyword === keyword).map(({ text }) => text);
}

/** COPY, with sources in `from` and the target in `to`. A target that ends in a slash is a folder. */
export function copy(text: string, from: string, to: string, workdir: string): void {
  const words = text.split(/\s+/);
  const target = join(to, words.at(-1)!.startsWith('/') ? '' : workdir, words.at(-1)!);
  const sources = words.slice(0, -1);
  for (const source of sources) {
    const isFolder = !/\.\w+$|LICENSE$/.test(source);
    const into = words.at(-1)!.endsWith('/') && !isFolder ? join(target, source.split('/').at(-1)!) : target;
    mkdirSync(dirname(into), { recursive: true });
    cpSync(join(from, source), into, { recursive: true, verbatimSymlinks: true });
  }
}

/** What the base image has, taken from this machine: programs and libraries, and Node.js where that image has it. */
export function layBase(tree: string): void {
  for (const folder of ['usr/local/bin', 'proc', 'dev', 'tmp', 'etc'])
    mkdirSync(join(tree, folder), { recursive: true });
  chmodSync(join(tree, 'tmp'), 0o1777);
  for (const folder of SYSTEM) {
    mkdirSync(join(tree, 'usr', folder), { recursive: true });
    if (existsSync(join('/', folder))) symlinkSync(`usr/${folder}`, join(tree, folder));
  }
  cpSync(process.execPath, join(tree, 'usr/local/bin/node'));
}

const SYSTEM = ['bin', 'sbin', 'lib', 'lib64'].filter((folder) => existsSync(join('/usr', folder)));

export interface Container {
  readonly user: string;
  readonly workdir: string;
  readonly readOnly: boolean;
  readonly env: Readonly<Record<string, string>>;
}

const AS_BUILT: Container = { user: '0:0', workdir: '/', readOnly: false, env: {} };

/** Mounts what a container has, and becomes the program, as process 1. */
const ENTER = `
set -e
tree=$1 user=$2 workdir=$3 readonly=$4; shift 4
mount --bind "$tree" "$tree"
for folder in ${SYSTEM.join(' ')}; do mount --bind "/usr/$folder" "$tree/usr/$folder"; done
mount -t proc proc "$tree/proc"
mount --bind /dev "$tree/dev"
if [ "$readonly" = true ]; then
  mount -t tmpfs -o uid=\${user%:*},gid=\${user#*:},mode=0700 tmpfs "$tree/data"
  mount -o remount,ro,bind "$tree"
fi
exec chroot --userspec="$user" "$tree" sh -c 'cd "$0" && exec "$@"' "$workdir" "$@"
`;

function entering(tree: string, { user, workdir, readOnly, env }: Container, command: readonly string[]) {
  const enter = ['sh', '-c', ENTER, 'sh', tree, user, workdir, String(readOnly), ...command];
  const args = ['--mount', '--pid', '--fork', '--kill-child', ...enter];
  const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return { args, env: { PATH, HOME: '/home/node', ...env } };
}

/** RUN, in the tree. */
export function build(tree: string, command: string): void {
  const { args, env } = entering(tree, AS_BUILT, ['sh', '-c', command]);
  const { status, stderr } = spawnSync('unshare', args, { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`RUN ${command}: ${stderr}`);
}

/** Starts what a container would. */
export function start(tree: string, container: Container, command: readonly string[]): ChildProcess {
  const { args, env } = entering(tree, container, command);
  return spawnTied('unshare', args, { env, signal: 'KILL' });
}

/** The id, on this machine, of the container's process 1. The process that ties it to us started earlier. */
export function firstProcessOf({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').at(-1));
}
