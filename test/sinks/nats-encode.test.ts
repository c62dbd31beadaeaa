/** What becomes of a point on the bus, and what of a stream when windows are written, corrected and removed. Pure. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePoint, type Encoded, encodePoint, encodeRemoval, keyOf } from '../../sinks/nats/encode.ts';
import { publishAll } from '../../sinks/nats/publish.ts';
import { storedWindows } from '../../sinks/nats/stored-windows.ts';
import { subjectOf } from '../../sinks/nats/subject.ts';
import type { Point } from '../../src/aggregate/point.ts';
import { isCovered } from '../../src/bus/subjects.ts';
import type { BusReading, BusStream, SinkBus, StoredMessage } from '../../src/sink/bus-port.ts';
import {
  differences,
  HOSTILE_TEXTS,
  LOOKALIKES,
  makePoint,
  START,
  WINDOW_MS,
} from '../conformance/points.ts';
import { effort } from '../effort.ts';

const NEVER = new AbortController().signal;
const config = { subject: 'fanout.windows', format: 'json', delivery: 'stream' } as const;
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom('.', '%', ' ', '*', '>', '2', 'E', ',', '=', '\\', 'ü', '\ud800', '\udc00'),
  }),
  fc.constantFrom(...HOSTILE_TEXTS),
);
const present = text.filter((given) => given !== '');
const number = fc.double({ noNaN: true, noDefaultInfinity: true });

const anyPoint = fc
  .record({
    name: present,
    type: fc.constantFrom('counter' as const, 'gauge' as const, 'timer' as const),
    dimensions: fc.uniqueArray(fc.tuple(present, present), { selector: ([key]) => key, maxLength: 4 }),
    windowStart: fc.constantFrom(0, START, START + WINDOW_MS),
    instance: text,
    values: fc.record({ count: fc.nat({ max: 1e9 }), sum: number, min: number, p99: number }),
  })
  .map((parts) => makePoint(parts));

/** The message as a reader of the stream gets it. */
const stored = ({ headers, body }: Pick<Encoded, 'headers' | 'body'>, sequence = 1): StoredMessage => ({
  sequence,
  body,
  header: (name) => headers[name] ?? '',
});

describe('a message', () => {
  it.each(['json', 'influx'] as const)(
    'as %s says all of the point, in headers that NATS takes',
    (format) => {
      const property = (point: Point) => {
        const message = encodePoint(point, { ...config, format });
        // JSON has no negative zero.
        const zeros = format === 'json' ? (one: number, other: number) => one === other : undefined;
        expect(differences([decodePoint(stored(message))!], [point], zeros)).toEqual([]);
        for (const value of Object.values(message.headers)) expect(value).toMatch(/^[!-~]+$/);
        expect(message.id).toMatch(/^[!-~]{1,100}$/);
        expect(keyOf(stored(message))?.text).toBe(message.key);
      };
      fc.assert(fc.property(anyPoint, property), { numRuns: effort(300) });
    },
  );

  it('has another id for other values, and another key for anything that tells points apart', () => {
    const messages = LOOKALIKES.map((parts) => encodePoint(makePoint(parts), config));
    expect(new Set(messages.map(({ key }) => key)).size).toBe(LOOKALIKES.length);
    const [one, same, corrected] = [1, 1, 2].map((sum) =>
      encodePoint(makePoint({ values: { sum } }), config),
    );
    expect(same!.id).toBe(one!.id);
    expect(corrected!.key).toBe(one!.key);
    expect(corrected!.id).not.toBe(one!.id);
  });

  it('of somebody else is no point', () => {
    const { headers } = encodePoint(makePoint(), config);
    for (const body of ['', 'null', '{}', '[]', '1', 'x y z', '{"type":"counter"}'])
      expect(decodePoint(stored({ headers, body: Buffer.from(body) }))).toBeUndefined();
    for (const series of ['', 'x', 'F'.repeat(32)])
      expect(keyOf(stored({ headers: { ...headers, series }, body: Buffer.from('') }))).toBeUndefined();
  });
});

describe('a subject', () => {
  it('has tokens that NATS takes, and tells all names apart', () => {
    const property = (one: string, other: string) => {
      const subjects = [one, other].map((name) => subjectOf('w', name));
      for (const subject of subjects) expect(subject).toMatch(/^w(?:\.[!-)+-\-/-=?-~]+)+$/);
      expect(subjects[0] === subjects[1]).toBe(one === other);
    };
    fc.assert(fc.property(text, text, property), { numRuns: effort(1000) });
  });

  it.each([
    ['http.requests', 'w.http.requests'],
    ['HTTP_requests-2/s', 'w.HTTP_requests-2/s'],
    ['a b*>%', 'w.a%20b%2A%3E%25'],
    ['.a..b.', 'w.%.a.%.b.%'],
    ['', 'w.%'],
    ['Zürich', 'w.Z%C3%BCrich'],
    ['\ud800', 'w.%uD800'],
  ])('of %j is %s', (name, subject) => expect(subjectOf('w', name)).toBe(subject));
});

/** A stream as JetStream has it: an id is taken once as long as it is remembered. */
class MemoryStream implements SinkBus {
  readonly isClosed = false;
  readonly maxPayloadBytes = 1024;
  readonly #ids = new Map<string, number>();
  #stored: StoredMessage[] = [];
  readonly #subjects = new Map<number, string>();
  #last = 0;
  /** Messages handed out at once. */
  looks = 0;

  async refuseLoop(): Promise<void> {}

  async streamOf(subject = 'fanout.windows.>'): Promise<BusStream> {
    const lastTime = this.#stored.length === 0 ? undefined : START + 100 * WINDOW_MS;
    return {
      name: 'W',
      created: 'now',
      stored: [subject],
      lastSequence: this.#last,
      lastTime,
      maxMessageBytes: undefined,
    };
  }

  async publish(message: Pick<Encoded, 'subject' | 'headers' | 'body'>) {
    const id = message.headers['Nats-Msg-Id']!;
    const known = this.#ids.get(id);
    if (known !== undefined) return { kind: 'stored', sequence: known, duplicate: true } as const;
    this.#last += 1;
    this.#ids.set(id, this.#last);
    this.#subjects.set(this.#last, message.subject);
    this.#stored.push(stored(message, this.#last));
    return { kind: 'stored', sequence: this.#last, duplicate: false } as const;
  }

  send(): void {}
  async flush(): Promise<void> {}
  async close(): Promise<void> {}

  async *messages({ stream, from, to, headersOnly = false }: BusReading): AsyncGenerator<StoredMessage> {
    this.looks += 1;
    const first = from !== undefined && 'sequence' in from ? from.sequence : 0;
    const isMeant = (sequence: number) => isCovered(this.#subjects.get(sequence)!, stream.stored);
    const found = this.#stored.filter(
      ({ sequence }) => sequence >= first && sequence <= to && isMeant(sequence),
    );
    for (const message of found) yield headersOnly ? { ...message, body: new Uint8Array() } : message;
  }

  forgetIds(): void {
    this.#ids.clear();
  }

  purge(): void {
    this.#stored = [];
  }
}

const pointOf = (key: number, value: number) =>
  makePoint({
    name: `name${key % 3}`,
    dimensions: [['k', `${key >> 1}`]],
    windowStart: START + (key % 2) * WINDOW_MS,
    values: { sum: value },
  });

describe('a stream of windows', () => {
  it('holds what was written last, whatever came before and whatever the stream remembers', async () => {
    const key = fc.nat({ max: 5 });
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ do: fc.constant('write' as const), key, value: fc.nat({ max: 2 }) }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('remove' as const), key }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('forget' as const, 'purge' as const) }) },
    );
    const property = async (
      steps: readonly { do: string; key?: number; value?: number }[],
      maxHeld: number,
    ) => {
      const bus = new MemoryStream();
      const truth = new Map<number, Point>();
      const publish = async (message: Encoded) =>
        expect(await publishAll(bus, await bus.streamOf(), [message], NEVER)).toEqual([]);
      for (const { do: what, key: at = 0, value = 0 } of steps) {
        const point = pointOf(at, value);
        if (what === 'write') await publish(encodePoint(point, config));
        else if (what === 'remove') await publish(encodeRemoval(point, config));
        else if (what === 'forget') bus.forgetIds();
        else bus.purge();
        if (what === 'write') truth.set(at, point);
        else if (what === 'remove') truth.delete(at);
        else if (what === 'purge') truth.clear();
      }
      const range = { from: START, to: START + 2 * WINDOW_MS };
      const rows = await Array.fromAsync(storedWindows(bus, await bus.streamOf(), range, NEVER, maxHeld));
      expect(differences(rows, [...truth.values()])).toEqual([]);
    };
    const steps = fc.array(step, { maxLength: 25 });
    await fc.assert(fc.asyncProperty(steps, fc.integer({ min: 1, max: 8 }), property), {
      numRuns: effort(300),
    });
  });

  it('takes a batch that it has already once, after one look, and a new one after none', async () => {
    const bus = new MemoryStream();
    const messages = Array.from({ length: 50 }, (_, key) => encodePoint(pointOf(key, 1), config));
    await publishAll(bus, await bus.streamOf(), messages, NEVER);
    expect(bus.looks).toBe(0);
    await publishAll(bus, await bus.streamOf(), messages, NEVER);
    expect(bus.looks).toBe(1);
    expect((await bus.streamOf()).lastSequence).toBe(50);
  });
});
