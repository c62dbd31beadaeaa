import { describe, expect, it } from 'vitest';
import { formatTruthRow, readTruth, Truth, type TruthRow } from '../../src/verify/truth.ts';

const settings = { windowMs: 10_000, latenessMs: 2_000, maxAheadMs: 1_000 };
/** A window's start. */
const T = Date.UTC(2026, 10, 23, 1, 30);

interface Sent {
  at: number | null;
  time?: number;
  value?: number;
  type?: string;
  name?: string;
  dimensions?: object;
}

function truthOf(...sent: Sent[]): Truth {
  const truth = new Truth(settings);
  for (const { at, time, value = 1, type = 'counter', name = 'n', dimensions } of sent) {
    const timestamp = time === undefined ? undefined : new Date(time).toISOString();
    truth.add(Buffer.from(JSON.stringify({ name, type, value, dimensions, timestamp })), at);
  }
  return truth;
}

function windowOf(sent: Sent): number | null {
  return [...truthOf(sent).rows()][0]!.windowStart;
}

function addText(text: string, at = T): Truth {
  const truth = new Truth(settings);
  truth.add(Buffer.from(text), at);
  return truth;
}

describe('the window of a sample (I1)', () => {
  it.each([
    ['in its own window', T + 5_000, T + 4_000, T],
    ['first ms of a window', T, T, T],
    ['last ms of a window', T + 9_999, T + 9_999, T],
    ['last ms before late', T + 11_999, T + 9_999, T],
    ['first ms that is late', T + 12_000, T + 9_999, T + 10_000],
    ['late by years', T + 5_000, 0, T],
    ['as far ahead as allowed', T + 9_500, T + 10_500, T + 10_000],
    ['a ms too far ahead', T + 9_500, T + 10_501, T],
    ['before 1970', -1, -1, -10_000],
  ])('%s', (_, at, time, expected) => {
    expect(windowOf({ at, time })).toBe(expected);
  });

  it('rounds nanoseconds down', () => {
    const text = '{"name":"n","type":"counter","value":1,"timestamp":"2026-11-23T01:29:59.999999999Z"}';
    expect([...addText(text, T).rows()][0]!.windowStart).toBe(T - 10_000);
  });

  it('is that of the stream time if there is no timestamp', () => {
    expect(windowOf({ at: T + 3 })).toBe(T);
  });

  it('counts late and ahead', () => {
    const truth = truthOf({ at: T, time: T }, { at: T, time: 0 }, { at: T, time: T + 5_000 });
    expect([truth.late, truth.ahead, truth.messages, truth.rejected]).toEqual([1, 1, 3, 0]);
  });
});

describe('the values of a row', () => {
  it('adds in stream order', () => {
    const values = [0.1, 1e16, -1e16, 0.2];
    const [row] = truthOf(...values.map((value) => ({ at: T, time: T, value }))).rows();
    expect(row!.sum).toBe(0.1 + 1e16 - 1e16 + 0.2);
  });

  it('gauge: last by timestamp, then by stream order', () => {
    const gauge = (value: number, time: number) => ({ at: T + 500, type: 'gauge', value, time });
    const [row] = truthOf(gauge(1, T + 3), gauge(2, T + 9), gauge(3, T + 9), gauge(-4, T + 5)).rows();
    expect(row).toMatchObject({ count: 4, sum: 2, min: -4, max: 3, last: 3 });
  });

  it('has only the fields of the type', () => {
    const [counter] = truthOf({ at: T }).rows();
    expect(counter).toMatchObject({ count: 1, sum: 1, min: null, max: null, last: null });
    const [timer] = truthOf({ at: T, type: 'timer', value: 9 }).rows();
    expect(timer).toMatchObject({ min: 9, max: 9, last: null });
  });
});

describe('the series of a sample', () => {
  it('is the same however its dimensions are spelled', () => {
    const rows = [
      ...truthOf(
        { at: T, dimensions: { a: 200, b: true, c: null } },
        { at: T, dimensions: { b: 'true', a: '200', d: '' } },
      ).rows(),
    ];
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({ count: 2, series: { dimensionsJson: '{"a":"200","b":"true"}' } });
  });

  it.each(['dimensions', 'dims', 'tags', 'labels'])('takes its dimensions from %s', (field) => {
    const [row] = addText(`{"name":"n","type":"counter","value":1,"${field}":{"a":"b"}}`).rows();
    expect(row!.series.dimensionsJson).toBe('{"a":"b"}');
  });
});

describe('messages', () => {
  it('an array holds several samples', () => {
    const sample = '{"name":"n","type":"counter","value":2}';
    const truth = addText(`[${sample},${sample}]`);
    expect([truth.messages, truth.samples.counter]).toEqual([1, 2]);
  });

  it.each([
    'nonsense',
    '1',
    '{"name":"","type":"counter","value":1}',
    '{"name":"n","type":"set","value":1}',
    '{"name":"n","type":"counter","value":"1"}',
    '{"name":"n","type":"counter","value":1e999}',
    '{"name":"n","type":"counter","value":1,"timestamp":"yesterday"}',
    '{"name":"n","type":"counter","value":1,"dimensions":{"a":{}}}',
    '{"name":"n","type":"counter","value":1,"dimensions":{"":1}}',
    '{"name":"n","type":"counter","value":1,"dimensions":["a"]}',
    '{"name":"n","type":"counter","value":1,"dimensions":{},"tags":{}}',
  ])('rejects %s', (text) => {
    const truth = addText(text);
    expect([truth.rejected, [...truth.rows()].length]).toEqual([1, 0]);
  });
});

describe('the file', () => {
  const truth = truthOf(
    { at: T + 10_000, dimensions: { b: 'x"y', a: 200 } },
    { at: T, name: 'ü', type: 'gauge', value: 0.1 + 0.2, time: T },
    { at: T },
    { at: T, name: 'm', type: 'timer', value: 5 },
  );

  it('has one row per window and series, by window, then series id', () => {
    const keys = [...truth.rows()].map(({ windowStart, series }) => `${windowStart} ${series.id}`);
    expect(keys).toEqual(keys.toSorted());
    expect(keys).toHaveLength(4);
  });

  it('reads back as it was written', async () => {
    const rows = [...truth.rows(), ...truth.totals()];
    const lines = rows.map((row) => formatTruthRow(row));
    const read: TruthRow[] = [];
    for await (const row of readTruth(lines)) read.push(row);
    expect(read).toEqual(rows);
  });

  it('looks as documented', () => {
    const [row] = truthOf({ at: T, dimensions: { app: 'api' } }).rows();
    expect(formatTruthRow(row!)).toBe(
      `{"window_start":${T},"window_ms":10000,"series_id":"${row!.series.id}","name":"n","type":"counter",` +
        '"dimensions":{"app":"api"},"count":1,"sum":1,"min":null,"max":null,"last":null}',
    );
  });

  it('is refused if a series does not match its id', async () => {
    const [row] = truth.rows();
    const line = formatTruthRow(row!).replace(row!.series.id, '0'.repeat(32));
    await expect(readTruth([line]).next()).rejects.toThrow('line 1');
  });
});

describe('core mode', () => {
  it('has totals, and no windows', () => {
    const truth = truthOf({ at: null, time: T }, { at: null, time: T + 60_000, value: 4 });
    expect([...truth.rows()]).toEqual([]);
    const [total] = truth.totals();
    expect(total).toMatchObject({ windowStart: null, count: 2, sum: 5 });
    expect(formatTruthRow(total!)).toMatch(/^\{"window_start":null,"window_ms":null,/);
  });
});
