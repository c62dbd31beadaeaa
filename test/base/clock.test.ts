import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';

test('a turn for other work is enough for many connections: the event loop takes one in each round', async () => {
  let accepted = 0;
  const server = createServer((socket) => {
    accepted += 1;
    socket.destroy();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  // The system has established them all when they are connected, whether or not the server has taken them.
  const sockets = Array.from({ length: 100 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  await once(sockets.at(-1)!, 'connect');
  const before = accepted;
  await systemClock.nextTurn();
  expect(accepted - before).toBeGreaterThan(5);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});
