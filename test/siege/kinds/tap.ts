/** What `tail` and `top` are to the bus, if nobody reads what they print. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { passwordOf } from '../../e2e/bus-users.ts';
import type { Kind } from './kind.ts';

const TAPS = 2;
/** After the server has cut one off. */
const AGAIN_MS = 2_000;

/** Resolves when the server has ended the connection, or `signal` aborts. */
async function tapOnce(url: string, signal: AbortSignal): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const ended = new Promise<void>((resolve) => socket.once('close', resolve));
  socket.on('error', () => {});
  const stop = () => socket.destroy();
  signal.addEventListener('abort', stop);
  const options = JSON.stringify({ user: 'fanout', pass: passwordOf('fanout'), verbose: false });
  socket.write(`CONNECT ${options}\r\nSUB metrics.> 1\r\nPING\r\n`);
  socket.pause();
  // Only what is written shows that the other end is gone: nothing is read.
  const beat = setInterval(() => socket.write('PING\r\n'), AGAIN_MS);
  await ended;
  clearInterval(beat);
  signal.removeEventListener('abort', stop);
}

const kind: Kind = {
  tries: 'taps on all metrics that read nothing of what they get',
  async run({ bus }, signal) {
    let done = 0;
    const tap = async () => {
      for (; !signal.aborted; await sleep(AGAIN_MS)) {
        done++;
        await tapOnce(bus.url, signal);
      }
    };
    await Promise.all(Array.from({ length: TAPS }, tap));
    return { done, counts: {}, refused: 0, wrong: {} };
  },
};
export default kind;
