import { defineConfig } from 'vitest/config';
import { LIMIT_MS, TEST_LIMIT_MS } from './test/limits.ts';
import { LongestFirst } from './test/longest-first.ts';
import { serverTests } from './test/projects.ts';

const servers = serverTests();

export default defineConfig({
  test: {
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
    expect: { poll: { timeout: LIMIT_MS } },
    // Most of a test's time it waits for real servers: so few forks as processors leave half of these idle.
    maxWorkers: 4,
    passWithNoTests: false,
    sequence: { sequencer: LongestFirst },
    projects: [
      // They change nothing that others see: no need for a process each, which would take a third of the time.
      {
        extends: true,
        test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: servers, isolate: false },
      },
      { extends: true, test: { name: 'servers', include: servers } },
    ],
  },
});
