/** The table of stores says what the runs on them wrote. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SINKS } from '../sinks/index.ts';
import { ROOT, serverTests, testFiles } from './projects.ts';

interface StoreTests {
  readonly store: string;
  readonly tests: readonly string[];
}

interface Result {
  readonly store: string;
  readonly version: string;
  readonly from: string;
  readonly passed: number;
  readonly skipped: number;
  readonly failed: number;
}

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const stores: readonly StoreTests[] = JSON.parse(read('test/store-tests.json'));
const results: readonly Result[] = JSON.parse(read('test/stores.json'));

describe('the tests of stores', () => {
  test.each(stores.flatMap(({ tests }) => tests))('%s starts servers', (path) => {
    expect(serverTests()).toContain(path);
  });

  test('are those of every kind of sink that a store can be run for here', () => {
    const listed = new Set(stores.flatMap(({ tests }) => tests));
    const withServers = testFiles().filter(
      (file) =>
        Object.keys(SINKS).some((kind) => file === `test/sinks/${kind}.test.ts`) &&
        serverTests().includes(file),
    );
    // The receiver of OTLP is a stand-in.
    expect(withServers.filter((file) => !listed.has(file))).toEqual(['test/sinks/otlp.test.ts']);
  });
});

describe('the table', () => {
  test('has the numbers of every run', () => {
    const [, table = ''] = /<!-- tested -->\n([\s\S]*?)<!-- \/tested -->/.exec(read('docs/stores.md')) ?? [];
    const rows = results.map(
      ({ store, version, from, passed, failed, skipped }) =>
        `| ${store} | ${version} | ${from} | ${passed} | ${failed} | ${skipped} |`,
    );
    expect(table.trim().split('\n').slice(2)).toEqual(rows);
  });

  test('has each store of the list', () => {
    const tried = results.map(({ store }) => store);
    expect(stores.map(({ store }) => store).filter((store) => !tried.includes(store))).toEqual([]);
  });
});
