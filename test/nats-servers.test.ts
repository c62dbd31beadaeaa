/** The page about versions of nats-server says what the runs on them wrote, and what the tests ask for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, serverTests, testFiles } from './projects.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const page = read('docs/nats-servers.md');
const lists: { readonly always: readonly string[]; readonly onRequest: readonly string[] } = JSON.parse(
  read('test/bus-tests.json'),
);
const results: Record<
  string,
  { readonly passed: number; readonly skipped: number; readonly failed: number }
> = JSON.parse(read('test/nats-servers.json'));
/** Of the server that `npm test` runs the tests of the bus on once more. */
const [, newer = ''] = /==(\S+)/.exec(read('src/servers/nats-server.requirements.txt')) ?? [];
const minor = (version: string) => version.split('.').slice(0, 2).join('.');

describe('the tests of the bus', () => {
  const listed = [...lists.always, ...lists.onRequest];
  const starting = serverTests();

  test.each(listed)('%s starts servers', (path) => {
    expect(starting.some((file) => file.startsWith(path))).toBe(true);
  });

  test('each is listed once', () => {
    for (const file of testFiles())
      expect(listed.filter((path) => file.startsWith(path)).length, file).toBeLessThan(2);
  });
});

describe('the page', () => {
  test('has the numbers of every run, none of which failed', () => {
    const [, table = ''] = /<!-- tested -->\n([\s\S]*?)<!-- \/tested -->/.exec(page) ?? [];
    const rows = Object.entries(results).map(
      ([version, { passed, skipped }]) => `| ${version} | ${passed} | ${skipped} |`,
    );
    expect(table.trim().split('\n').slice(2)).toEqual(rows);
    expect(Object.values(results).filter(({ failed }) => failed > 0)).toEqual([]);
  });

  test('goes from the oldest to the newest of them, and so does the README', () => {
    const versions = Object.keys(results).map(minor);
    expect(versions).toContain(minor(newer));
    const range = `nats-server ${versions[0]} to ${versions.at(-1)}`;
    expect(page).toContain(range);
    expect(read('README.md').replace(/[[\]]/g, '')).toContain(range);
  });

  test('names every version that a test asks for', () => {
    const asked = serverTests().flatMap((file) =>
      [...read(file).matchAll(/needsNats\(context, '([\d.]+)'\)/g)].map(([, version]) => version!),
    );
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.filter((version) => !page.includes(`| ${version} |`))).toEqual([]);
  });
});
