import { describe, expect, it } from 'vitest';
import { METRIC_TYPES } from '../../src/aggregate/point.ts';
import { catalogSeries, goDimensions, goString } from '../../src/load/catalog.ts';
import { seededRandom, shuffled, Zipf } from '../../src/load/random.ts';
import { MAX_TRAFFIC_MESSAGE_BYTES, Traffic, type TrafficOptions } from '../../src/load/traffic.ts';

const windows = { windowMs: 10_000, latenessMs: 2_000, maxAheadMs: 1_000 };
const options: TrafficOptions = {
  seed: 7,
  series: 500,
  skew: 1,
  types: { counter: 8, gauge: 1, timer: 1 },
  late: 0.02,
  ahead: 0.03,
  windows,
};
const NOW = Date.UTC(2026, 10, 23, 1, 30);

interface Message {
  name: string;
  type: string;
  value: number;
  dimensions: Record<string, unknown>;
  timestamp: string;
}

function texts(count: number, changes: Partial<TrafficOptions> = {}, clock = (_i: number) => NOW): string[] {
  const traffic = new Traffic({ ...options, ...changes });
  const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
  return Array.from({ length: count }, (_, i) =>
    target.toString('utf8', 0, traffic.write(target, 0, clock(i))),
  );
}

function messages(count: number, changes: Partial<TrafficOptions> = {}): Message[] {
  return texts(count, changes).map((text) => JSON.parse(text));
}

describe('Traffic', () => {
  it('is determined by the seed', () => {
    expect(texts(2_000)).toEqual(texts(2_000));
    expect(texts(2_000)).not.toEqual(texts(2_000, { seed: 8 }));
  });

  it('gives the same samples and relative timestamps whatever the clock says', () => {
    const relative = (clock: (i: number) => number) =>
      texts(2_000, {}, clock).map((text, i) => {
        const { timestamp, ...rest } = JSON.parse(text) as Message;
        return [rest, Date.parse(timestamp) - clock(i), /\.\d{3}(\d*)/.exec(timestamp)?.[1] ?? ''];
      });
    expect(relative(() => NOW + 123)).toEqual(relative((i) => NOW + 999_123 + i * 1_000));
  });

  it('writes what Go would: field order, sorted keys, escapes, timestamps', () => {
    const shape =
      /^\{"name":"[^"]+","type":"(counter|gauge|timer)","value":-?[0-9.]+,"dimensions":\{.*\},"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{0,8}[1-9])?Z"\}$/;
    for (const text of texts(5_000)) {
      expect(text).toMatch(shape);
      expect(text).not.toMatch(/[<>&]/);
      const message: Message = JSON.parse(text);
      const keys = Object.keys(message.dimensions);
      expect(keys).toEqual(keys.toSorted());
    }
  });

  it('cuts the trailing zeros of a timestamp, and the fraction if it is 0', () => {
    const atZero = (ms: number) => {
      const traffic = new Traffic({ ...options, late: 0, ahead: 0 }, () => 0);
      const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
      return JSON.parse(target.toString('utf8', 0, traffic.write(target, 0, ms))).timestamp;
    };
    expect(atZero(NOW)).toBe('2026-11-23T01:30:00Z');
    expect(atZero(NOW + 120)).toBe('2026-11-23T01:30:00.12Z');
    expect(atZero(NOW + 5)).toBe('2026-11-23T01:30:00.005Z');
  });

  it('never exceeds its bound', () => {
    const longest = Math.max(
      ...texts(20_000, { series: 100_000, skew: 0 }).map((text) => Buffer.byteLength(text)),
    );
    expect(longest).toBeLessThan(MAX_TRAFFIC_MESSAGE_BYTES - 100);
  });

  it('keeps to the weights of the types', () => {
    const sent = messages(20_000);
    const share = (type: string) => sent.filter((message) => message.type === type).length / sent.length;
    expect(share('counter')).toBeCloseTo(0.8, 1);
    expect(share('gauge')).toBeCloseTo(0.1, 1);
    expect(
      messages(1_000, { types: { counter: 0, gauge: 0, timer: 2 } }).every(({ type }) => type === 'timer'),
    ).toBe(true);
  });

  it('keeps to the shares of samples that are late or ahead, and these really are', () => {
    const traffic = new Traffic(options);
    const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
    const count = 20_000;
    let late = 0;
    let ahead = 0;
    let outOfOrder = 0;
    for (let i = 0; i < count; i++) {
      const now = NOW + i;
      const time = Date.parse(
        JSON.parse(target.toString('utf8', 0, traffic.write(target, 0, now))).timestamp,
      );
      const end = (Math.floor(time / windows.windowMs) + 1) * windows.windowMs;
      if (now >= end + windows.latenessMs) late++;
      else if (time > now + windows.maxAheadMs) ahead++;
      else if (time < now) outOfOrder++;
    }
    expect(traffic.totals()).toMatchObject({ late, ahead });
    expect(late / count).toBeCloseTo(options.late, 2);
    expect(ahead / count).toBeCloseTo(options.ahead, 2);
    expect(outOfOrder / count).toBeCloseTo(0.05, 2);
  });

  it('sends as many series as asked for, popular ones more often', () => {
    const identity = ({ name, type, dimensions }: Message) => JSON.stringify([name, type, dimensions]);
    const counts = new Map<string, number>();
    for (const message of messages(50_000, { series: 50 })) {
      counts.set(identity(message), (counts.get(identity(message)) ?? 0) + 1);
    }
    expect(counts.size).toBe(50);
    const [first = 0, second = 0] = [...counts.values()].sort((a, b) => b - a);
    expect(first / second).toBeCloseTo(2, 0);
    expect(new Set(messages(2_000, { series: 3 }).map(identity)).size).toBe(3);
  });

  it('says what it sent for each series', () => {
    const traffic = new Traffic(options);
    const target = Buffer.alloc(MAX_TRAFFIC_MESSAGE_BYTES);
    const sums = new Map<string, [number, number]>();
    for (let i = 0; i < 5_000; i++) {
      const { name, type, dimensions, value } = JSON.parse(
        target.toString('utf8', 0, traffic.write(target, 0, NOW)),
      );
      const key = JSON.stringify([name, type, dimensions]);
      const [count, sum] = sums.get(key) ?? [0, 0];
      sums.set(key, [count + 1, sum + value]);
    }
    const sent = [...traffic.sent()].map(({ series, count, sum }) => {
      const dimensions = JSON.parse(goDimensions(series.dimensions));
      return [JSON.stringify([series.name, series.type, dimensions]), [count, sum]];
    });
    expect(Object.fromEntries(sent)).toEqual(Object.fromEntries(sums));
  });

  it('refuses options that make no traffic', () => {
    expect(() => new Traffic({ ...options, types: { counter: 0, gauge: 0, timer: 0 } })).toThrow(RangeError);
    expect(() => new Traffic({ ...options, series: 2 })).toThrow(RangeError);
  });
});

describe('what Go writes', () => {
  it('strings: as json.Marshal of Go 1.26 wrote them', () => {
    expect(goString('/users/<id>?a=1&b=2')).toBe('"/users/\\u003cid\\u003e?a=1\\u0026b=2"');
    expect(goString('a"b\\c\t\b\u2028ü')).toBe('"a\\"b\\\\c\\t\\b\\u2028ü"');
  });

  it('dimensions: as json.Marshal of Go 1.26 wrote them', () => {
    expect(goDimensions({ b: '1', a: '2', B: 3, hit: true })).toBe('{"B":3,"a":"2","b":"1","hit":true}');
    expect(goDimensions({})).toBe('{}');
  });
});

describe('catalogSeries', () => {
  it('never gives the same series twice', () => {
    for (const type of METRIC_TYPES) {
      const seen = new Set(
        Array.from({ length: 60_000 }, (_, number) => {
          const { name, dimensions } = catalogSeries(type, number);
          return JSON.stringify([name, dimensions]);
        }),
      );
      expect(seen.size).toBe(60_000);
    }
  });
});

describe('randomness', () => {
  it('Zipf: popularity falls with the rank, evenly at exponent 0', () => {
    const shares = (exponent: number) => {
      const zipf = new Zipf(4, exponent);
      const random = seededRandom(3);
      const counts = [0, 0, 0, 0];
      for (let i = 0; i < 100_000; i++) counts[zipf.pick(random)]! += 1 / 100_000;
      return counts;
    };
    const harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4;
    for (const [rank, share] of shares(1).entries()) expect(share).toBeCloseTo(1 / (rank + 1) / harmonic, 2);
    for (const share of shares(0)) expect(share).toBeCloseTo(0.25, 2);
  });

  it('shuffled: has every number once', () => {
    expect([...shuffled(1_000, seededRandom(1))].sort((a, b) => a - b)).toEqual([...Array(1_000).keys()]);
  });
});
