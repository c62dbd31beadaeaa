/** Whoever reaches the HTTP port. */
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ledger } from '../counts.ts';
import { atRate, type Kind } from './kind.ts';

const HOST = '127.0.0.1';
const PATHS = ['/metrics', '/api/status', '/', '/healthz', '/readyz', '/api/events'];
const get = (path: string, host = HOST) =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAccept: text/html\r\n\r\n`;

function open(port: number): Socket {
  const socket = connect(port, HOST);
  socket.on('error', () => {});
  return socket;
}

const PIPELINED = { perSecond: 3, requests: 500 };

export const pipelining: Kind = {
  tries: 'hundreds of requests in one go, and nobody there for the answers',
  async run({ httpPort }, signal) {
    const requests = Array.from({ length: PIPELINED.requests }, (_, i) => get(PATHS[i % 3]!)).join('');
    let done = 0;
    await atRate(PIPELINED.perSecond, signal, () => {
      const socket = open(httpPort);
      socket.write(requests, () => socket.destroy());
      done += PIPELINED.requests;
    });
    return { done, counts: {}, refused: 0, wrong: {} };
  },
};

const SLOW = { perSecond: 20, connections: 200 };

export const slow: Kind = {
  tries: 'connections that ask for everything and read nothing, or do not finish asking',
  async run({ httpPort }, signal) {
    const sockets: Socket[] = [];
    let done = 0;
    await atRate(SLOW.perSecond, signal, () => {
      const socket = open(httpPort);
      socket.pause();
      const path = PATHS[done % PATHS.length]!;
      socket.write(done % 2 === 0 ? get(path) : get(path).slice(0, -2));
      done++;
      sockets.push(socket);
      if (sockets.length > SLOW.connections) sockets.shift()!.destroy();
    });
    for (const socket of sockets) socket.destroy();
    return { done, counts: {}, refused: 0, wrong: {} };
  },
};

const RECONNECTING = { clients: 256, pauseMs: 1_000 };

export const reconnecting: Kind = {
  tries: '256 clients that connect, ask, leave and come again',
  async run({ httpPort }, signal) {
    let done = 0;
    const client = async (_: unknown, number: number) => {
      await sleep((number * RECONNECTING.pauseMs) / RECONNECTING.clients);
      for (; !signal.aborted; await sleep(RECONNECTING.pauseMs)) {
        const socket = open(httpPort);
        const over = new Promise((resolve) => socket.once('data', resolve).once('close', resolve));
        socket.write(get(PATHS[done++ % PATHS.length]!));
        await Promise.race([over, sleep(RECONNECTING.pauseMs)]);
        socket.destroy();
      }
    };
    await Promise.all(Array.from({ length: RECONNECTING.clients }, client));
    return { done, counts: {}, refused: 0, wrong: {} };
  },
};

const REFUSED_PER_SECOND = 30;
const FOREIGN_HOST = 421;
const TIMEOUT_MS = 20_000;

interface Asked {
  readonly path: string;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** A kind whose requests must all be answered with one of the statuses, or not at all. */
function refusedAlways(tries: string, allowed: readonly number[], next: (number: number) => Asked): Kind {
  return {
    tries,
    async run({ httpPort }, signal) {
      const wrong = new Ledger();
      let done = 0;
      await atRate(REFUSED_PER_SECOND, signal, () => {
        const { body, ...options } = next(done++);
        const asked = request({ ...options, host: HOST, port: httpPort, agent: false, timeout: TIMEOUT_MS });
        asked.on('response', (response) => {
          response.resume();
          const status = response.statusCode!;
          if (!allowed.includes(status)) wrong.add({ [`${options.method} ${options.path}: ${status}`]: 1 });
        });
        asked.on('timeout', () => asked.destroy());
        asked.on('error', () => {});
        asked.end(body);
      });
      return { done, counts: {}, refused: 0, wrong: wrong.counts() };
    },
  };
}

export const hosts = refusedAlways(
  'requests in the name of other hosts, as a page in a browser would have them sent',
  [FOREIGN_HOST],
  (number) => ({
    path: PATHS[number % PATHS.length]!,
    method: 'GET',
    headers: { host: 'elsewhere.example' },
  }),
);

const OPERATIONS = ['detach', 'sink.pause', 'replay', 'profile.heap'];
const BODIES = ['{"sink":"sqlite"}', 'x'.repeat(1_000_000), randomBytes(1000)];
const TOKENS = [
  undefined,
  '',
  'Bearer ',
  'Bearer wrong',
  `Bearer ${'x'.repeat(8_000)}`,
  'Basic b3BlcmF0b3I6',
];

export const tokens = refusedAlways(
  'control over HTTP without the token, or with a wrong one',
  // Also where the header is longer than Node.js reads.
  [401, 413, 431],
  (number) => {
    const token = TOKENS[number % TOKENS.length];
    return {
      path: `/control/all/${OPERATIONS[number % OPERATIONS.length]}`,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: token }),
      },
      body: BODIES[number % BODIES.length]!,
    };
  },
);
