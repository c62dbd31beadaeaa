import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Most of a test's time it waits for real servers: two forks leave half of two processors idle.
    maxWorkers: 3,
    passWithNoTests: false,
  },
});
