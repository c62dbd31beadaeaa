/** Which test files are `unit` and which are `servers`: one rule decides it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { LONG } from './longest-first.ts';
import { ROOT, serverTests, sourceReader, testFiles, wayToProcesses } from './projects.ts';

const files: Record<string, string> = {
  'src/servers/nats.ts': '',
  'src/pure.ts': '',
  'src/control/child.ts': `import { fork } from 'node:child_process';`,
  'src/main.ts': `import { child } from './control/child.ts';`,
  'test/help.ts': `import { pure } from '../src/pure.ts';`,
  'test/start.ts': `import {\n  type A,\n  startNats,\n} from '../src/servers/nats.ts';`,
  'test/again.ts': `export * from './start.ts';`,
};

test.each([
  [`import { pure } from '../src/pure.ts';`, undefined],
  [`import { help } from './help.ts';`, undefined],
  [`import { program } from '../src/main.ts';`, undefined],
  [`import type { Nats } from '../src/servers/nats.ts';`, ['src/servers/nats.ts']],
  [`import { spawn } from 'node:child_process';`, ['node:child_process']],
  // In two parts, or this file itself would be in `servers`.
  [`const { startNats } = await import${`('../src/servers/nats.ts')`};`, ['src/servers/nats.ts']],
  [`import { startNats } from './start.ts';`, ['test/start.ts', 'src/servers/nats.ts']],
  [`import './again.ts';`, ['test/again.ts', 'test/start.ts', 'src/servers/nats.ts']],
  [`import { child } from '../src/control/child.ts';`, ['src/control/child.ts', 'node:child_process']],
])('%s', (text, way) => {
  const all: Record<string, string> = { ...files, 'test/a.test.ts': text };
  const found = wayToProcesses('test/a.test.ts', (path) => all[path]);
  expect(found?.slice(1)).toEqual(way);
});

const starting = serverTests();
const pure = testFiles().filter((file) => !starting.includes(file));

async function projectsWith(second: string | undefined) {
  vi.stubEnv('FANOUT_SECOND_NATS_SERVER', second);
  vi.resetModules();
  const { default: config } = await import('../vitest.config.ts');
  vi.unstubAllEnvs();
  return config.test!.projects!.map((project) => {
    const { name, include, exclude = [], env = {} } = (project as { test: Record<string, unknown> }).test;
    return { name, include, exclude, env };
  });
}

test('the project `servers` has the files that start processes, and `unit` all others', async () => {
  expect(await projectsWith(undefined)).toEqual([
    { name: 'unit', include: ['test/**/*.test.ts'], exclude: starting, env: {} },
    { name: 'servers', include: starting, exclude: [], env: {} },
  ]);
  expect(starting.every((file) => existsSync(join(ROOT, file)))).toBe(true);
  expect(Math.min(starting.length, pure.length)).toBeGreaterThan(30);
});

test('with a second nats-server, the tests of the bus run on it as well', async () => {
  const [, , again, ...others] = await projectsWith('/another/nats-server');
  expect(others).toEqual([]);
  expect(again).toMatchObject({ exclude: [], env: { FANOUT_NATS_SERVER: '/another/nats-server' } });
  expect(starting).toEqual(expect.arrayContaining(again!.include as string[]));
  expect(again!.include).toEqual(
    expect.arrayContaining(['test/bus/read/watch.test.ts', 'test/chaos/cluster.test.ts']),
  );
});

test('this file and the rules of the house are unit tests; end-to-end tests are not', () => {
  for (const file of ['test/projects.test.ts', 'test/house.test.ts'])
    expect(wayToProcesses(file, sourceReader()), file).toBeUndefined();
  expect(pure.filter((file) => file.startsWith('test/e2e/'))).toEqual([]);
});

test('the files that begin first are there', () => {
  expect(testFiles()).toEqual(expect.arrayContaining([...LONG]));
});
