/** Requests over connections that a server ends at the moment when they are used again. */
import type { RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { HttpServer, onLiveConnection, transportFailure } from '../../src/sink/http.ts';
import { endAfterEach, startStandIn } from '../sinks/stand-in.ts';

const NEVER = new AbortController().signal;
const atEnd = endAfterEach();
let requests = 0;
afterEach(() => {
  requests = 0;
});

async function serverOf(listener: RequestListener): Promise<HttpServer> {
  const url = await startStandIn((incoming, outgoing) => {
    requests++;
    listener(incoming, outgoing);
  }, atEnd);
  const server = new HttpServer(url, {}, 4);
  atEnd(() => server.close());
  return server;
}

describe('a kept connection', () => {
  it('that the server ends when it is used again: the request is sent on another one', async () => {
    const used = new Set<Socket>();
    const server = await serverOf((incoming, outgoing) => {
      if (used.has(incoming.socket)) incoming.socket.destroy();
      else outgoing.end('yes');
      used.add(incoming.socket);
    });
    for (let i = 0; i < 5; i++) {
      expect((await server.post('/', { body: 'a' }, NEVER)).body.toString()).toBe('yes');
    }
    expect(requests).toBe(9);
  });

  it('and all others, each time: the request fails after three of them', async () => {
    const server = await serverOf((incoming) => incoming.socket.destroy());
    await expect(server.post('/', { body: 'a' }, NEVER)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(requests).toBe(3);
  });

  it('that ends in the middle of an answer: the request fails, because the answer has begun', async () => {
    const server = await serverOf((_, outgoing) => {
      outgoing.writeHead(200, { 'content-length': 100 }).write('some');
      setImmediate(() => outgoing.destroy());
    });
    await expect(server.post('/', { body: 'a' }, NEVER)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(requests).toBe(1);
  });
});

describe('onLiveConnection', () => {
  const failing = (error: Error) => async () => {
    requests++;
    throw error;
  };

  it('sends nothing again after another error, or after the signal', async () => {
    const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    await expect(onLiveConnection(failing(refused), NEVER)).rejects.toBe(refused);
    const reset = Object.assign(new Error('reset'), { code: 'ECONNRESET' });
    await expect(onLiveConnection(failing(reset), AbortSignal.abort())).rejects.toBe(reset);
    expect(requests).toBe(2);
  });
});

it('TLS to a plain port: the failure says which address would do', async () => {
  const url = await startStandIn((_, outgoing) => outgoing.end(), atEnd);
  const server = new HttpServer(url.replace('http:', 'https:'), {}, 1);
  atEnd(() => server.close());
  const error = await server.post('/', { body: 'a' }, NEVER).catch((reason: unknown) => reason);
  expect(transportFailure(error, NEVER)).toMatchObject({
    reason: 'connection',
    message: expect.stringContaining('use http:// instead of https://'),
  });
});
