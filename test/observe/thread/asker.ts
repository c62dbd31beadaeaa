/** A thread that asks for one path after another while the main thread is blocked, until an answer has a given code. */
import { get } from 'node:http';
import { parentPort, workerData } from 'node:worker_threads';

export interface AskerData {
  readonly port: number;
  readonly path: string;
  readonly until: number;
  /** [0] turns to 1 when the answer is there. */
  readonly done: Int32Array<SharedArrayBuffer>;
}

const { port, path, until, done } = workerData as AskerData;

function ask(): void {
  get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
    let text = '';
    response.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    response.on('end', () => {
      if (response.statusCode !== until) return ask();
      parentPort!.postMessage(text);
      Atomics.store(done, 0, 1);
      Atomics.notify(done, 0);
    });
  }).on('error', ask);
}

// Not before the main thread waits for the answer, and so does nothing else.
Atomics.wait(done, 1, 0);
ask();
