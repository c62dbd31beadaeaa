/** For tests of answers: a server that says what a real one does not say on demand, and tasks for the end of a test. */
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { afterEach } from 'vitest';

/** Runs after the test, the last one first. */
export type AtEnd = (task: () => unknown) => void;

export function endAfterEach(): AtEnd {
  const tasks: (() => unknown)[] = [];
  afterEach(async () => {
    for (const task of tasks.splice(0).reverse()) await task();
  });
  return (task) => tasks.push(task);
}

/** Resolves to its URL. */
export async function startStandIn(listener: RequestListener, atEnd: AtEnd): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => server.close().closeAllConnections());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}
