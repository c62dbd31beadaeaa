import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Real servers share two cores: more forks than cores only makes every wait longer.
    maxWorkers: 2,
    passWithNoTests: false,
  },
});
