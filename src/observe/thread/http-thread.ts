/**
 * The thread that owns the HTTP port. It answers health by itself, so that the answer takes no longer when the main
 * thread has much to do, and asks the main thread for what only that knows. It imports little, because each module
 * takes memory.
 */
import type { AddressInfo } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { errorText } from '../../base/error-text.ts';
import { addressesOf } from '../../base/every-address.ts';
import { keepHeapSmall } from '../../base/garbage.ts';
import { Heartbeat } from '../../base/heartbeat.ts';
import { hideEnvironment } from '../../base/hidden-environment.ts';
import { Audience } from '../audience.ts';
import { AllowedHosts } from '../http-hosts.ts';
import { listenOnFirst, makeServer } from '../http-listener.ts';
import { MainThread } from './main-thread.ts';
import type { FromHttpThread, HttpThreadData, ToHttpThread } from './messages.ts';

hideEnvironment();
// Node.js makes an error whenever a peer leaves before its answer. The stack would take longer than the answer.
Error.stackTraceLimit = 0;
const { host, port, allowedHosts, page, maxBodyBytes, waitLimits, heartbeat, taken } =
  workerData as HttpThreadData;
const mainHeartbeat = new Heartbeat(heartbeat);
const stillMs = () => mainHeartbeat.silentMs;
const now = Date.now;
const post = (message: FromHttpThread) => parentPort!.postMessage(message);
const mainThread = new MainThread({ post, stillMs, now, limits: waitLimits });
let tell: ((event: string) => void) | undefined;

const audience = new Audience({
  opening: (left) => mainThread.ask({ kind: 'opening' }, left),
  subscribe(send) {
    tell = send;
    post({ kind: 'subscribe' });
    return () => {
      tell = undefined;
      post({ kind: 'unsubscribe' });
    };
  },
});

const server = makeServer({
  routing: {
    entrance: 'tcp',
    hosts: new AllowedHosts(host, allowedHosts),
    page,
    hasControl: maxBodyBytes !== undefined,
    stillMs,
    now,
  },
  maxBodyBytes: maxBodyBytes ?? 0,
  audience,
  ask: (call, left) => mainThread.ask(call, left),
});

parentPort!.on('message', (message: ToHttpThread) => {
  switch (message.kind) {
    case 'reply':
      mainThread.take(message.number, message.reply);
      break;
    case 'event':
      Atomics.add(taken, 0, 1);
      tell?.(message.event);
      break;
    default:
      message satisfies never;
  }
});

try {
  await listenOnFirst(server, addressesOf(host), port);
  post({ kind: 'listening', port: (server.address() as AddressInfo).port });
  keepHeapSmall();
} catch (error) {
  post({ kind: 'cannot_listen', reason: errorText(error) });
}
