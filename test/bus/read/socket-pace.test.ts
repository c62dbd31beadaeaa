/** When the socket of plain NATS is read. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PACE_MS, TICK_MS } from '../../../src/bus/read/pull.ts';
import { SocketPace } from '../../../src/bus/read/socket-pace.ts';
import { FakeSocket } from './fake-socket.ts';

const MESSAGE_BYTES = 200;

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => vi.useRealTimers());

function paced(mayPause = () => true) {
  const socket = new FakeSocket();
  let ticks = 0;
  const pace: SocketPace = new SocketPace({
    socket: socket.reading,
    mayPause,
    tick: () => {
      ticks += 1;
      expect(socket.isStopped).toBe(false);
      expect(socket.waiting).toBe(0);
    },
  });
  socket.onRead = (messages) => {
    pace.readChunk();
    for (let i = 0; i < messages; i++) pace.readMessage(MESSAGE_BYTES);
  };
  /** Messages every so often, for so long. Returns how often the socket was read. */
  const run = async (everyMs: number, forMs: number, burst = 1) => {
    const before = socket.reads;
    for (let at = 0; at < forMs; at += everyMs) {
      socket.arrive(burst);
      await vi.advanceTimersByTimeAsync(everyMs);
    }
    return socket.reads - before;
  };
  return { socket, pace, run, ticks: () => ticks };
}

test('where few messages come, each is read as it comes', async () => {
  const { socket, run } = paced();
  expect(await run(50, 2_000)).toBe(40);
  expect(socket.longestWaitMs).toBe(0);
});

test('where many come, they are read at a pace, none later than it allows, and ticks come as ever', async () => {
  const { socket, run, ticks } = paced();
  await run(1, 2 * TICK_MS);
  const before = ticks();
  const reads = await run(1, 2_000);
  expect(reads).toBe(2_000 / PACE_MS);
  expect(socket.longestWaitMs).toBe(PACE_MS);
  expect(ticks() - before).toBe(2_000 / TICK_MS);
});

test('no more waits than the buffer holds: with more messages pauses are shorter, and with very many there are none', async () => {
  const { socket, run } = paced();
  await run(1, 2 * TICK_MS, 10);
  socket.mostWaiting = 0;
  expect(await run(1, 2_000, 10)).toBeLessThan(100);
  expect(socket.mostWaiting * MESSAGE_BYTES).toBeLessThanOrEqual(64 * 1024);
  await run(1, 2 * TICK_MS, 100);
  expect(await run(1, 1_000, 100)).toBe(1_000);
});

test('after a burst in a pause, everything is read as it comes until the next tick', async () => {
  const { socket, run } = paced();
  await run(1, 2 * TICK_MS + 1);
  socket.arrive(2_000);
  await vi.advanceTimersByTimeAsync(PACE_MS);
  expect(socket.waiting).toBe(0);
  expect(await run(1, 100)).toBe(100);
});

test('when it is quiet again, nothing waits', async () => {
  const { socket, run } = paced();
  await run(1, 2 * TICK_MS);
  await vi.advanceTimersByTimeAsync(2 * TICK_MS);
  expect(socket.isStopped).toBe(false);
  socket.longestWaitMs = 0;
  expect(await run(40, 1_000)).toBe(25);
  expect(socket.longestWaitMs).toBe(0);
});

test('it is not stopped when it may not be, and not after the end', async () => {
  let mayPause = false;
  const { socket, run, pace, ticks } = paced(() => mayPause);
  await run(1, 2 * TICK_MS);
  expect(await run(1, 500)).toBe(500);
  mayPause = true;
  await run(1, TICK_MS);
  expect(await run(1, 500)).toBeLessThan(50);
  pace.stop();
  expect(socket.isStopped).toBe(false);
  const before = ticks();
  expect(await run(1, 500)).toBe(500);
  expect(ticks()).toBe(before);
});
