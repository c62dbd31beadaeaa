/** What an author of a sink outside of this project does: installs the packed package into an empty folder. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../src/servers/server-process.ts';

const run = promisify(execFile);
/** Tests of the conformance suite for a store without a network. There are more; their number changes. */
const TESTS_AT_LEAST = 30;

const scratch = temporaryFolder('acme');
const project = join(scratch.path, 'acme-sink');

/** Without what vitest and npm have set for this run. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|VITEST|NODE_ENV|SINK_)/.test(name)),
);
const inProject = (command: string, args: string[], more: Record<string, string> = {}) =>
  run(command, args, { cwd: project, env: { ...env, ...more } });

beforeAll(async () => {
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', scratch.path], { env });
  cpSync('examples/acme-sink', project, { recursive: true });
  const tarball = join(scratch.path, stdout.trim().split('\n').at(-1)!);
  // With our versions, which npm has in its cache. To choose others, it would ask for the lists of 200 packages.
  const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
  lock.packages[''] = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  writeFileSync(join(project, 'package-lock.json'), JSON.stringify(lock));
  const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  const install = (from: string) => inProject('npm', ['install', from, ...quiet, tarball]);
  await install('--offline').catch(() => install('--prefer-offline'));
});

afterAll(() => scratch.remove());

describe('a sink outside of the project', () => {
  it('passes the conformance suite that the package exports', async () => {
    await inProject('npx', ['vitest', 'run', '--reporter=json', '--outputFile=report.json']);
    const report = JSON.parse(readFileSync(join(project, 'report.json'), 'utf8'));
    expect(report).toMatchObject({ success: true, numFailedTests: 0 });
    expect(report.numPassedTests).toBeGreaterThan(TESTS_AT_LEAST);
  });

  it('fails the suite if it has a fault', async () => {
    const file = join(project, 'sink.js');
    const text = readFileSync(file, 'utf8');
    try {
      writeFileSync(file, text.replace('Number(name) < to', 'Number(name) <= to'));
      const failing = inProject('npx', ['vitest', 'run', '-t', 'returns the windows of the half-open range']);
      await expect(failing).rejects.toMatchObject({ stdout: expect.stringMatching(/1 failed/) });
    } finally {
      writeFileSync(file, text);
    }
  });

  it('gets its types from the package', async () => {
    // It says on standard output what is wrong.
    const failure = await inProject('npx', ['tsc']).then(
      () => undefined,
      (error) => `${error}${error.stdout}`,
    );
    expect(failure).toBeUndefined();
  });

  it('is loaded by path and as a package', async () => {
    mkdirSync(join(project, 'node_modules/@acme'), { recursive: true });
    symlinkSync(project, join(project, 'node_modules/@acme/sink'), 'dir');
    for (const kind of ['./sink.js', '@acme/sink']) {
      const { stdout } = await inProject('npx', ['metrics-fanout', 'config'], {
        SINK_ACME_ENABLED: 'true',
        SINK_ACME_KIND: kind,
        SINK_ACME_FOLDER: '/tmp/somewhere',
      });
      expect(stdout).toContain('enabled sinks: acme (acme)');
    }
  });
});
