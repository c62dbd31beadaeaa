/** A process that publishes what it is told to, in bursts at a steady rate. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'nats';
import { BenchMessages, type Mix } from './messages.ts';

export interface Order {
  readonly subject: string;
  readonly messages: number;
  /** Messages a second. */
  readonly rate: number;
}

const TICK_MS = 5;
const BURST_BYTES = 4 << 20;
const MAX_MESSAGE_BYTES = 512;

const [, , url, series, mix] = process.argv;
const connection = await connect({ servers: url! });
const messages = new BenchMessages(Number(series), mix as Mix);
// Two, in turn: the client may still hold the bytes of the previous burst.
const arenas = [Buffer.alloc(BURST_BYTES), Buffer.alloc(BURST_BYTES)] as const;

async function publish({ subject, messages: count, rate }: Order): Promise<void> {
  const start = performance.now();
  let sent = 0;
  for (let turn = 0; sent < count; turn++) {
    const due = Math.min(count, Math.floor(((performance.now() - start) * rate) / 1000));
    const burst = Math.min(due - sent, Math.floor(BURST_BYTES / MAX_MESSAGE_BYTES));
    const arena = arenas[turn % 2]!;
    const now = Date.now();
    let at = 0;
    for (let i = 0; i < burst; i++) {
      const end = messages.write(arena, at, now);
      connection.publish(subject, arena.subarray(at, end));
      at = end;
    }
    sent += Math.max(0, burst);
    await connection.flush();
    await sleep(TICK_MS);
  }
}

process.on('message', (order: Order) => {
  void publish(order).then(() => process.send!('done'));
});
process.on('disconnect', () => process.exit());
process.send!('ready');
