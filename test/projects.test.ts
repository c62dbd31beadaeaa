/** What is `unit` and what `servers`, by one rule and nowhere else. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import config from '../vitest.config.ts';
import { ROOT, readSource, serverTests, testFiles, wayToProcesses } from './projects.ts';

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
  [`const { startNats } = await import('../src/servers/nats.ts');`, ['src/servers/nats.ts']],
  [`import { startNats } from './start.ts';`, ['test/start.ts', 'src/servers/nats.ts']],
  [`import './again.ts';`, ['test/again.ts', 'test/start.ts', 'src/servers/nats.ts']],
  [`import { child } from '../src/control/child.ts';`, ['src/control/child.ts', 'node:child_process']],
])('%s', (text, way) => {
  const all: Record<string, string> = { ...files, 'test/a.test.ts': text };
  const found = wayToProcesses('test/a.test.ts', (path) => all[path]);
  expect(found?.slice(1)).toEqual(way);
});

test('every test file stands in one of the two, and both have some', () => {
  const [unit, servers] = config.test!.projects!.map((project) => {
    const { include, exclude = [] } = (project as { test: { include: string[]; exclude?: string[] } }).test;
    return { include, exclude };
  });
  expect(servers).toEqual({ include: serverTests(), exclude: [] });
  expect(unit).toEqual({ include: ['test/**/*.test.ts'], exclude: serverTests() });
  expect(serverTests().length).toBeGreaterThan(30);
  expect(testFiles().length - serverTests().length).toBeGreaterThan(30);
  expect(serverTests().every((file) => existsSync(join(ROOT, file)))).toBe(true);
});

test('what is unit imports nothing that starts a process, by whatever way of tests', () => {
  const unit = testFiles().filter((file) => !serverTests().includes(file));
  for (const file of unit) expect(wayToProcesses(file, readSource), file).toBeUndefined();
});
