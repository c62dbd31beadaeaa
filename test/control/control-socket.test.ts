/** The control socket of a real HTTP server: who can open it, what it replaces, and what it leaves alone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Heartbeat } from '../../src/base/heartbeat.ts';
import { ask } from '../../src/base/http-client.ts';
import type { Log } from '../../src/base/log.ts';
import { HttpWay } from '../../src/control/client.ts';
import { findControlSocket, openControlSocket } from '../../src/control/control-socket.ts';
import type { Entrance } from '../../src/observe/http-routes.ts';
import { type HttpOptions, type ServiceHttp, serveHttp } from '../../src/observe/http-server.ts';
import type { Status } from '../../src/observe/status.ts';
import { startProgram } from '../../src/servers/fanout-program.ts';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { LIMIT_MS } from '../limits.ts';

const folder = temporaryFolder('control-socket-test');
afterAll(() => folder.remove());

const services: ServiceHttp[] = [];
const lines: { level: string; message: string; path?: string; error?: string }[] = [];
const line = (level: string) => (fields: object, message: string) =>
  lines.push({ level, message, ...fields });
const log: Log = { debug() {}, info: line('info'), warn: line('warn'), error: line('error') };
let entrances: Entrance[] = [];
let temporary: string;
let made = 0;

beforeEach(() => {
  lines.length = 0;
  entrances = [];
  // The default socket is created in the temporary folder.
  temporary = join(folder.path, `tmp-${made++}`);
  mkdirSync(temporary);
  vi.stubEnv('TMPDIR', temporary);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(services.splice(0).map((service) => service.close()));
});

async function serve(options: Partial<HttpOptions> = {}): Promise<ServiceHttp> {
  const http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    allowedHosts: undefined,
    clock: { now: Date.now },
    unready: () => undefined,
    status: () => ({}) as Status,
    metrics: async () => '',
    metricsType: 'text/plain',
    heartbeat: new Heartbeat(),
    events: { opening: () => Buffer.from('opening'), subscribe: () => () => {} },
    control: {
      maxBodyBytes: 1000,
      answer: async ({ headers }, entrance) => {
        entrances.push(entrance);
        const body = JSON.stringify({ instance: 'one', pipeline: 'p', ok: true, result: headers });
        return { code: 200, type: 'application/json', body };
      },
    },
    replaced: (reason) => expect.unreachable(reason),
    ...options,
  });
  services.push(http);
  return http;
}

const auto = { controlSocket: 'auto', pipeline: 'default' };
const at = (path: string) => ({ controlSocket: path, pipeline: 'default' });
const modeOf = (path: string) => lstatSync(path).mode & 0o777;
const ownFolder = () => join(temporary, `metrics-fanout-${process.getuid!()}`);

describe('by default', () => {
  test('it is in a folder that only the user can open, and is gone after a stop', async () => {
    const http = await serve();
    await openControlSocket(http, auto, log);
    const path = join(ownFolder(), `default-${http.port}.sock`);
    expect(lines).toEqual([{ level: 'info', message: 'control socket opened', path }]);
    expect([modeOf(dirname(path)), modeOf(path)]).toEqual([0o700, 0o600]);
    expect(findControlSocket({ ...auto, httpPort: http.port })).toBe(path);
    expect(findControlSocket({ ...auto, httpPort: 1 })).toBeUndefined();
    expect(
      findControlSocket({ controlSocket: 'off', pipeline: 'default', httpPort: http.port }),
    ).toBeUndefined();

    const options = { token: 'a token that it is not told', socketPath: path, timeoutMs: LIMIT_MS };
    const [reply] = await new HttpWay('http://unresolvable.example', 'p', options).ask('all', 'status', {});
    expect(reply).toMatchObject({ instance: 'one', via: 'socket', body: { ok: true } });
    expect(JSON.stringify(reply)).not.toContain('a token');
    const url = `http://127.0.0.1:${http.port}`;
    await new HttpWay(url, 'p', { token: undefined, timeoutMs: LIMIT_MS }).ask('all', 'status', {});
    expect(entrances).toEqual(['socket', 'tcp']);
    await http.close();
    services.length = 0;
    expect(existsSync(path)).toBe(false);
  });

  test('a umask that allows everything changes nothing', async () => {
    const umask = process.umask(0);
    try {
      const http = await serve();
      await openControlSocket(http, auto, log);
      expect([modeOf(ownFolder()), modeOf(lines[0]!.path!)]).toEqual([0o700, 0o600]);
      expect(process.umask()).toBe(0);
    } finally {
      process.umask(umask);
    }
  });

  test.each<[string, () => void]>([
    ['a folder that others may write to', () => mkdirSync(ownFolder()) ?? chmodSync(ownFolder(), 0o770)],
    ['a link to a folder', () => symlinkSync(folder.path, ownFolder())],
    ['a file', () => writeFileSync(ownFolder(), '')],
    ['a temporary folder that does not exist', () => vi.stubEnv('TMPDIR', join(temporary, 'absent'))],
    ['a path that is too long', () => vi.stubEnv('TMPDIR', join(temporary, 'x'.repeat(100)))],
  ])('%s: no socket is opened, and the log says so; ctl does not trust it either', async (_, prepare) => {
    prepare();
    const http = await serve();
    await openControlSocket(http, auto, log);
    expect(lines).toMatchObject([{ level: 'warn', message: expect.stringContaining('CONTROL_SOCKET') }]);
    expect((await ask(`http://127.0.0.1:${http.port}/healthz`, within())).status).toBe(200);
    expect(findControlSocket({ ...auto, httpPort: http.port })).toBeUndefined();
  });

  test('ctl does not use a socket that somebody else may have put there', async () => {
    const http = await serve();
    await openControlSocket(http, auto, log);
    chmodSync(ownFolder(), 0o777);
    expect(findControlSocket({ ...auto, httpPort: http.port })).toBeUndefined();
  });
});

/** Leaves a socket on which nobody listens any longer. */
async function leaveSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script, path]), 'close');
  expect(lstatSync(path).isSocket()).toBe(true);
}

const within = () => ({ signal: AbortSignal.timeout(LIMIT_MS) });

describe('at a path that is set', () => {
  test('it replaces a socket that a killed process left, and nothing else', async () => {
    const path = join(temporary, 'control.sock');
    await leaveSocket(path);
    const first = await serve();
    await openControlSocket(first, at(path), log);
    expect(modeOf(path)).toBe(0o600);

    const second = await serve();
    await expect(openControlSocket(second, at(path), log)).rejects.toMatchObject({
      name: 'ListenError',
      message: expect.stringContaining('another process listens there'),
      advice: expect.stringContaining('CONTROL_SOCKET'),
    });
    expect((await ask('http://a/livez', { socketPath: path, ...within() })).status).toBe(200);

    const file = join(temporary, 'a file');
    writeFileSync(file, 'content');
    await expect(openControlSocket(second, at(file), log)).rejects.toThrow('something else');
    expect(lstatSync(file).size).toBe(7);
    await expect(openControlSocket(second, at('/proc/control.sock'), log)).rejects.toThrow(
      '/proc/control.sock',
    );
  });

  test('with off, there is none', async () => {
    await openControlSocket(await serve(), at('off'), log);
    expect([lines, existsSync(ownFolder())]).toEqual([[], false]);
  });

  test('ctl skips a socket on which nobody listens', async () => {
    const path = join(temporary, 'dead.sock');
    await leaveSocket(path);
    const env = { NATS_URL: 'nats://127.0.0.1:1', CONTROL_SOCKET: path };
    const program = startProgram(['ctl', 'status'], env);
    expect(await program.ended).toBe(1);
    expect(program.output.stderr).toContain('127.0.0.1:1');
  });
});

test('ctl shows what the service says in place of an answer', async () => {
  const control = { maxBodyBytes: 1000, answer: () => new Promise<never>(() => {}) };
  const { port } = await serve({ control, waitLimits: { readyMs: 1, otherMs: 1 } });
  const way = new HttpWay(`http://127.0.0.1:${port}`, 'p', { token: undefined, timeoutMs: LIMIT_MS });
  await expect(way.ask('all', 'status', {})).rejects.toThrow(
    'the main thread has not answered within 0.001 s. What was asked may still be done',
  );
});
