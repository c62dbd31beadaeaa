/** Tests the sources again, with messages received only by the client (METRICS_RECEIVE=plain). */
import { afterAll } from 'vitest';

process.env.FANOUT_TEST_RECEIVE = 'plain';
afterAll(() => {
  delete process.env.FANOUT_TEST_RECEIVE;
});
await import('./core.test.ts');
await import('./jetstream.test.ts');
