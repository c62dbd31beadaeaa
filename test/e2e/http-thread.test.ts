/** The running service when the thread of its HTTP port ends. */
import { createServer } from 'node:net';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import { loadConfig } from '../../src/config/config.ts';
import { type NatsServer, startNats } from '../../src/servers/nats.ts';
import { type Service, startService } from '../../src/service/start.ts';

let nats: NatsServer;
let workers: Worker[];
let errors: { readonly message: string; readonly fields: object }[];
let onError: () => void;
let stop: AbortController;
const noteWorker = (worker: Worker) => workers.push(worker);

beforeAll(async () => {
  nats = await startNats();
});
afterAll(() => nats?.stop());
beforeEach(() => {
  [workers, errors, stop, onError] = [[], [], new AbortController(), () => {}];
  process.on('worker', noteWorker);
});
afterEach(() => {
  process.off('worker', noteWorker);
  stop.abort();
});

async function start(): Promise<Service> {
  const config = await loadConfig({
    NATS_URL: nats.url,
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: '0',
    CONTROL_SOCKET: 'off',
    SINK_HOLE_ENABLED: 'true',
    SINK_HOLE_KIND: 'blackhole',
  });
  const error = (fields: object, message: string) => {
    errors.push({ message, fields });
    onError();
  };
  const log: Log = { debug() {}, info() {}, warn() {}, error };
  return await startService(config, log, stop.signal);
}

test('another one takes its place, and the log says so', async () => {
  const service = await start();
  const codes = async () => {
    const ask = async (path: string) => (await fetch(`http://127.0.0.1:${service.port}${path}`)).status;
    return await Promise.all(['/healthz', '/readyz', '/metrics'].map(ask)).catch(() => []);
  };
  await expect.poll(codes).toEqual([200, 200, 200]);
  // That of the port is the first one.
  await workers[0]!.terminate();
  await expect.poll(codes).toEqual([200, 200, 200]);
  expect(errors).toEqual([
    { message: expect.stringContaining('HTTP'), fields: { reason: expect.stringContaining('ended') } },
  ]);
  stop.abort();
  await service.done;
});

test('if somebody else has the port by then, the service ends with an error that says so', async () => {
  const service = await start();
  const thief = createServer();
  onError = () => thief.listen(service.port, '127.0.0.1');
  try {
    await workers[0]!.terminate();
    await expect(service.done).rejects.toMatchObject({
      name: 'ListenError',
      message: expect.stringContaining(`127.0.0.1:${service.port}`),
      advice: expect.stringContaining('HTTP_PORT'),
    });
  } finally {
    thief.close();
  }
});
