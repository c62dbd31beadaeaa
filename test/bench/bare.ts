/**
 * What the service is compared with, in a process of its own: `count` only counts what a plain subscription of the
 * client delivers; `obvious` aggregates it in the obvious way.
 */
import { connect } from 'nats';

const [, , url, subject, kind] = process.argv;
const WINDOW_MS = 10_000;

interface Cell {
  count: number;
  sum: number;
}

let received = 0;
let windows = new Map<number, Map<string, Cell>>();

function aggregate(payload: Uint8Array): void {
  const { name, type, value, dimensions, timestamp } = JSON.parse(Buffer.from(payload).toString());
  const start = Math.floor(Date.parse(timestamp) / WINDOW_MS) * WINDOW_MS;
  const key = `${name} ${type} ${JSON.stringify(dimensions)}`;
  let window = windows.get(start);
  if (window === undefined) {
    window = new Map();
    windows = new Map([...windows, [start, window] as const].slice(-2));
  }
  const cell = window.get(key);
  if (cell === undefined) {
    window.set(key, { count: 1, sum: value });
  } else {
    cell.count++;
    cell.sum += value;
  }
}

const connection = await connect({ servers: url! });
connection.subscribe(subject!, {
  callback: (_error, message) => {
    received++;
    if (kind === 'obvious') aggregate(message.data);
  },
});
await connection.flush();
process.on('message', () => process.send!(received));
process.on('disconnect', () => process.exit());
process.send!('ready');
