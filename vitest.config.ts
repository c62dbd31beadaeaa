import { defineConfig } from 'vitest/config';
import { LIMIT_MS, TEST_LIMIT_MS } from './test/limits.ts';
import { LongestFirst } from './test/longest-first.ts';
import { busTests, serverTests } from './test/projects.ts';

const servers = serverTests();
/** `npm test` runs the tests of the bus on this nats-server too. */
const second = process.env.FANOUT_SECOND_NATS_SERVER;
const onSecond = { name: 'second nats-server', include: busTests(servers) };

export default defineConfig({
  test: {
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
    expect: { poll: { timeout: LIMIT_MS } },
    // For two thirds of its time a test waits for real servers: so few forks as processors leave most of these idle.
    maxWorkers: 5,
    passWithNoTests: false,
    sequence: { sequencer: LongestFirst },
    projects: [
      // They change nothing that others see: no need for a process each, which would take a third of the time.
      {
        extends: true,
        test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: servers, isolate: false },
      },
      { extends: true, test: { name: 'servers', include: servers } },
      ...(second === undefined
        ? []
        : [{ extends: true as const, test: { ...onSecond, env: { FANOUT_NATS_SERVER: second } } }]),
    ],
  },
});
