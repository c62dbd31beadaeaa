/**
 * The image, without a container engine: the Dockerfile's own instructions run in a bare tree. This machine lends what
 * the base image would have (`layBase`). Not tested: the base image itself, and `npm ci` from the registry. The
 * packages of this clone stand in for it.
 */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { VERSION } from '../src/base/version.ts';
import { type NatsServer, startNats } from '../src/servers/nats.ts';
import { freePort, temporaryFolder } from '../src/servers/server-process.ts';
import {
  allOf,
  build,
  type Container,
  copy,
  firstProcessOf,
  layBase,
  stagesOf,
  start,
} from './image/dockerfile.ts';

const root = join(import.meta.dirname, '..');
const [base, builder, final] = stagesOf(join(root, 'Dockerfile')) as [Stage, Stage, Stage];
type Stage = ReturnType<typeof stagesOf>[number];

/** Mounting and changing the root need a superuser, and not every container allows it even to that one. */
const mayMount =
  spawnSync('unshare', ['--mount', '--pid', '--fork', 'mount', '--bind', '/tmp', '/tmp']).status === 0;
const MAX_TREE_BYTES = 12_000_000;
const POLL_MS = 50;

test('the base is a pinned Node.js 24, the user is a number other than 0, and version and license are stated', () => {
  expect(allOf(base, 'FROM')).toEqual([
    expect.stringMatching(/^node:24\.\d+\.\d+-\w+-slim(@sha256:[0-9a-f]{64})? AS base$/),
  ]);
  expect(allOf(final, 'FROM')).toEqual(['base']);
  expect(allOf(final, 'USER')).toEqual([expect.stringMatching(/^[1-9]\d*:[1-9]\d*$/)]);
  expect(allOf(final, 'STOPSIGNAL')).toEqual(['SIGTERM']);
  expect(allOf(final, 'ARG')).toContain(`VERSION=${VERSION}`);
  expect(allOf(final, 'LABEL').join()).toContain('org.opencontainers.image.licenses="Apache-2.0"');
});

test.each([
  ['the young heap', /--max-semi-space-size=\d+/],
  ['the old heap', /--max-old-space-size=\d+/],
  ['what each thread has of Node.js', /--no-node-snapshot/],
  ['what goes back to the system', /MALLOC_MMAP_THRESHOLD_\W+\d+/],
  ['pools of free memory', /MALLOC_ARENA_MAX\W+\d+/],
])('%s has the same bound in the image, in npm start, in tests and in the documents', (_, bound) => {
  const [dockerfile, ...others] = [
    'Dockerfile',
    'package.json',
    'src/servers/fanout-program.ts',
    'docs/sizing.md',
    'docs/operations.md',
  ].map((path) => bound.exec(readFileSync(join(root, path), 'utf8'))?.[0].replaceAll(/[: ']+/g, '='));
  expect(dockerfile).toBeDefined();
  for (const other of others) expect(other).toBe(dockerfile);
});

/** The build context, by .dockerignore: it excludes everything except what it names. */
test('the build context is exactly what the Dockerfile copies', () => {
  const [first, ...rest] = readFileSync(join(root, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  expect(first).toBe('*');
  const copied = [...allOf(builder, 'COPY'), ...allOf(final, 'COPY')]
    .filter((text) => !text.startsWith('/build/'))
    .flatMap((text) => text.split(/\s+/).slice(0, -1));
  expect(rest.map((line) => line.slice(1)).sort()).toEqual([...new Set(copied)].sort());
  expect(rest.every((line) => line.startsWith('!'))).toBe(true);
});

describe.runIf(mayMount)('the built image', () => {
  const folder = temporaryFolder('image');
  const context = join(folder.path, 'build');
  const tree = join(folder.path, 'tree');
  const container: Container = {
    user: allOf(final, 'USER')[0]!,
    workdir: allOf(final, 'WORKDIR')[0]!,
    readOnly: true,
    env: Object.fromEntries(allOf(final, 'ENV').map((text) => /^(\w+)="?(.*?)"?$/.exec(text)!.slice(1))),
  };
  const parsed = (keyword: string) => JSON.parse(/\[.*\]/.exec(allOf(final, keyword)[0]!)![0]) as string[];
  const entrypoint = parsed('ENTRYPOINT');
  let nats: NatsServer;

  beforeAll(async () => {
    nats = await startNats();
    for (const text of allOf(builder, 'COPY')) copy(text, root, folder.path, 'build');
    symlinkSync(join(root, 'node_modules'), join(context, 'node_modules'));
    execFileSync('npm', ['run', 'build'], { cwd: context, stdio: 'pipe' });
    layProductionModules(join(folder.path, 'node_modules'));
    execFileSync('rm', [join(context, 'node_modules')]);
    execFileSync('mv', [join(folder.path, 'node_modules'), context]);
    const [, slimmed] = allOf(builder, 'RUN').map((text) => /&& (find .*)$/.exec(text)?.[1]);
    execFileSync('sh', ['-c', slimmed!], { cwd: context });
    layBase(tree);
    for (const { keyword, text } of final) {
      if (keyword === 'RUN') build(tree, text);
      if (keyword === 'COPY' && text.startsWith('/build/')) copy(text, folder.path, tree, '/');
      else if (keyword === 'COPY') copy(text, root, tree, '/');
    }
  });
  afterAll(async () => {
    await nats?.stop();
    folder.remove();
  });

  it('is small, and has no packages for development', () => {
    const modules = readdirSync(join(tree, 'app/node_modules'));
    expect(modules).toContain('nats');
    for (const name of ['typescript', 'vitest', 'dynalite', 'node', '.bin'])
      expect(modules).not.toContain(name);
    const sizes = readdirSync(join(tree, 'app'), { recursive: true, encoding: 'utf8' }).map(
      (path) => statSync(join(tree, 'app', path)).size,
    );
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(MAX_TREE_BYTES);
  });

  it('runs unprivileged on a read-only tree, is healthy, and exits with 0 on SIGTERM', async () => {
    const port = await freePort();
    const env = { ...container.env, NATS_URL: nats.url, HTTP_HOST: '127.0.0.1', HTTP_PORT: String(port) };
    const own = { ...container, env };
    const service = started(start(tree, own, [...entrypoint, ...parsed('CMD')]));
    await until(
      () =>
        fetch(`http://127.0.0.1:${port}/readyz`).then(
          ({ ok }) => ok,
          () => false,
        ),
      service,
    );
    const first = firstProcessOf(service.child);
    const status = readFileSync(`/proc/${first}/status`, 'utf8');
    expect(status).toMatch(/^NSpid:\t.*\t1$/m);
    expect(status).toMatch(/^Uid:\t1000\t/m);
    expect(spawnSync('touch', [`/proc/${first}/root/app/x`]).status).not.toBe(0);
    const check = started(start(tree, own, parsed('HEALTHCHECK')));
    expect(await check.ended, check.output()).toBe(0);
    process.kill(first, 'SIGTERM');
    expect(await service.ended, service.output()).toBe(0);
    expect(service.output()).toContain('"msg":"stopped"');
    const late = started(start(tree, own, parsed('HEALTHCHECK')));
    expect(await late.ended, late.output()).toBe(1);
  });

  it('ends on SIGTERM even if the command does not handle it', async () => {
    const mute = createServer(() => {}).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const asked = once(mute, 'connection');
    const { port } = mute.address() as { port: number };
    const env = { ...container.env, NATS_URL: `nats://127.0.0.1:${port}` };
    const check = started(start(tree, { ...container, env }, [...entrypoint, 'check']));
    await Promise.race([asked, check.ended]);
    process.kill(firstProcessOf(check.child), 'SIGTERM');
    expect(await check.ended, check.output()).toBe(143);
    mute.close();
  });
});

/** As `npm prune --omit=dev` leaves them. */
function layProductionModules(target: string): void {
  const listed = spawnSync('npm', ['ls', '--all', '--parseable', '--omit=dev'], {
    cwd: root,
    encoding: 'utf8',
  });
  const paths = listed.stdout.split('\n').filter((path) => path.startsWith(join(root, 'node_modules/')));
  for (const path of paths) {
    // What is nested comes with its parent.
    const name = relative(join(root, 'node_modules'), path);
    if (!name.includes('/node_modules/'))
      cpSync(path, join(target, name), { recursive: true, verbatimSymlinks: true });
  }
}

function started(child: ChildProcess) {
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return { child, ended, output: () => output };
}

async function until(
  ready: () => Promise<boolean>,
  { ended, output }: ReturnType<typeof started>,
): Promise<void> {
  const over = ended.then((code) => {
    throw new Error(`ended with ${code}: ${output()}`);
  });
  over.catch(() => {});
  while (!(await Promise.race([ready(), over]))) await sleep(POLL_MS);
}
