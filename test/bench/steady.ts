/** Whether the service's memory grows, over a long time at a steady rate. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startServiceProgram } from '../../src/servers/service-program.ts';
import { startStack } from '../../src/servers/stack.ts';
import { startChild } from './children.ts';
import { type Figure, figure, median, memoryOf } from './measure.ts';

const SERIES = 1_000;
const MINUTE_MS = 60_000;
const LOOK_EVERY_MS = 10_000;
/** What the first five minutes take does not count as growth. */
const WARM_UP_MINUTES = 5;
/** Of the rest, this many minutes at the beginning and at the end are compared. */
const COMPARED_MINUTES = 5;
const SHARE_OF_GROWTH = 1.05;
const BYTES_PER_MB = 1e6;

export interface SteadyOptions {
  readonly minutes: number;
  /** Messages a second. */
  readonly rate: number;
  readonly tell: (line: string) => void;
}

interface Look {
  readonly minute: number;
  readonly megabytes: number;
}

/** Three stores: the emulator of DynamoDB keeps everything in its own memory. */
export async function measureSteady({ minutes, rate, tell }: SteadyOptions): Promise<Figure[]> {
  const stack = await startStack();
  const service = await startServiceProgram({ ...stack.env, SINK_DYNAMODB_ENABLED: 'false' });
  const producer = await startChild('./producer.ts', [stack.nats.url, String(SERIES), 'all types']);
  try {
    const begun = performance.now();
    const minute = () => (performance.now() - begun) / MINUTE_MS;
    let isSent = false;
    const sent = producer.ask({ subject: 'metrics', messages: minutes * 60 * rate, rate }).then(() => {
      isSent = true;
    });
    const looks: Look[] = [];
    for (let reported = -1; !isSent; await Promise.race([sent, sleep(LOOK_EVERY_MS)])) {
      looks.push({ minute: minute(), megabytes: memoryOf(service.child.pid!).resident / BYTES_PER_MB });
      if (Math.floor(minute()) === reported) continue;
      reported = Math.floor(minute());
      const { messages } = await service.status();
      tell(
        `minute ${reported}: ${looks.at(-1)!.megabytes.toFixed(0)} MB, ${messages.received} messages received`,
      );
    }
    const seconds = minute() * 60;
    const { messages } = await service.status();
    return figuresOf(looks, messages.received / seconds);
  } finally {
    await producer.stop();
    await service.stop('SIGKILL');
    await stack.stop();
  }
}

function figuresOf(looks: readonly Look[], rate: number): Figure[] {
  const end = looks.at(-1)!.minute;
  const between = (from: number, to: number) =>
    looks.filter(({ minute }) => minute >= from && minute <= to).map(({ megabytes }) => megabytes);
  const first = between(WARM_UP_MINUTES, WARM_UP_MINUTES + COMPARED_MINUTES);
  const last = between(end - COMPARED_MINUTES, end);
  const what = `memory of ${Math.round(end)} minutes at ${Math.round(rate)} messages/s, three stores`;
  return [
    figure('steady', `${what}: after ${WARM_UP_MINUTES} minutes`, 'MB', first),
    figure('steady', 'at the end', 'MB', last),
    figure('steady', 'the end against the beginning', 'times', [median(last) / median(first)], {
      bar: SHARE_OF_GROWTH,
    }),
  ];
}
