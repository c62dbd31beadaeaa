/** A thread that connects to a socket many times, with a request each, while the main thread is blocked. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { workerData } from 'node:worker_threads';

export interface CrowdData {
  readonly socketPath: string;
  /** In this order. */
  readonly paths: readonly string[];
  /** [0] turns to 1 when the server's end has all of it. */
  readonly done: Int32Array<SharedArrayBuffer>;
}

const { socketPath, paths, done } = workerData as CrowdData;
for (const path of paths) {
  const socket = connect(socketPath);
  await once(socket, 'connect');
  await new Promise((resolve) => socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`, resolve));
}
Atomics.store(done, 0, 1);
Atomics.notify(done, 0);
