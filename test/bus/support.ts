/** Shared by the tests of the bus. */

import type { SubscriptionOptions } from 'nats';
import { expect } from 'vitest';
import type { Log } from '../../src/base/log.ts';
import type { Bus } from '../../src/bus/connect.ts';
import { connect } from '../../src/bus/connect.ts';
import type { FrameSink } from '../../src/bus/frames.ts';
import type { Envelope } from '../../src/bus/message.ts';
import { createJetStreamSource } from '../../src/bus/read/jetstream.ts';
import type { Gap, Reader, ReadFrom } from '../../src/bus/read/source.ts';
import { manager } from '../../src/bus/stream.ts';
import { CORE_SETTINGS, type CoreConfig } from '../../src/config/core-settings.ts';
import type { RawMessage } from '../../src/decode/raw-message.ts';
import { readSettings, type SettingError } from '../../src/settings/setting.ts';
import { LIMIT_MS } from '../limits.ts';

export interface Line {
  readonly level: string;
  readonly fields: object;
  readonly message: string;
}

/** A log that keeps its lines in memory. */
export function memoryLog(): Log & { readonly lines: Line[] } {
  const lines: Line[] = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields, message });
  };
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Set if all messages are to be received by the client alone. */
const RECEIVE = process.env.FANOUT_TEST_RECEIVE;

/** The settings as the service reads them. */
export function settings(env: Record<string, string>): CoreConfig {
  const errors: SettingError[] = [];
  const given = {
    METRICS_STREAM_MAX_BYTES: '512MiB',
    ...(RECEIVE === undefined ? {} : { METRICS_RECEIVE: RECEIVE }),
    ...env,
  };
  const core = readSettings(CORE_SETTINGS, '', given, errors, []);
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
  return core;
}

export async function busAt(url: string): Promise<Bus> {
  return connect(settings({ NATS_URL: url }), memoryLog());
}

/** Creates the stream without the protection from purges. */
export async function makePurgeable(
  bus: Bus,
  { metricsStream: name, metricsSubjects }: CoreConfig,
): Promise<void> {
  await (await manager(bus)).streams.add({ name, subjects: [...metricsSubjects] });
}

/** A reader that records everything it gets. */
export class Recorder implements Reader {
  readonly sequences: number[] = [];
  readonly payloads: string[] = [];
  readonly times: number[] = [];
  readonly encodings: (string | undefined)[] = [];
  readonly progressTimes: number[] = [];
  readonly gaps: Gap[] = [];
  hold: ((streamTime: number) => void | Promise<void>) | undefined;
  onMessage: ((sequence: number) => void) | undefined;

  message({ bytes, start, end, streamTime, sequence }: RawMessage, envelope?: Envelope): void {
    this.sequences.push(sequence);
    this.payloads.push(Buffer.from(bytes.subarray(start, end)).toString());
    this.times.push(streamTime);
    this.encodings.push(envelope?.encoding);
    this.onMessage?.(sequence);
  }

  progress(streamTime: number): void | Promise<void> {
    this.progressTimes.push(streamTime);
    return this.hold?.(streamTime);
  }

  gap(gap: Gap): void {
    this.gaps.push(gap);
  }
}

/** From now on, the reader asks the source to wait. The returned function lets it go on. */
export function holding(reader: Recorder): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  reader.hold = () => promise;
  return () => {
    reader.hold = undefined;
    resolve();
  };
}

export type Reading = ReturnType<typeof startReading>;

/** Reads a stream until `stop` is called, which settles as the reading does. */
export function startReading(bus: Bus, core: CoreConfig, start: ReadFrom, reader = new Recorder()) {
  const abort = new AbortController();
  const { signal } = abort;
  const source = createJetStreamSource(bus, core, { start });
  const run = source.run(reader, signal);
  const stop = () => {
    abort.abort();
    return run;
  };
  return { source, reader, signal, run, stop };
}

export async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + LIMIT_MS;
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Publishes the numbers `from`..`to` (exclusive) as payloads; resolves when the server has read them. */
export async function publishNumbers(bus: Bus, from: number, to: number, subject = 'metrics'): Promise<void> {
  for (let i = from; i < to; i++) {
    bus.connection.publish(subject, String(i));
    if (i % 5000 === 4999) await bus.flush();
  }
  await bus.flush();
}

/** From nats-server 2.11 on, messages may be dropped if more than 10,000 wait for a stream. */
const MAX_WAITING = 5_000;

/** The same, but resolves when the stream holds them. The server reads ahead, and stores them one by one. */
export async function publishStored(bus: Bus, from: number, to: number, subject = 'metrics'): Promise<void> {
  for (let last = from; last < to; ) {
    const first = last;
    last = Math.min(to, first + MAX_WAITING);
    await publishNumbers(bus, first, last - 1, subject);
    await bus.connection.jetstream().publish(subject, String(last - 1), { timeout: LIMIT_MS });
  }
}

export function expectMonotone(times: readonly number[]): void {
  expect(times.findIndex((time, i) => i > 0 && time < times[i - 1]!)).toBe(-1);
}

export function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** The bus, except that the messages selected by `isLost` do not arrive. */
export function losing(
  bus: Bus,
  isLost: () => boolean,
  isStatusLost: (code: number, inbox: string) => boolean = () => false,
): Bus {
  const connection = new Proxy(bus.connection, {
    get(target, name) {
      if (name !== 'subscribe') return Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name);
      return (subject: string, options: SubscriptionOptions) =>
        target.subscribe(subject, {
          ...options,
          callback: (error, message) => {
            const lost = message.reply ? isLost() : isStatusLost(message.headers?.code ?? 0, message.subject);
            if (!lost) options.callback?.(error, message);
          },
        });
    },
  });
  const frames = bus.frames && {
    listen: (sid: number, sink: FrameSink) =>
      bus.frames!.listen(sid, {
        ...sink,
        frame: (...args) => {
          if (!isLost()) sink.frame(...args);
        },
      }),
  };
  return new Proxy(bus, {
    get: (target, name) => {
      if (name === 'connection') return connection;
      if (name === 'frames') return frames;
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
