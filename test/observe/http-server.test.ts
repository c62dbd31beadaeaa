/** Where the HTTP server listens, and how much work others can make the HTTP server do, counted in renderings. */
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { addressesOf } from '../../src/base/every-address.ts';
import { Heartbeat } from '../../src/base/heartbeat.ts';
import { Connections } from '../../src/observe/http-connections.ts';
import { AllowedHosts, isLoopback } from '../../src/observe/http-hosts.ts';
import { listenOnFirst } from '../../src/observe/http-listener.ts';
import { type HttpOptions, type ServiceHttp, serveHttp } from '../../src/observe/http-server.ts';
import { SharedRendering } from '../../src/observe/shared-rendering.ts';
import type { Status } from '../../src/observe/status.ts';

const PIPELINED = 2_000;
/** The limit of connections in an earlier version: with this many, it answered nobody else. */
const CROWD = 256;
const MAX_BODY_BYTES = 1000;
/** By such a clock of its heart, the main thread never seems to stand still, however busy the machine is. */
const inAnHour = () => process.hrtime.bigint() + 3_600_000_000_000n;

const sockets: Socket[] = [];
let http: ServiceHttp | undefined;
let now = 1_000_000;
let rendered = { metrics: 0, status: 0, asked: 0, listened: 0 };

async function serve(options: Partial<HttpOptions> = {}): Promise<ServiceHttp> {
  rendered = { metrics: 0, status: 0, asked: 0, listened: 0 };
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    allowedHosts: undefined,
    clock: { now: () => now },
    unready: () => undefined,
    status: () => {
      rendered.status += 1;
      return { now: `status ${rendered.status}` } as Status;
    },
    metrics: async () => {
      rendered.metrics += 1;
      return `metrics ${rendered.metrics}`;
    },
    metricsType: 'text/plain',
    heartbeat: new Heartbeat(undefined, inAnHour),
    events: {
      opening: () => {
        rendered.listened += 1;
        return Buffer.from('event');
      },
      subscribe: () => () => {},
    },
    control: {
      maxBodyBytes: MAX_BODY_BYTES,
      answer: async ({ body }) => {
        rendered.asked += 1;
        return { code: 200, type: 'text/plain', body: body === 'too_large' ? body : `asked ${body.length}` };
      },
    },
    replaced: (reason) => expect.unreachable(reason),
    ...options,
  });
  return http;
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await http?.close();
  http = undefined;
});

async function open({ port }: ServiceHttp): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

const get = (path: string, host = 'localhost') => `GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`;

/** Everything that comes until the other side ends the connection. */
async function all(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

async function answerTo(server: ServiceHttp, path: string): Promise<{ code: number; body: string }> {
  // As a probe asks: a connection that waits for the next question may be closed in favour of a crowd.
  const headers = { connection: 'close' };
  const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers });
  return { code: response.status, body: await response.text() };
}

test('a question whose client is gone is wanted by nobody any longer', async () => {
  const asked = Promise.withResolvers<AbortSignal>();
  const server = await serve({
    recent: async (_call, left) => {
      asked.resolve(left);
      await once(left, 'abort');
      return { code: 429, type: 'text/plain', body: 'gone' };
    },
  });
  const client = await open(server);
  client.write(get('/api/query?name=a'));
  const left = await asked.promise;
  expect(left.aborted).toBe(false);
  client.destroy();
  await once(left, 'abort');
  expect((await answerTo(server, '/readyz')).code).toBe(200);
});

test.each(['/', '/healthz', '/metrics', '/api/status'])(
  '%s: the answer says how long it is',
  async (path) => {
    const server = await serve();
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, {
      headers: { accept: 'text/html' },
    });
    const { byteLength } = await response.arrayBuffer();
    expect(byteLength).toBeGreaterThan(0);
    expect(response.headers.get('content-length')).toBe(`${byteLength}`);
    const head = await fetch(response.url, { method: 'HEAD', headers: { accept: 'text/html' } });
    expect(head.headers.get('content-length')).toBe(`${byteLength}`);
  },
);

describe('a connection that pipelines', () => {
  test.each(['/metrics', '/api/status', '/api/events', '/control/all/status'])(
    '%s: of two thousand requests in one write, from a client that leaves, at most one is served',
    async (path) => {
      const server = await serve();
      const socket = await open(server);
      socket.write(get(path).repeat(PIPELINED));
      socket.destroySoon();
      await once(socket, 'close');
      // Every later connection is served as if nothing had happened.
      for (let i = 0; i < 3; i++)
        expect(await answerTo(server, '/healthz')).toEqual({ code: 200, body: 'ok\n' });
      const { metrics, status, asked, listened } = rendered;
      expect(metrics + status + asked + listened).toBeLessThanOrEqual(1);
    },
  );

  test('gets the first answer, which says that the connection closes, and no second one', async () => {
    const socket = await open(await serve());
    socket.write(get('/control/all/a').repeat(3));
    const text = await all(socket);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(1);
    expect(text.toLowerCase()).toContain('connection: close');
    expect(rendered.asked).toBe(1);
  });

  test('is closed even if it receives events', async () => {
    const socket = await open(await serve());
    socket.write(get('/api/events'));
    await once(socket, 'data');
    socket.write(get('/metrics'));
    await all(socket);
    expect(rendered).toMatchObject({ listened: 1, metrics: 0 });
  });

  test('requests that wait for each other on one connection are all answered', async () => {
    const socket = await open(await serve());
    for (let i = 1; i <= 5; i++) {
      socket.write(get('/control/all/a'));
      const [chunk] = await once(socket, 'data');
      expect(String(chunk)).toContain('HTTP/1.1 200');
      expect(rendered.asked).toBe(i);
    }
  });
});

describe('one rendering', () => {
  test('is shared by all requests at once and within a second', async () => {
    const server = await serve();
    const bodies = async (path: string) => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => answerTo(server, path)));
      return [...new Set(answers.map(({ body }) => body))];
    };
    expect(await bodies('/metrics')).toEqual(['metrics 1']);
    expect(await bodies('/api/status')).toEqual(['{"now":"status 1"}\n']);
    now += 999;
    expect(await bodies('/metrics')).toEqual(['metrics 1']);
    now += 1;
    expect(await bodies('/metrics')).toEqual(['metrics 2']);
    expect(await bodies('/api/status')).toEqual(['{"now":"status 2"}\n']);
    expect(rendered).toMatchObject({ metrics: 2, status: 2 });
  });

  test('is not started again while it is running, and is discarded when the clock is set back', async () => {
    let made = 0;
    const { promise, resolve } = Promise.withResolvers<string>();
    const shared = new SharedRendering(
      () => {
        made += 1;
        return promise;
      },
      { now: () => now },
    );
    const first = shared.get();
    now += 5_000;
    const second = shared.get();
    resolve('text');
    expect([String(await first), String(await second), made]).toEqual(['text', 'text', 1]);
    now -= 10_000;
    await shared.get();
    expect(made).toBe(2);
  });

  test('that fails is shared too, and tried again a second later', async () => {
    const server = await serve({
      metrics: async () => {
        rendered.metrics += 1;
        throw new Error('no metrics today');
      },
    });
    for (let i = 0; i < 3; i++)
      expect(await answerTo(server, '/metrics')).toEqual({ code: 500, body: 'no metrics today\n' });
    expect(rendered.metrics).toBe(1);
    now += 1_000;
    await answerTo(server, '/metrics');
    expect(rendered.metrics).toBe(2);
  });

  test('is not needed for health', async () => {
    const server = await serve({
      status: () => {
        throw new Error('rendered');
      },
    });
    for (const [path, body] of [
      ['/livez', 'ok\n'],
      ['/healthz', 'ok\n'],
      ['/readyz', 'ready\n'],
    ])
      expect(await answerTo(server, path!)).toEqual({ code: 200, body });
    expect((await answerTo(server, '/')).body).toContain('/livez');
  });
});

describe('health is answered', () => {
  const healthy = async (server: ServiceHttp) => {
    for (const path of ['/livez', '/healthz', '/readyz'])
      expect((await answerTo(server, path)).code, path).toBe(200);
  };

  test('with a crowd of idle connections, and with five crowds', async () => {
    const server = await serve();
    for (let i = 0; i < 5; i++) {
      await Promise.all(Array.from({ length: CROWD }, () => open(server)));
      await healthy(server);
    }
    const left = sockets.filter(({ destroyed }) => !destroyed);
    // The oldest ones had to go.
    expect(sockets.slice(-CROWD).every(({ destroyed }) => !destroyed)).toBe(true);
    await expect.poll(() => sockets.filter(({ destroyed }) => destroyed).length).toBeGreaterThan(200);
    expect(left.length).toBeLessThanOrEqual(5 * CROWD);
  });

  test('with a crowd of connections that never read their answer', async () => {
    const server = await serve({ metrics: async () => 'x'.repeat(8_000_000) });
    for (let i = 0; i < CROWD; i++) {
      const socket = await open(server);
      socket.pause();
      socket.write(get('/metrics'));
    }
    await healthy(server);
  });

  test('while a crowd of clients connects again and again', async () => {
    const server = await serve();
    let goesOn = true;
    let connects = 0;
    const again = async () => {
      while (goesOn) {
        const socket = connect(server.port, '127.0.0.1').on('error', () => {});
        await Promise.race([once(socket, 'connect').catch(() => {}), sleep(1000)]);
        connects += 1;
        socket.destroy();
      }
    };
    const clients = Array.from({ length: CROWD }, again);
    try {
      for (let i = 0; i < 10; i++) await healthy(server);
    } finally {
      goesOn = false;
      await Promise.all(clients);
    }
    expect(connects).toBeGreaterThan(CROWD);
  });
});

test('what is sent to control arrives whole, or not at all if it is too large', async () => {
  const server = await serve();
  const post = async (bytes: number) => {
    const answer = await fetch(`http://127.0.0.1:${server.port}/control/all/status`, {
      method: 'POST',
      body: 'x'.repeat(bytes),
    });
    return await answer.text();
  };
  expect(await post(0)).toBe('asked 0');
  expect(await post(MAX_BODY_BYTES)).toBe(`asked ${MAX_BODY_BYTES}`);
  expect(await post(MAX_BODY_BYTES + 1)).toBe('too_large');
  expect(await post(1000 * MAX_BODY_BYTES)).toBe('too_large');
});

test('a port that is in use is an error with advice', async () => {
  const { port } = await serve();
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const first = http;
  await serve({ port }).catch(resolve);
  http = first;
  expect(await promise).toMatchObject({
    name: 'ListenError',
    message: expect.stringMatching(`^cannot listen on 127.0.0.1:${port}: .*EADDRINUSE`),
    advice: expect.stringContaining('HTTP_PORT'),
  });
});

describe('beyond the limit of connections', () => {
  test('the longest idle one is closed; if none is idle, the one with the oldest request', async () => {
    const connections = new Connections(3);
    const answers: ServerResponse[] = [];
    const server = createServer((request, response) => {
      if (!connections.begin(request.socket, response)) return;
      if (request.url === '/at-once') response.end();
      else answers.push(response);
    });
    server.on('connection', (socket) => connections.add(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const there = { port: (server.address() as AddressInfo).port } as ServiceHttp;
    const isGone = async (socket: Socket) => {
      socket.resume();
      if (!socket.destroyed) await once(socket, 'close');
    };
    try {
      const busy = await open(there);
      busy.write(get('/never'));
      await expect.poll(() => answers.length).toBe(1);
      const [idle, recent] = [await open(there), await open(there)];
      // `idle` sends a request after `recent` connected, and so outlives it.
      idle.write(get('/at-once'));
      await once(idle, 'data');
      const fourth = await open(there);
      await isGone(recent);
      const fifth = await open(there);
      await isGone(idle);
      expect(connections.size).toBe(3);
      for (const socket of [fourth, fifth]) socket.write(get('/never'));
      await expect.poll(() => answers.length).toBe(3);
      await open(there);
      await isGone(busy);
      expect([fourth.destroyed, fifth.destroyed, connections.size]).toEqual([false, false, 3]);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe('a Host', () => {
  const codeFor = async (server: ServiceHttp, host: string, path = '/api/status') => {
    const socket = await open(server);
    const answered = all(socket);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    const text = await answered;
    return { code: Number(text.split(' ', 2)[1]), text };
  };
  const OWN = ['localhost', 'LOCALHOST:9464', '127.0.0.1', '127.8.9.10:1', '[::1]', '[::1]:9464'];
  const NAMES = [
    'evil.example.org',
    'localhost.evil.org',
    '127.0.0.1.evil.org',
    'evil.org:9464',
    '[::1',
    'a b',
  ];
  const ADDRESSES = ['10.0.0.7:9464', '[2001:db8::1]:9464'];

  test('that is not of this machine is refused on a loopback address', async () => {
    const server = await serve();
    for (const host of OWN) expect((await codeFor(server, host)).code, host).toBe(200);
    for (const host of [...NAMES, ...ADDRESSES]) {
      const { code, text } = await codeFor(server, host);
      expect(code, host).toBe(421);
      expect(text).toContain('HTTP_ALLOWED_HOSTS');
    }
    for (const path of ['/', '/metrics', '/api/events', '/healthz', '/control/all/status'])
      expect((await codeFor(server, 'evil.example.org', path)).code, path).toBe(421);
    expect(rendered).toMatchObject({ metrics: 0, asked: 0, listened: 0 });
  });

  test('that is listed is accepted too', async () => {
    const server = await serve({ allowedHosts: new Set(['metrics.example.com', '10.0.0.7']) });
    for (const host of [...OWN, 'Metrics.Example.com:80', '10.0.0.7:9464'])
      expect((await codeFor(server, host)).code, host).toBe(200);
    for (const host of [...NAMES, '10.0.0.8', 'a.metrics.example.com'])
      expect((await codeFor(server, host)).code, host).toBe(421);
  });

  test('may be anything on other addresses; with a list, only names of this machine, listed names, addresses', async () => {
    const free = new AllowedHosts('0.0.0.0', undefined);
    for (const host of [...OWN, ...NAMES, ...ADDRESSES]) expect(free.admits(host), host).toBe(true);
    const limited = new AllowedHosts('Fanout.internal', new Set(['metrics.example.com']));
    for (const host of [...OWN, ...ADDRESSES, 'metrics.example.com', 'fanout.internal:9464'])
      expect(limited.admits(host), host).toBe(true);
    for (const host of NAMES) expect(limited.admits(host), host).toBe(false);
    expect([limited.admits(undefined), isLoopback('::1'), isLoopback('0.0.0.0')]).toEqual([
      true,
      true,
      false,
    ]);
  });
});

describe('on every address', () => {
  /** A machine without IPv6, as libuv tells of it. */
  function withoutIpv6(code: string): { server: Server; tried: () => readonly string[] } {
    const server = createServer();
    const tried: string[] = [];
    const listen = server.listen.bind(server);
    server.listen = ((where: { host: string }) => {
      tried.push(where.host);
      if (!where.host.includes(':')) return listen({ ...where, host: '127.0.0.1' });
      queueMicrotask(() => server.emit('error', Object.assign(new Error(code), { code })));
      return server;
    }) as Server['listen'];
    return { server, tried: () => tried };
  }

  test('it answers those of IPv4 and, where the machine has IPv6, those of IPv6', async () => {
    const { port } = await serve({ host: '::' });
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
    const ipv6 = await fetch(`http://[::1]:${port}/healthz`).catch((error: unknown) => error);
    const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
      all?.some(({ address }) => address === '::1'),
    );
    expect(ipv6 instanceof Response ? ipv6.status : undefined).toBe(hasIpv6 ? 200 : undefined);
  });

  test.each(['EAFNOSUPPORT', 'EADDRNOTAVAIL'])('without IPv6 it takes those of IPv4: %s', async (code) => {
    const { server, tried } = withoutIpv6(code);
    await listenOnFirst(server, addressesOf('::'), 0);
    expect(tried()).toEqual(['::', '0.0.0.0']);
    server.close();
  });

  test('any other trouble, and any other address, is the end', async () => {
    const inUse = withoutIpv6('EADDRINUSE');
    await expect(listenOnFirst(inUse.server, addressesOf('::'), 0)).rejects.toThrow('EADDRINUSE');
    const one = withoutIpv6('EADDRNOTAVAIL');
    await expect(listenOnFirst(one.server, addressesOf('::1'), 0)).rejects.toThrow('EADDRNOTAVAIL');
    expect([inUse.tried(), one.tried()]).toEqual([['::'], ['::1']]);
  });
});
